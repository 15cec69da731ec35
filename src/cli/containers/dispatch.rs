//! From the words of a command to the command's file.

use super::find::Context;
use super::{exec, inspect, logs, port, ps, rm, stats, top, verbs, wait};
use crate::cli::args::ContainerCommand;
use crate::cli::exit::Family;
use crate::cli::project::CommandResult;
use crate::cli::settings::Settings;
use crate::cli::style::Palette;

/// Says which exit codes a command has.
pub(in crate::cli) fn family(command: &ContainerCommand) -> Family {
    match command {
        ContainerCommand::Exec(_) => Family::Container,
        _ => Family::Plain,
    }
}

/// Runs a command.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub(in crate::cli) fn run(command: ContainerCommand, settings: &Settings, palette: Palette) -> CommandResult {
    let context = Context { settings, palette };
    match command {
        ContainerCommand::Ps(args) => ps::run(context, &args),
        ContainerCommand::Logs(args) => logs::run(context, &args),
        ContainerCommand::Exec(args) => exec::run(context, args),
        ContainerCommand::Stop(args) => verbs::stop(context, &args),
        ContainerCommand::Start(args) => verbs::start(context, &args),
        ContainerCommand::Restart(args) => verbs::restart(context, &args),
        ContainerCommand::Kill(args) => verbs::kill(context, &args),
        ContainerCommand::Rm(args) => rm::run(context, &args),
        ContainerCommand::Wait(args) => wait::run(context, &args),
        ContainerCommand::Inspect(args) => inspect::run(context, &args),
        ContainerCommand::Stats(args) => stats::run(context, &args),
        ContainerCommand::Top(args) => top::run(context, &args),
        ContainerCommand::Port(args) => port::run(context, &args),
    }
}
