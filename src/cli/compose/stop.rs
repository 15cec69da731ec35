//! `compose stop`.

use std::process::ExitCode;

use super::requests::carry_out_on_existing;
use crate::cli::args::StopArgs;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::supervisor::control::protocol::{Command, Selection};

/// Stops services, dependants first. That nothing runs is as good.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(context: &ComposeContext<'_>, args: StopArgs) -> CommandResult {
    let project = context.name(&args.services)?;
    let request = Command::Stop { which: Selection::Services(args.services), timeout: args.timeout };
    carry_out_on_existing(context, &project, request)?;
    Ok(ExitCode::SUCCESS)
}
