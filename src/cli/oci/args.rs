//! The words of the runtime's command line, as runc and crun have them.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::cli::args::GlobalArgs;
use crate::engine::oci::OciId;
use crate::spec::SignalNumber;

/// `oci` alone: what is called for every step of a container's life is to be ready soon.
#[derive(Debug, Parser)]
#[command(name = "mydocker-oci", disable_help_subcommand = true, disable_version_flag = true, max_term_width = 120)]
#[command(about = "An OCI runtime: containers out of bundles, for engines and by hand")]
pub struct OciCli {
    /// What holds for every command of mydocker.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What the runtime is asked.
    #[command(flatten)]
    pub oci: OciArgs,
}

/// `oci`: containers out of bundles.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker oci run --bundle ./bundle web", disable_version_flag = true)]
pub struct OciArgs {
    /// What holds for every command of the runtime.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Option<OciCommand>,
}

/// What holds for every command of the runtime.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Runtime options")]
pub struct RuntimeArgs {
    /// Where the states of containers are kept [default: <run-dir>/oci]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The file that errors and warnings are written to
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How the log is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Write more into the log
    #[arg(long)]
    pub debug: bool,
    /// Let systemd make the cgroups (there is none: an error)
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes the cgroups
    #[arg(long, value_enum, value_name = "MANAGER", default_value = "cgroupfs")]
    pub cgroup_manager: CgroupManager,
    /// Whether cgroups may be left alone where they cannot be written: true, false, auto
    #[arg(long, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rootless: Option<Rootless>,
    /// Show the version
    #[arg(short = 'v', short_alias = 'V', long)]
    pub version: bool,
}

/// Says how a log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Says who makes cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum CgroupManager {
    #[default]
    Cgroupfs,
    Systemd,
    Disabled,
}

/// Says what a user who is not root may miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum Rootless {
    #[value(alias = "1")]
    True,
    #[value(alias = "0")]
    False,
    Auto,
}

/// The runtime's commands.
#[derive(Debug, Subcommand)]
pub enum OciCommand {
    /// Create a container, up to the moment before its program
    #[command(after_help = "Example: mydocker oci create --bundle ./bundle --pid-file ./pid web")]
    Create(CreateArgs),
    /// Execute the program of a created container
    #[command(after_help = "Example: mydocker oci start web")]
    Start(OneId),
    /// Print the state of a container
    #[command(after_help = "Example: mydocker oci state web")]
    State(OneId),
    /// Send a signal to a container
    #[command(after_help = "Example: mydocker oci kill web TERM")]
    Kill(KillArgs),
    /// Delete a container that has ended
    #[command(after_help = "Example: mydocker oci delete --force web")]
    Delete(DeleteArgs),
}

/// One container.
#[derive(Debug, Args)]
pub struct OneId {
    /// The container
    pub id: OciId,
}

/// `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The container's id
    pub id: OciId,
    /// What it is made of.
    #[command(flatten)]
    pub bundle: BundleArgs,
}

/// What `create` and `run` have in common.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The bundle: a directory with a config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Another file than the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A file for the process id
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The socket that takes the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the program inherits, besides those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Move the root instead of pivoting into it (for a root on a ramdisk)
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container the session keyring of its creator
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Accepted and without effect: the container's process is its creator's child in any case
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The container
    pub id: OciId,
    /// The signal, by name or number
    #[arg(default_value = "TERM")]
    pub signal: SignalNumber,
    /// Send it to all processes of the container
    #[arg(short, long)]
    pub all: bool,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The container
    pub id: OciId,
    /// End it if it runs; no error where it is not there
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub force: bool,
}
