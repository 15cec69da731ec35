//! `compose down`.

use std::process::ExitCode;

use super::requests::carry_out;
use crate::cli::args::DownArgs;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::supervisor::control::protocol::{Command, Down};

/// Stops and removes a project's containers and networks. A project that has none is down.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(context: &ComposeContext<'_>, args: DownArgs) -> CommandResult {
    let project = context.name(&args.services)?;
    let DownArgs { services, volumes, remove_orphans, timeout } = args;
    let everything = services.is_empty();
    let request = Down { volumes, remove_orphans, timeout, services };
    let connector = context.connector(&project);
    // The keeper holds the project lock until it ends.
    let running = connector.lock_file();
    carry_out(context, &project, Command::Down(request))?;
    if everything {
        connector.see_off(running);
    }
    Ok(ExitCode::SUCCESS)
}
