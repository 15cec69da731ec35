//! `run`: create and start in one, and in the foreground wait for the end.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::create::{CreateJob, CreatedContainer, create};
use super::{OciError, OciId, Runtime, delete, start};
use crate::engine::foreground::{Console, MainProcess, MainSignals, StreamEnds};
use crate::spec::ExitStatus;

/// Creates and starts a container and leaves it running. Returns warnings.
///
/// # Errors
/// As [`create`] and [`super::start()`]; nothing of the container is left then.
pub fn run_detached(runtime: &Runtime, job: &CreateJob<'_>) -> Result<Vec<String>, OciError> {
    let CreatedContainer { container, init, warnings, process, .. } = create(runtime, job)?;
    match init.map_or(Ok(()), |init| start::execute(&container, init)) {
        Ok(()) => Ok(warnings),
        Err(error) => {
            drop(MainProcess::new(process));
            Err(undo(runtime, job.id, error))
        }
    }
}

/// Creates and starts a container, carries its terminal, passes signals on, and waits for its end; it is deleted then unless it is
/// to be kept, and what that could not do is told. This process must have one thread; it has blocked signals ever after.
///
/// # Errors
/// As [`run_detached`].
pub fn run(
    runtime: &Runtime,
    job: &CreateJob<'_>,
    keep: bool,
    console: &mut dyn Console,
) -> Result<(ExitStatus, Vec<String>), OciError> {
    let signals = MainSignals::block().map_err(|error| signals_failed(&error))?;
    let created = create(runtime, job)?;
    created.warnings.iter().for_each(|warning| console.warn(warning));
    let outcome = live(created, &signals, console);
    console.disconnect();
    match outcome {
        Ok(status) => {
            let warnings = if keep { Vec::new() } else { delete::delete(runtime, job.id, true)? };
            Ok((status, warnings))
        }
        Err(error) => Err(undo(runtime, job.id, error)),
    }
}

/// From the first process, created, to its end.
fn live(created: CreatedContainer, signals: &MainSignals, console: &mut dyn Console) -> Result<ExitStatus, OciError> {
    let CreatedContainer { container, process, init, terminal, .. } = created;
    let process = MainProcess::new(process);
    if terminal.is_some() {
        let ends = StreamEnds { terminal, ..StreamEnds::default() };
        console.connect(ends).map_err(OciError::kernel("connect the container's terminal"))?;
    }
    if let Some(init) = init {
        start::execute(&container, init)?;
    }
    attend(process, signals, console)
}

/// Waits for the end of a process whose program runs, and passes signals on to it.
pub(super) fn attend(
    mut process: MainProcess,
    signals: &MainSignals,
    console: &mut dyn Console,
) -> Result<ExitStatus, OciError> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(process.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(OciError::kernel("wait for the container's process")(errno.into())),
        }
        let [ended, signalled] = fds.map(|fd| !fd.revents().is_empty());
        if ended {
            return process.reap().map_err(OciError::kernel("take the status of the container's process"));
        }
        if signalled {
            process.take_signals(signals, true, console).map_err(|error| signals_failed(&error))?;
        }
    }
}

pub(super) fn signals_failed(error: &crate::engine::LaunchError) -> OciError {
    OciError::Config { key: "signals".to_owned(), reason: error.chain().join(": ") }
}

/// Takes away a container that did not come to run; the first error is the one that counts.
fn undo(runtime: &Runtime, id: &OciId, first: OciError) -> OciError {
    match delete::delete(runtime, id, true) {
        Ok(_) => first,
        Err(then) => OciError::NotCleared { first: Box::new(first), then: Box::new(then) },
    }
}
