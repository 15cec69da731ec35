//! The words of the runtime's command line, as runc and crun have them.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use regex::Regex;

use super::events::Interval;
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
    /// Where the states of containers are kept [default: RUN-DIR/oci]
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
    /// Create a container and execute its program
    #[command(after_help = "Example: mydocker oci run --bundle ./bundle web")]
    Run(RunBundleArgs),
    /// Execute another program in a container
    #[command(after_help = "Example: mydocker oci exec --tty web sh")]
    Exec(Box<ExecInArgs>),
    /// Let a container's processes stand still
    #[command(after_help = "Example: mydocker oci pause web")]
    Pause(OneId),
    /// Let a paused container go on
    #[command(after_help = "Example: mydocker oci resume web")]
    Resume(OneId),
    /// Print what a container uses, and whether it ran out of memory
    #[command(after_help = "Example: mydocker oci events --stats web")]
    Events(EventsArgs),
    /// List a container's processes
    #[command(after_help = "Example: mydocker oci ps --format json web")]
    Ps(PsArgs),
    /// Change a container's limits
    #[command(after_help = "Example: mydocker oci update --memory 67108864 web")]
    Update(Box<UpdateArgs>),
    /// List containers
    #[command(after_help = "Example: mydocker oci list --quiet")]
    List(ListArgs),
    /// Write a config.json to begin with
    #[command(after_help = "Example: mydocker oci spec --bundle ./bundle")]
    Spec(SpecArgs),
    /// Print what this runtime can do
    #[command(after_help = "Example: mydocker oci features")]
    Features,
    /// Not to be had: there is no way to write a container down
    #[command(hide = true, after_help = "Example: mydocker oci checkpoint web")]
    Checkpoint(Anything),
    /// Not to be had
    #[command(hide = true, after_help = "Example: mydocker oci restore web")]
    Restore(Anything),
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
    #[arg(required_unless_present = "regex")]
    pub id: Option<OciId>,
    /// All containers whose ids this regular expression finds something in
    #[arg(long, value_name = "REGEX", conflicts_with = "id")]
    pub regex: Option<Regex>,
    /// End it if it runs; no error where it is not there
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub force: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunBundleArgs {
    /// The container's id
    pub id: OciId,
    /// What it is made of.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// Keep its state when it has ended
    #[arg(long)]
    pub keep: bool,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct ExecInArgs {
    /// The container
    pub id: OciId,
    /// The program and its arguments, unless --process describes it all
    #[arg(value_name = "COMMAND", num_args = 0.., trailing_var_arg = true)]
    pub words: Vec<String>,
    /// A file with the process as config.json describes one
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// A file for the process id
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The socket that takes the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tty: Option<bool>,
    /// Its working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Its user and group, in numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<UserNumbers>,
    /// A supplementary group, in numbers
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',')]
    pub additional_gids: Vec<u32>,
    /// A variable of its environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A capability that it has besides the container's
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// How many descriptors from 3 on the program inherits, besides those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// It can gain no privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// A cgroup below the container's, in some of version 1's hierarchies alone where controllers are named
    #[arg(long, value_name = "[CONTROLLERS:]PATH")]
    pub cgroup: Option<String>,
    /// Add it to a container that is paused
    #[arg(long)]
    pub ignore_paused: bool,
    /// Accepted and without effect
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// A user and a group as numbers: names mean something inside the container only, and whoever calls a runtime has looked them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserNumbers {
    /// The user.
    pub uid: u32,
    /// The group, where one is named.
    pub gid: Option<u32>,
}

