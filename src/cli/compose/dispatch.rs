//! `compose`: one file a command.

use std::process::ExitCode;

use crate::cli::args::{ComposeArgs, ComposeCommand, UsageError};
use crate::cli::commands::version;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::cli::style::Palette;

/// Runs a command on a project.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ComposeArgs, _settings: &Settings, _palette: Palette) -> Result<ExitCode, CliError> {
    match args.command {
        ComposeCommand::Version(version) => version::run(&version),
        _ => Err(UsageError::new("this command is not built yet").into()),
    }
}
