use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

use crate::spec::SignalNumber;

/// `compose`: a project and what is to be done with it.
#[derive(Debug, Args)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
#[command(after_help = "Example: mydocker compose -f compose.yaml up -d")]
pub struct ComposeArgs {
    /// Which project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub progress: ProgressMode,
    /// When to colour and to move the cursor
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub ansi: AnsiMode,
    /// The command.
    #[command(subcommand)]
    pub command: ComposeCommand,
}

/// What names a project: its files, or its name.
#[derive(Debug, Clone, Default, Args)]
pub struct ProjectArgs {
    /// Compose file, more than once to merge; `-` is standard input [env: COMPOSE_FILE]
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Project name [env: COMPOSE_PROJECT_NAME]
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Directory that relative paths start from [default: that of the first file]
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// Activate a profile, more than once for several [env: COMPOSE_PROFILES]
    #[arg(long = "profile", value_name = "NAME")]
    pub profiles: Vec<String>,
    /// File with variables, instead of `.env`
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Live rows on a terminal, else lines.
    #[default]
    Auto,
    /// Live rows.
    Tty,
    /// Lines.
    Plain,
    /// Nothing.
    Quiet,
}

/// When to colour and to move the cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum AnsiMode {
    /// On a terminal, without NO_COLOR.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always.
    Always,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum ComposeCommand {
    /// Create and start containers
    Up(UpArgs),
    /// Stop and remove containers and networks
    Down(DownArgs),
    /// List containers
    Ps(PsArgs),
    /// Show the output of containers
    Logs(LogsArgs),
    /// Stop services
    Stop(StopArgs),
    /// Start services
    Start(ServicesArgs),
    /// Restart services
    Restart(StopArgs),
    /// Run a command in a running container
    Exec(ExecArgs),
    /// Send a signal to containers
    Kill(KillArgs),
    /// Print where a port of a service is published
    Port(PortArgs),
    /// Check the file and print it as it is understood
    Config(ConfigArgs),
    /// Show the version
    Version(VersionArgs),
}

/// `compose up`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: mydocker compose up -d --scale worker=3")]
pub struct UpArgs {
    /// Services, with all they depend on [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Leave the services running and return
    #[arg(short, long)]
    pub detach: bool,
    /// Make containers and networks but start nothing
    #[arg(long, conflicts_with_all = ["wait", "abort_on_container_exit"])]
    pub no_start: bool,
    /// Replace containers even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    pub force_recreate: bool,
    /// Keep containers even if their configuration changed
    #[arg(long)]
    pub no_recreate: bool,
    /// Remove containers of services that the file does not have
    #[arg(long)]
    pub remove_orphans: bool,
    /// Seconds to wait before a container is killed
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Number of containers of a service
    #[arg(long, value_name = "SERVICE=NUM", value_parser = scale)]
    pub scale: Vec<(String, u32)>,
    /// Show output without the service's name before it
    #[arg(long)]
    pub no_log_prefix: bool,
    /// Show output in one colour
    #[arg(long)]
    pub no_color: bool,
    /// Show when each line was written
    #[arg(long)]
    pub timestamps: bool,
    /// Wait until services run or are healthy; implies -d
    #[arg(long)]
    pub wait: bool,
    /// Stop all when one container ends
    #[arg(long, conflicts_with = "detach")]
    pub abort_on_container_exit: bool,
    /// Exit with the status of this service; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub exit_code_from: Option<String>,
    /// What happens when a service can take over this host [env: MYDOCKER_POLICY] [default: warn]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub policy: Option<Policy>,
}

/// What happens when a service can take over the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// It is told.
    Warn,
    /// It is refused.
    Strict,
}

/// `compose down`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose down --volumes")]
pub struct DownArgs {
    /// Services [default: the whole project, with its networks]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Remove the named volumes that the file declares, too
    #[arg(short, long)]
    pub volumes: bool,
    /// Remove containers of services that the file does not have
    #[arg(long)]
    pub remove_orphans: bool,
    /// Seconds to wait before a container is killed
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// `compose ps`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: mydocker compose ps -a --format json")]
pub struct PsArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub service_names: Vec<String>,
    /// Show those that ended, too
    #[arg(short, long)]
    pub all: bool,
    /// Show ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Show names of services only
    #[arg(long)]
    pub services: bool,
    /// Table, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: PsFormat,
}

/// How `ps` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PsFormat {
    /// Columns.
    #[default]
    Table,
    /// One object a line.
    Json,
}

/// `compose logs`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: mydocker compose logs -f --tail 20 web")]
pub struct LogsArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Lines from the end of each container's output, or `all`
    #[arg(short = 'n', long, value_name = "NUM", default_value = "all")]
    pub tail: TailCount,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// From when: 2026-01-02T03:04:05Z, or how long ago: 10m
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until when: 2026-01-02T03:04:05Z, or how long ago: 10m
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Without the service's name before each line
    #[arg(long)]
    pub no_log_prefix: bool,
    /// In one colour
    #[arg(long)]
    pub no_color: bool,
}

