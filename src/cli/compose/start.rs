//! `compose start`.

use std::process::ExitCode;

use super::requests::carry_out_on_existing;
use crate::cli::args::ServicesArgs;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::cli::report::CliError;
use crate::supervisor::control::protocol::{Command, Selection};

/// Starts containers that exist, dependencies first.
///
/// # Errors
/// [`CliError`], among them that there are no containers.
pub fn run(context: &ComposeContext<'_>, args: ServicesArgs) -> CommandResult {
    let project = context.name(&args.services)?;
    if carry_out_on_existing(context, &project, Command::Start { which: Selection::Services(args.services) })? {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::NoSuch(format!("project `{project}` has no containers to start; `up` makes them")))
}
