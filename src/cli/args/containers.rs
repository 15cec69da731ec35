use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::compose::{TailCount, seconds};
use crate::spec::SignalNumber;

/// The commands on containers by name.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// List containers
    Ps(ContainerListArgs),
    /// Show the output of a container
    Logs(ContainerLogsArgs),
    /// Run a command in a running container
    Exec(ContainerExecArgs),
    /// Stop containers
    Stop(ContainerStopArgs),
    /// Start containers that ended
    Start(ContainerNames),
    /// Restart containers
    Restart(ContainerStopArgs),
    /// Send a signal to containers
    Kill(ContainerKillArgs),
    /// Remove containers
    Rm(ContainerRemoveArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(ContainerNames),
    /// Show all that is known of containers
    Inspect(ContainerInspectArgs),
    /// Show what containers use of CPU and memory
    Stats(ContainerStatsArgs),
    /// Show the processes of a container
    Top(ContainerTopArgs),
    /// Print where ports of a container are published
    Port(ContainerPortArgs),
}

/// `ps`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: mydocker ps -a --filter status=exited --format '{{.ID}} {{.Names}}'")]
pub struct ContainerListArgs {
    /// Show those that ended, too
    #[arg(short, long)]
    pub all: bool,
    /// Show ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Show ids and commands in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Show those alone of which this holds: id, name, label, status, exited, health, network, ancestor
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// `table`, `json`, or a template: '{{.ID}} {{.Names}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

/// `logs`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Example: mydocker logs -f --tail 20 web")]
pub struct ContainerLogsArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "NUM", default_value = "all", allow_hyphen_values = true)]
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
}

/// `exec`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker exec -it web sh")]
pub struct ContainerExecArgs {
    /// The container, the program and its arguments.
    // One list, so that what follows the container's name is never taken for an option of ours.
    #[arg(value_names = ["CONTAINER", "COMMAND"], required = true, num_args = 1.., trailing_var_arg = true)]
    pub words: Vec<String>,
    /// Return when the command is started
    #[arg(short, long)]
    pub detach: bool,
    /// Set a variable; without `=`: as it is here
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Pass stdin on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Run as this user
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// With all capabilities
    #[arg(long)]
    pub privileged: bool,
}

/// `stop` and `restart`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker stop -t 3 web")]
pub struct ContainerStopArgs {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// Seconds to wait before a container is killed
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// `start`, `wait` and whatever takes nothing but containers.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker start web; mydocker wait web")]
pub struct ContainerNames {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker kill -s HUP web")]
pub struct ContainerKillArgs {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    pub signal: SignalNumber,
}

/// `rm`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker rm -f web")]
pub struct ContainerRemoveArgs {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// Kill those that run; none is no error
    #[arg(short, long)]
    pub force: bool,
    /// Remove their volumes without a name, too
    #[arg(short, long)]
    pub volumes: bool,
}

/// `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker inspect -f '{{.State.Status}}' web")]
pub struct ContainerInspectArgs {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// `json`, or a template: '{{.State.Pid}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    pub format: String,
}

/// `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker stats --no-stream web")]
pub struct ContainerStatsArgs {
    /// Containers [default: all that run]
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
    /// Show those that do not run, too
    #[arg(short, long)]
    pub all: bool,
    /// Show one table and end
    #[arg(long)]
    pub no_stream: bool,
    /// Show ids in full
    #[arg(long)]
    pub no_trunc: bool,
    /// `table`, `json`, or a template: '{{.Name}} {{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

/// `top`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker top web -o pid,comm")]
pub struct ContainerTopArgs {
    /// The container, and options of ps(1).
    // One list, so that what follows the container's name is never taken for an option of ours.
    #[arg(value_names = ["CONTAINER", "PS-OPTION"], required = true, num_args = 1.., trailing_var_arg = true)]
    pub words: Vec<String>,
}

/// `port`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker port web 80/tcp")]
pub struct ContainerPortArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// The container's port: 80, 53/udp [default: all]
    #[arg(value_name = "PORT")]
    pub port: Option<String>,
}