/// How many lines from the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TailCount {
    /// All there are.
    #[default]
    All,
    /// So many.
    Lines(u64),
}

impl FromStr for TailCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" | "-1" => Ok(Self::All),
            number => number.parse().map(Self::Lines).map_err(|_| "expected a number or `all`".into()),
        }
    }
}

/// `compose stop` and `compose restart`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose stop -t 3 web\n         mydocker compose restart web")]
pub struct StopArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Seconds to wait before a container is killed
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// `compose start`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose start web")]
pub struct ServicesArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// `compose exec`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose exec web sh")]
pub struct ExecArgs {
    /// The service, the program and its arguments.
    // One list, so that what follows the service's name is never taken for an option of ours.
    #[arg(value_names = ["SERVICE", "COMMAND"], required = true, num_args = 1.., trailing_var_arg = true)]
    pub words: Vec<String>,
    /// Return when the command is started
    #[arg(short, long)]
    pub detach: bool,
    /// Set a variable; without `=`: as it is here
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// No terminal [default: one where stdin and stdout are terminals]
    #[arg(short = 'T', long)]
    pub no_tty: bool,
    /// A terminal, and stdin kept open: they are the default
    #[arg(short = 't', long, hide = true, conflicts_with = "no_tty")]
    pub tty: bool,
    /// As `docker exec`; the default
    #[arg(short, long, hide = true)]
    pub interactive: bool,
    /// Which of the service's containers, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub index: u32,
    /// With all capabilities
    #[arg(long)]
    pub privileged: bool,
}

/// `compose kill`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose kill -s HUP web")]
pub struct KillArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    pub signal: SignalNumber,
}

/// `compose port`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose port --protocol udp dns 53")]
pub struct PortArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The container's port
    #[arg(value_name = "PRIVATE_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// tcp or udp
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp", value_parser = ["tcp", "udp"])]
    pub protocol: String,
    /// Which of the service's containers, from 1 [default: the first that there is]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub index: Option<u32>,
}

/// `compose config`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: mydocker compose config --format json")]
pub struct ConfigArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub service_names: Vec<String>,
    /// YAML or JSON; with --risks lines or JSON
    #[arg(long, value_enum, default_value_t)]
    pub format: ConfigFormat,
    /// Check only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the names of services
    #[arg(long, group = "what")]
    pub services: bool,
    /// Print the names of volumes
    #[arg(long, group = "what")]
    pub volumes: bool,
    /// Print the names of networks
    #[arg(long, group = "what")]
    pub networks: bool,
    /// Print the names of images
    #[arg(long, group = "what")]
    pub images: bool,
    /// Print the names of profiles
    #[arg(long, group = "what")]
    pub profiles: bool,
    /// Print the configuration hash of a service; `*` for all
    #[arg(long, group = "what", value_name = "SERVICE")]
    pub hash: Option<String>,
    /// Print the variables that the files use
    #[arg(long, group = "what")]
    pub variables: bool,
    /// Print the variables that the files may use, with their values
    #[arg(long, group = "what")]
    pub environment: bool,
    /// Print what the services can do to this host, and what to write instead
    #[arg(long, group = "what", conflicts_with_all = ["no_interpolate", "no_normalize", "no_path_resolution"])]
    pub risks: bool,
    /// Refuse a file with a service that can take over this host [env: MYDOCKER_POLICY] [default: warn]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub policy: Option<Policy>,
    /// Leave variables as they are written
    #[arg(long)]
    pub no_interpolate: bool,
    /// Fill nothing in
    #[arg(long)]
    pub no_normalize: bool,
    /// Leave relative paths as they are written
    #[arg(long)]
    pub no_path_resolution: bool,
    /// Do not look whether what is named is there
    #[arg(long)]
    pub no_consistency: bool,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How `config` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum ConfigFormat {
    #[default]
    Yaml,
    Json,
}

/// `version` and `compose version`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker compose version --short")]
pub struct VersionArgs {
    /// The number only
    #[arg(long, action = ArgAction::SetTrue)]
    pub short: bool,
    /// `pretty` or `json`
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty", value_parser = ["pretty", "json"])]
    pub format: String,
}

/// A container takes an address of a /24 at least; more than this is a slip of the finger.
const MAX_SCALE: u32 = 4096;

fn scale(text: &str) -> Result<(String, u32), String> {
    let (service, number) = text.split_once('=').ok_or("expected SERVICE=NUM")?;
    let number = number.parse().map_err(|_| format!("`{number}` is not a number of containers"))?;
    if number > MAX_SCALE {
        return Err(format!("at most {MAX_SCALE} containers"));
    }
    Ok((service.to_owned(), number))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<u32>()
        .map(|seconds| Duration::from_secs(seconds.into()))
        .map_err(|_| "expected a whole number of seconds".into())
}
