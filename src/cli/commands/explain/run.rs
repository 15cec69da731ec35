//! A launch that is carried out and explained afterwards.

use std::io;
use std::os::fd::OwnedFd;

use rustix::stdio::{dup2_stdout, stderr, stdout};

use crate::cli::report::CliError;
use crate::cli::style::Palette;
use crate::engine::explain::LaunchExplanation;
use crate::spec::{ExitStatus, Stopwatch};
use crate::sys::executable::take_beginning;

/// Is a run that is measured. While it lasts our standard output is our standard error: what the container writes goes there, and
/// the explanation has standard output to itself.
#[derive(Debug)]
pub(in crate::cli) struct Run {
    pub(in crate::cli) watch: Stopwatch,
    pub(in crate::cli) palette: Palette,
    stdout: OwnedFd,
}

/// Is an explanation, and what came of the run where there was one.
#[derive(Debug)]
pub(in crate::cli) struct Told {
    pub(in crate::cli) explanation: LaunchExplanation,
    pub(in crate::cli) outcome: Option<Result<ExitStatus, CliError>>,
}

impl Run {
    pub(super) fn begin(palette: Palette) -> Result<Self, CliError> {
        let watch = Stopwatch::start(take_beginning()).map_err(CliError::Output)?;
        let stdout = rustix::io::fcntl_dupfd_cloexec(stdout(), 3).map_err(output)?;
        dup2_stdout(stderr()).map_err(output)?;
        Ok(Self { watch, palette, stdout })
    }

    /// Takes standard output back.
    pub(super) fn end(self) -> Result<Stopwatch, CliError> {
        dup2_stdout(&self.stdout).map_err(output)?;
        Ok(self.watch)
    }
}

fn output(errno: rustix::io::Errno) -> CliError {
    CliError::Output(io::Error::from(errno))
}
