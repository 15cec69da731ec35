//! `start`, `state`, `kill`, `delete`, `pause` and `resume`: one call into the engine each.

use std::process::ExitCode;

use super::Context;
use super::args::{DeleteArgs, KillArgs, OneId};
use crate::cli::report::{self, CliError};
use crate::engine::oci::{self, OciError, OciId};

/// Starts a created container.
pub(super) fn start(args: &OneId, context: &Context<'_>) -> Result<ExitCode, CliError> {
    context.warn(&oci::start(&context.runtime, &args.id)?);
    Ok(ExitCode::SUCCESS)
}

/// Prints a container's state.
pub(super) fn state(args: &OneId, context: &Context<'_>) -> Result<ExitCode, CliError> {
    print_json(&context.runtime.state(&args.id)?)
}

/// Sends a signal.
pub(super) fn kill(args: &KillArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    oci::kill(&context.runtime, &args.id, args.signal, args.all)?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes a container, or all that a pattern finds.
pub(super) fn delete(args: &DeleteArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let mut ids: Vec<OciId> = args.id.iter().cloned().collect();
    if let Some(regex) = &args.regex {
        let listing = context.runtime.root.list()?;
        context.warn(&listing.warnings);
        let all = listing.containers.iter().map(|container| container.id());
        ids.extend(all.filter(|id| regex.is_match(id.as_str())).cloned());
    }
    // One that cannot be deleted saves none of the others.
    let mut first = Ok(ExitCode::SUCCESS);
    for id in &ids {
        match oci::delete(&context.runtime, id, args.force) {
            Ok(warnings) => warnings.iter().for_each(|warning| context.log.left_over(warning)),
            Err(error) if first.is_ok() => first = Err(error.into()),
            Err(error) => context.log.left_over(&error.line()),
        }
    }
    first
}

/// Freezes a container.
pub(super) fn pause(args: &OneId, context: &Context<'_>) -> Result<ExitCode, CliError> {
    oci::pause(&context.runtime, &args.id)?;
    Ok(ExitCode::SUCCESS)
}

/// Thaws a container.
pub(super) fn resume(args: &OneId, context: &Context<'_>) -> Result<ExitCode, CliError> {
    oci::resume(&context.runtime, &args.id)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value for programs, and people who look over their shoulders.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, CliError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|source| OciError::Json { path: "the answer".into(), source })?;
    report::print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}
