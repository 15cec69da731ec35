use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{CniArgs, ComposeArgs, ContainerCommand, ExplainArgs, NetworkArgs, RunArgs, VersionArgs};
use crate::cli::legacy::HELP as ANCESTOR_HELP;
use crate::cli::oci::args::OciArgs;

/// A daemonless container engine and compose supervisor.
#[derive(Debug, Parser)]
#[command(name = "mydocker", version, max_term_width = 120, subcommand_required = true, disable_help_subcommand = true)]
#[command(after_help = ANCESTOR_HELP)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the services of a compose file
    Compose(Box<ComposeArgs>),
    /// Run a command in a new container
    Run(Box<RunArgs>),
    /// On containers by name.
    #[command(flatten)]
    Container(ContainerCommand),
    /// Tell how a container is launched, step by step
    Explain(Box<ExplainArgs>),
    /// Networks by hand
    Network(NetworkArgs),
    /// Run CNI plugins by hand
    Cni(CniArgs),
    /// Be an OCI runtime: containers out of bundles
    Oci(Box<OciArgs>),
    /// Show the version
    #[command(after_help = "Example: mydocker version --short")]
    Version(VersionArgs),
}

/// `run` alone, as [`Cli`] has it: with a small part of the options to make ready, a container begins a moment earlier.
#[derive(Debug, Parser)]
#[command(name = "mydocker", disable_help_flag = true, disable_help_subcommand = true)]
pub(super) struct RunCli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: OnlyRun,
}

#[derive(Debug, Subcommand)]
enum OnlyRun {
    Run(Box<RunArgs>),
}

impl From<RunCli> for Cli {
    fn from(RunCli { global, command: OnlyRun::Run(args) }: RunCli) -> Self {
        Self { global, command: Command::Run(args) }
    }
}

/// What holds for every command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Sockets, locks and records of what runs [env: MYDOCKER_RUN_DIR] [default: /run/mydocker]
    #[arg(long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Volumes, logs and writable layers [env: MYDOCKER_DATA_DIR] [default: /var/lib/mydocker]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The cgroup all of ours lie in, from each hierarchy's mount root [env: MYDOCKER_CGROUP_PARENT] [default: /mydocker]
    #[arg(long, global = true, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// The root filesystem that `image: root_fs` means; in `run`: instead of IMAGE [env: MYDOCKER_ROOTFS]
    #[arg(long, global = true, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Who makes the firewall's rules: auto, iptables, nftables, none [env: MYDOCKER_FIREWALL] [default: auto]
    #[arg(long, global = true, value_enum, value_name = "BACKEND", hide_possible_values = true)]
    pub firewall: Option<Firewall>,
    /// Where CNI configurations are looked for before /etc/cni/net.d [env: MYDOCKER_CNI_CONF_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are looked for [env: CNI_PATH] [default: /opt/cni/bin:/usr/lib/cni]
    #[arg(long, global = true, value_name = "DIR:DIR")]
    pub cni_path: Option<String>,
    /// How much mydocker tells of its own work, on stderr [env: MYDOCKER_LOG_LEVEL] [default: warn]
    #[arg(long, global = true, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    pub log_level: Option<LogLevel>,
}

/// Who makes the firewall's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum Firewall {
    Auto,
    Iptables,
    Nftables,
    None,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// Returns the word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
