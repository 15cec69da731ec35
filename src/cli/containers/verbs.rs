//! `stop`, `start`, `restart`, `kill`: one request each.

use super::find::{Context, Found};
use super::requests::{each, only};
use crate::cli::args::{ContainerKillArgs, ContainerNames, ContainerStopArgs};
use crate::cli::project::CommandResult;
use crate::cli::report::CliError;
use crate::supervisor::control::protocol::{Command, State};

/// Stops containers. One that does not run is stopped.
pub(super) fn stop(context: Context<'_>, args: &ContainerStopArgs) -> CommandResult {
    let request = |found: &Found| Command::Stop { which: only(found), timeout: args.timeout };
    each(context, &args.containers, |found| Ok(found.is_active().then(|| request(found))))
}

/// Starts containers. One that runs is started.
pub(super) fn start(context: Context<'_>, args: &ContainerNames) -> CommandResult {
    each(context, &args.containers, |found| Ok(Some(Command::Start { which: only(found) })))
}

/// Stops containers and starts them.
pub(super) fn restart(context: Context<'_>, args: &ContainerStopArgs) -> CommandResult {
    each(context, &args.containers, |found| Ok(Some(Command::Restart { which: only(found), timeout: args.timeout })))
}

/// Sends a signal to the first process of containers.
pub(super) fn kill(context: Context<'_>, args: &ContainerKillArgs) -> CommandResult {
    each(context, &args.containers, |found| {
        if found.status.state != State::Running {
            return Err(CliError::NoSuch(format!("container {} is not running", found.status.name)));
        }
        Ok(Some(Command::Kill { which: only(found), signal: args.signal }))
    })
}
