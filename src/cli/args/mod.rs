#![doc = include_str!("README.md")]

mod compose;
mod containers;
mod explain;
mod global;
mod network;
mod run;
mod usage;

pub use compose::{
    AnsiMode, ComposeArgs, ComposeCommand, ConfigArgs, ConfigFormat, DownArgs, ExecArgs, KillArgs, LogsArgs, Policy,
    PortArgs, ProgressMode, ProjectArgs, PsArgs, PsFormat, ServicesArgs, StopArgs, TailCount, UpArgs, VersionArgs,
};
pub use containers::{
    ContainerCommand, ContainerExecArgs, ContainerInspectArgs, ContainerKillArgs, ContainerListArgs, ContainerLogsArgs,
    ContainerNames, ContainerPortArgs, ContainerRemoveArgs, ContainerStatsArgs, ContainerStopArgs, ContainerTopArgs,
};
pub use explain::{ExplainArgs, ExplainBundleArgs, ExplainCommand, ExplainFormat, ExplainServiceArgs};
pub use global::{Cli, Command, Firewall, GlobalArgs, LogLevel};
pub use network::{
    AttachArgs, CniAddArgs, CniArgs, CniCommand, CniList, CniTarget, NetworkArgs, NetworkCheckArgs, NetworkCommand,
    NetworkCreateArgs, NetworkListArgs, NetworkNames, PoolArgs,
};
pub use run::{AncestorLimits, PullPolicy, RunArgs, RunOptions};
pub(in crate::cli) use usage::{Meant, shown, usage_error};
pub use usage::{Parsed, UsageError, parse};
