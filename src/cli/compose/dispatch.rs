//! `compose`: from the options to the command's file.

use super::{config, down, exec, kill, logs, port, ps, restart, start, stop, up};
use crate::cli::args::{ComposeArgs, ComposeCommand};
use crate::cli::commands::version;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::cli::settings::Settings;
use crate::cli::style::Palette;

/// Runs a command on a project.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(args: ComposeArgs, settings: &Settings, palette: Palette) -> CommandResult {
    if let ComposeCommand::Version(version) = &args.command {
        return version::run(version);
    }
    let context = ComposeContext::new(&args, settings, palette)?;
    match args.command {
        ComposeCommand::Up(args) => up::run(&context, args),
        ComposeCommand::Down(args) => down::run(&context, args),
        ComposeCommand::Ps(args) => ps::run(&context, &args),
        ComposeCommand::Logs(args) => logs::run(&context, &args),
        ComposeCommand::Stop(args) => stop::run(&context, args),
        ComposeCommand::Start(args) => start::run(&context, args),
        ComposeCommand::Restart(args) => restart::run(&context, args),
        ComposeCommand::Exec(args) => exec::run(&context, args),
        ComposeCommand::Kill(args) => kill::run(&context, args),
        ComposeCommand::Port(args) => port::run(&context, &args),
        ComposeCommand::Config(args) => config::run(&context, &args),
        ComposeCommand::Version(args) => version::run(&args),
    }
}
