//! `run` and the ancestor's form.

use std::process::ExitCode;

use crate::cli::args::{RunArgs, UsageError};
use crate::cli::exit::Family;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;

/// Runs a command in a new container.
///
/// # Errors
/// [`CliError`].
pub fn run(_args: RunArgs, _settings: &Settings) -> Result<ExitCode, CliError> {
    Err(UsageError::new("`run` is not built yet").of(Family::Container).into())
}