impl std::str::FromStr for UserNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // 4294967295 is -1: to the kernel "leave it as it is".
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|number| digits && *number != u32::MAX)
        };
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let wrong = || format!("`{text}` is not UID or UID:GID in numbers from 0 to 4294967294");
        let gid = group.map(|group| number(group).ok_or_else(wrong)).transpose()?;
        Ok(Self { uid: number(user).ok_or_else(wrong)?, gid })
    }
}

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// The container
    pub id: OciId,
    /// Print it once
    #[arg(long)]
    pub stats: bool,
    /// The time between two looks
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: Interval,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// The container
    pub id: OciId,
    /// What is printed: the lines of ps(1), or a list of numbers
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: TableFormat,
    /// What ps(1) is called with
    #[arg(value_name = "OPTION", num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// `update`.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct UpdateArgs {
    /// The container
    pub id: OciId,
    /// A file with the resources as config.json describes them, `-` for standard input; other options do not count then
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    pub resources: Option<PathBuf>,
    /// Relative block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// The period of the CPU quota, microseconds
    #[arg(long, value_name = "N")]
    pub cpu_period: Option<u64>,
    /// CPU time in each period, microseconds
    #[arg(long, value_name = "N")]
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up, microseconds
    #[arg(long, value_name = "N")]
    pub cpu_burst: Option<u64>,
    /// Relative CPU weight
    #[arg(long, value_name = "N")]
    pub cpu_share: Option<u64>,
    /// The period of real-time CPU time, microseconds
    #[arg(long, value_name = "N")]
    pub cpu_rt_period: Option<u64>,
    /// Real-time CPU time in each period, microseconds
    #[arg(long, value_name = "N")]
    pub cpu_rt_runtime: Option<i64>,
    /// 1: run only where nobody else wants to
    #[arg(long, value_name = "N")]
    pub cpu_idle: Option<i64>,
    /// Processors
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// NUMA nodes
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Bytes of memory
    #[arg(long, value_name = "N")]
    pub memory: Option<i64>,
    /// Bytes of memory below which little is taken away
    #[arg(long, value_name = "N")]
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap; -1 for as much as there is
    #[arg(long, value_name = "N")]
    pub memory_swap: Option<i64>,
    /// Bytes of kernel memory (of no effect on kernels since 5.16)
    #[arg(long, value_name = "N", hide = true)]
    pub kernel_memory: Option<i64>,
    /// Bytes of kernel memory for TCP
    #[arg(long, value_name = "N", hide = true)]
    pub kernel_memory_tcp: Option<i64>,
    /// Processes; -1 for no limit
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<i64>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What is printed
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: TableFormat,
    /// Print the ids only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Says how a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum TableFormat {
    Table,
    Json,
}

/// `spec`.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Another file than the bundle's config.json
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// For a user who is not root
    #[arg(long)]
    pub rootless: bool,
}

/// What is refused, whatever it says.
#[derive(Debug, Args)]
pub struct Anything {
    /// Not looked at.
    #[arg(num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<OciCommand, clap::Error> {
        let words = std::iter::once("mydocker-oci").chain(line.split_whitespace());
        OciCli::try_parse_from(words).map(|cli| cli.oci.command.unwrap())
    }

    #[test]
    fn options_stand_before_and_after_the_id() {
        for line in [
            "--root /r create --bundle /b --pid-file p --preserve-fds 2 web",
            "--root=/r create web -b /b --pid-file=p --preserve-fds=2",
        ] {
            let Ok(OciCommand::Create(args)) = parse(line) else { panic!("{line}") };
            assert_eq!((args.id.as_str(), args.bundle.bundle.to_str()), ("web", Some("/b")), "{line}");
            assert_eq!((args.bundle.pid_file, args.bundle.preserve_fds), (Some("p".into()), 2), "{line}");
        }
        for line in ["kill -a web 9", "kill web SIGKILL --all", "kill web kill -a"] {
            let Ok(OciCommand::Kill(args)) = parse(line) else { panic!("{line}") };
            assert!(args.all && args.signal == SignalNumber::KILL, "{line}");
        }
    }

    #[test]
    fn what_follows_the_command_is_the_command_s() {
        for line in ["exec -t web ls -l --env x", "exec web -t -- ls -l --env x", "exec web --tty=true ls -l --env x"] {
            let Ok(OciCommand::Exec(args)) = parse(line) else { panic!("{line}") };
            assert_eq!((args.tty, args.words.join(" ")), (Some(true), "ls -l --env x".to_owned()), "{line}");
        }
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!("7:8".parse(), Ok(UserNumbers { uid: 7, gid: Some(8) }));
        assert_eq!("7".parse(), Ok(UserNumbers { uid: 7, gid: None }));
        for bad in ["", "1000x", "+1", "-1", "4294967295", "1:", ":1", "1:2:3", "99999999999"] {
            assert!(bad.parse::<UserNumbers>().is_err(), "{bad}");
        }
    }
}
