#![doc = include_str!("explain/README.md")]

mod run;
mod text;
mod times;

use std::env;
use std::io;
use std::process::ExitCode;

pub(in crate::cli) use self::run::{Run, Told};
use crate::cli::args::{AnsiMode, ExplainArgs, ExplainCommand, ExplainFormat, ExplainServiceArgs};
use crate::cli::exit::{self, Family};
use crate::cli::project::ComposeContext;
use crate::cli::report::{CliError, print, warn};
use crate::cli::settings::Settings;
use crate::cli::style::Palette;
use crate::cli::{compose, oci};
use crate::engine::explain::LaunchExplanation;
use crate::supervisor;

/// Tells what a launch would do; with `--run` does it, and tells how long everything took.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub fn run(args: ExplainArgs, settings: &Settings, palette: Palette) -> Result<ExitCode, CliError> {
    let format = args.format;
    let run = args.run.then(|| Run::begin(palette)).transpose()?;
    let told = tell(args, settings, palette, run.as_ref());
    let run = run.map(Run::end).transpose()?;
    let Told { mut explanation, outcome } = told?;
    let (Some(watch), Some(outcome)) = (run, outcome) else {
        explanation.warnings.iter().for_each(|warning| warn(warning, palette));
        print(&written(&explanation, format))?;
        return Ok(ExitCode::SUCCESS);
    };
    let code = match &outcome {
        // Nobody saw how it ended: that is our failure, not a status of the command's.
        Ok(status) => status.code().map_or(exit::OURS, |code| u8::try_from(code).unwrap_or(exit::FAILED)),
        Err(error) => error.code(Family::Container),
    };
    explanation.measure(&watch, code);
    let printed = print(&written(&explanation, format));
    outcome.map(|_| ())?;
    printed.map(|()| ExitCode::from(code))
}

fn tell(args: ExplainArgs, settings: &Settings, palette: Palette, run: Option<&Run>) -> Result<Told, CliError> {
    match args.command {
        ExplainCommand::Run(args) => super::run::explain(*args, settings, run),
        ExplainCommand::Compose(args) => service(&args, settings, palette, run),
        ExplainCommand::Oci(args) => oci::explain(&args, settings, run),
    }
}

/// Explains the first container of a service; with `run`, one of its own that runs besides.
fn service(
    args: &ExplainServiceArgs,
    settings: &Settings,
    palette: Palette,
    run: Option<&Run>,
) -> Result<Told, CliError> {
    let context = ComposeContext::of(&args.project, settings, palette)?;
    let up = compose::up::request_for(&context, &args.service).map_err(|error| match error {
        CliError::Usage(error) => error.of(Family::Container).into(),
        other => other,
    })?;
    match run {
        Some(run) => {
            let one_off = supervisor::one_off(&up, &args.service, &settings.directories)?;
            super::run::explain_one_off(one_off, settings, run)
        }
        None => {
            let explained = supervisor::explain(&up, &args.service, &settings.directories, &settings.cgroup_parent);
            Ok(Told { explanation: explained?, outcome: None })
        }
    }
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
