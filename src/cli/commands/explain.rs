#![doc = include_str!("explain/README.md")]

mod text;

use std::env;
use std::io;
use std::process::ExitCode;

use crate::cli::args::{AnsiMode, ExplainArgs, ExplainCommand, ExplainFormat, ExplainServiceArgs};
use crate::cli::exit::Family;
use crate::cli::project::ComposeContext;
use crate::cli::report::{CliError, print, warn};
use crate::cli::settings::Settings;
use crate::cli::style::Palette;
use crate::cli::{compose, oci};
use crate::engine::explain::LaunchExplanation;
use crate::supervisor;

/// Tells what a launch would do.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub fn run(args: ExplainArgs, settings: &Settings, palette: Palette) -> Result<ExitCode, CliError> {
    let explanation = match args.command {
        ExplainCommand::Run(args) => super::run::explain(*args, settings)?,
        ExplainCommand::Compose(args) => service(&args, settings, palette)?,
        ExplainCommand::Oci(args) => oci::explain(&args, settings)?,
    };
    explanation.warnings.iter().for_each(|warning| warn(warning, palette));
    print(&written(&explanation, args.format))?;
    Ok(ExitCode::SUCCESS)
}

/// Explains the first container of a service.
fn service(args: &ExplainServiceArgs, settings: &Settings, palette: Palette) -> Result<LaunchExplanation, CliError> {
    let context = ComposeContext::of(&args.project, settings, palette)?;
    let up = compose::up::request_for(&context, &args.service).map_err(|error| match error {
        CliError::Usage(error) => error.of(Family::Container).into(),
        other => other,
    })?;
    Ok(supervisor::explain(&up, &args.service, &settings.directories, &settings.cgroup_parent)?)
}

fn written(explanation: &LaunchExplanation, format: ExplainFormat) -> String {
    match format {
        // No field of it has a form that JSON lacks.
        ExplainFormat::Json => serde_json::to_string_pretty(explanation).unwrap_or_default() + "\n",
        ExplainFormat::Text => {
            let palette = Palette::for_stream(&io::stdout(), AnsiMode::Auto, |name| env::var_os(name));
            text::render(explanation, width(), palette)
        }
    }
}

/// As wide as the terminal, within what can be read well.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { 100 } else { columns.clamp(80, 120) }
}
