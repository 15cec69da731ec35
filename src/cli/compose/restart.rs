//! `compose restart`.

use std::process::ExitCode;

use super::requests::carry_out_on_existing;
use crate::cli::args::StopArgs;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::cli::report::CliError;
use crate::supervisor::control::protocol::{Command, Selection};

/// Stops services, then starts them.
///
/// # Errors
/// [`CliError`], among them that there are no containers.
pub fn run(context: &ComposeContext<'_>, args: StopArgs) -> CommandResult {
    let project = context.name(&args.services)?;
    let request = Command::Restart { which: Selection::Services(args.services), timeout: args.timeout };
    if carry_out_on_existing(context, &project, request)? {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::NoSuch(format!("project `{project}` has no containers to restart; `up` makes them")))
}
