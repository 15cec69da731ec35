//! `create`.

use std::process::ExitCode;

use super::Context;
use super::args::CreateArgs;
use crate::cli::report::CliError;
use crate::engine::oci::{Bundle, CreateJob, TerminalTaker, create};

/// Creates a container.
pub(super) fn run(args: &CreateArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let bundle = Bundle::read(&args.bundle.bundle, args.bundle.config.as_deref())?;
    let socket = args.bundle.console_socket.as_deref();
    let job = CreateJob {
        id: &args.id,
        bundle: &bundle,
        pid_file: args.bundle.pid_file.as_deref(),
        terminal: socket.map_or(TerminalTaker::Nobody, TerminalTaker::Socket),
        preserved: context.inherited,
        die_with_parent: false,
    };
    let created = create(&context.runtime, &job)?;
    context.warn(&created.warnings);
    Ok(ExitCode::SUCCESS)
}
