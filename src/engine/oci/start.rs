//! `start`: the word that the container's process waits for.

use std::os::fd::AsFd;

use oci_spec::runtime::Spec;

use super::hooks::HookTimes;
use super::notify::Notify;
use super::{Container, OciError, OciId, Runtime, Status, delete, hooks, listener};
use crate::container::{InitChannel, InitEvent};
use crate::engine::foreground::MainSignals;
use crate::spec::{Mark, Stopwatch};
use crate::store::ProcessIdentity;

/// Starts a created container: its program runs when this returns.
///
/// # Errors
/// [`OciError::State`] unless the container is created; [`OciError::Init`] where the program cannot be executed: the container
/// has ended then. [`OciError::Hook`] where a poststart hook fails: the container is deleted then.
///
/// Where a service manager wants to hear when the container is ready, this returns when it is, or has ended. The result are
/// warnings.
pub fn start(runtime: &Runtime, id: &OciId) -> Result<Vec<String>, OciError> {
    let (container, lock) = runtime.find_locked(id)?;
    let (status, connection) = container.look()?;
    let Some(connection) = connection else { return Err(refusal(&container, status)) };
    let mut warnings = Vec::new();
    let notify = notify(runtime, &container, &mut warnings);
    match execute(&container, InitChannel::at_start_socket(connection), None, &runtime.watch) {
        // The specification's step 9 goes on at its step 12, where the container is destroyed.
        Err(first @ OciError::Hook { .. }) => {
            return Err(match delete::destroy(&container, &runtime.watch) {
                Ok(_) => first,
                Err(then) => OciError::NotCleared { first: Box::new(first), then: Box::new(then) },
            });
        }
        other => other?,
    }
    // Others may work on it while we wait.
    drop(lock);
    let process = container.record.init.as_ref().map(ProcessIdentity::open_pidfd).transpose()?.flatten();
    if let (Some(notify), Some(process)) = (notify, process) {
        notify.wait(process.as_fd(), container.record.init.as_ref().map_or(0, |init| init.pid))?;
    }
    Ok(warnings)
}

/// Makes the container's socket, where somebody wants to hear from it. A manager that is not there is worth a warning: what is
/// named may be left over from somebody's surroundings.
pub(super) fn notify(runtime: &Runtime, container: &Container, warnings: &mut Vec<String>) -> Option<Notify> {
    let made = Notify::listen(&container.directory, runtime.notify_socket.as_ref()?);
    made.unwrap_or_else(|error| {
        warnings.push(error.line());
        None
    })
}

/// Lets the container's process go on to its program, and runs the hooks that come after.
pub(super) fn execute(
    container: &Container,
    mut init: InitChannel,
    signals: Option<&MainSignals>,
    watch: &Stopwatch,
) -> Result<(), OciError> {
    let spec = container.directory.config()?;
    if spec.process().is_none() {
        return Err(container.refuse("start", "its configuration has no `process`, there is nothing to run"));
    }
    match watch.time(Mark::SendStart, || init.send_start()) {
        // It has said why it is gone.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(OciError::kernel("say `start` to the container's process")(error));
        }
        _ => {}
    }
    loop {
        let heard = watch.wait(Mark::AwaitProgram, || init.recv());
        match heard.map_err(OciError::kernel("hear from the container's process"))? {
            InitEvent::SeccompListener(listener) => {
                let pid = container.record.init.as_ref().map_or(0, |init| init.pid);
                listener::hand_over(container, Status::Created, pid, &listener)?;
            }
            InitEvent::Executed => {
                watch.note_program();
                return poststart(container, &spec, signals, watch);
            }
            InitEvent::Failed(failure) => return Err(OciError::Init(failure)),
            InitEvent::Died | InitEvent::Created { .. } | InitEvent::HooksDue => {
                return Err(OciError::Died { during: "started", out_of_memory: false });
            }
        }
    }
}

fn refusal(container: &Container, status: Status) -> OciError {
    container.refuse(
        "start",
        match status {
            Status::Created | Status::Creating => "another command works on it",
            Status::Running => "it is running already",
            Status::Paused => "it is paused",
            Status::Stopped => "it has stopped; a container is started once",
        },
    )
}

fn poststart(
    container: &Container,
    spec: &Spec,
    signals: Option<&MainSignals>,
    watch: &Stopwatch,
) -> Result<(), OciError> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    let report = container.record.report(Status::Running);
    let times = HookTimes { watch, mark: Mark::HookAfterStart, first: 0 };
    hooks::run_all("poststart", hooks, &container.record.bundle, &report, times, signals)
}
