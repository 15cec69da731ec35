//! `compose kill`.

use std::process::ExitCode;

use super::requests::carry_out_on_existing;
use crate::cli::args::KillArgs;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::supervisor::control::protocol::{Command, Selection};

/// Sends a signal to the first process of running containers. That nothing runs is as good.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(context: &ComposeContext<'_>, args: KillArgs) -> CommandResult {
    let project = context.name(&args.services)?;
    let request = Command::Kill { which: Selection::Services(args.services), signal: args.signal };
    carry_out_on_existing(context, &project, request)?;
    Ok(ExitCode::SUCCESS)
}
