//! `version`, `compose version`.

use std::process::ExitCode;

use crate::cli::args::VersionArgs;
use crate::cli::report::{CliError, print};

/// Prints the version.
///
/// # Errors
/// [`CliError::Output`].
pub fn run(args: &VersionArgs) -> Result<ExitCode, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match (args.short, args.format.as_str()) {
        (true, _) => format!("{version}\n"),
        (false, "json") => format!("{}\n", serde_json::json!({ "version": version })),
        (false, _) => format!("mydocker {version}\n"),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
