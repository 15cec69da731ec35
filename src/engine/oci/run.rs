//! `run`: create and start in one, and in the foreground wait for the end.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::create::{CreateJob, CreatedContainer, create, create_watching};
use super::notify::Notify;
use super::{OciError, OciId, Runtime, delete, start};
use crate::engine::foreground::{Console, MainProcess, MainSignals, StreamEnds};
use crate::spec::{ExitStatus, Mark, Moment, Stopwatch};

/// Creates and starts a container and leaves it running. Returns warnings.
///
/// # Errors
/// As [`create`] and [`super::start()`]; nothing of the container is left then.
pub fn run_detached(runtime: &Runtime, job: &CreateJob<'_>) -> Result<Vec<String>, OciError> {
    let CreatedContainer { container, init, mut warnings, process, .. } = create(runtime, job)?;
    let notify = start::notify(runtime, &container, &mut warnings);
    match init.map_or(Ok(()), |init| start::execute(&container, init, None, &runtime.watch)) {
        Ok(()) => {
            notify.map_or(Ok(()), |notify| notify.wait(process.pidfd.as_fd(), process.pid.as_raw_nonzero().get()))?;
            Ok(warnings)
        }
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
    let mut created = create_watching(runtime, job, &signals)?;
    let notify = start::notify(runtime, &created.container, &mut created.warnings);
    created.warnings.iter().for_each(|warning| console.warn(warning));
    let outcome = live(created, notify, &signals, console, &runtime.watch);
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
fn live(
    created: CreatedContainer,
    notify: Option<Notify>,
    signals: &MainSignals,
    console: &mut dyn Console,
    watch: &Stopwatch,
) -> Result<ExitStatus, OciError> {
    let CreatedContainer { container, process, init, terminal, .. } = created;
    let process = MainProcess::new(process);
    if terminal.is_some() {
        let ends = StreamEnds { terminal, ..StreamEnds::default() };
        console.connect(ends).map_err(OciError::kernel("connect the container's terminal"))?;
    }
    if let Some(init) = init {
        start::execute(&container, init, Some(signals), watch)?;
    }
    let end = watch.begin(Mark::AwaitEnd);
    let status = attend(process, notify, signals, console);
    end.waited();
    watch.note(Moment::Ended);
    status
}

/// Waits for the end of a process whose program runs, and passes signals on to it, and to a service manager that it is ready: the
/// manager knows the container by us, who stay.
pub(super) fn attend(
    mut process: MainProcess,
    mut notify: Option<Notify>,
    signals: &MainSignals,
    console: &mut dyn Console,
) -> Result<ExitStatus, OciError> {
    loop {
        let message = notify.as_ref().map_or(signals.as_fd(), AsFd::as_fd);
        let mut fds = [
            PollFd::from_borrowed_fd(process.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(message, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(OciError::kernel("wait for the container's process")(errno.into())),
        }
        let [ended, signalled, told] = fds.map(|fd| !fd.revents().is_empty());
        if told && let Some(hears) = &notify {
            match hears.hear(std::process::id().cast_signed()) {
                Ok(false) => {}
                Ok(true) => notify = None,
                Err(error) => {
                    console.warn(&format!("tell NOTIFY_SOCKET that the container is ready: {error}"));
                    notify = None;
                }
            }
        }
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
