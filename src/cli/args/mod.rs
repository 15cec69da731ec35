#![doc = include_str!("README.md")]

mod compose;
mod global;
mod run;
mod usage;

pub use compose::{
    AnsiMode, ComposeArgs, ComposeCommand, ConfigArgs, ConfigFormat, DownArgs, ExecArgs, KillArgs, LogsArgs,
    ProgressMode, PsArgs, PsFormat, ServicesArgs, StopArgs, TailCount, UpArgs, VersionArgs,
};
pub use global::{Cli, Command, Firewall, GlobalArgs, LogLevel};
pub use run::{AncestorLimits, PullPolicy, RunArgs, RunOptions};
pub(in crate::cli) use usage::{Meant, shown, usage_error};
pub use usage::{Parsed, UsageError, parse};
