//! `start`: the word that the container's process waits for.

use super::{Container, OciError, OciId, Runtime, Status, hooks, listener};
use crate::container::{InitChannel, InitEvent};

/// Starts a created container: its program runs when this returns. The result are warnings.
///
/// # Errors
/// [`OciError::State`] unless the container is created; [`OciError::Init`] where the program cannot be executed: the container
/// has ended then.
pub fn start(runtime: &Runtime, id: &OciId) -> Result<Vec<String>, OciError> {
    let (container, _lock) = runtime.find_locked(id)?;
    let connection = match container.status()? {
        Status::Created => container.directory.connect()?,
        _ => None,
    };
    let Some(connection) = connection else { return Err(refusal(&container)?) };
    execute(&container, InitChannel::at_start_socket(connection))
}

/// Lets the container's process go on to its program, and runs the hooks that come after; returns warnings.
pub(super) fn execute(container: &Container, mut init: InitChannel) -> Result<Vec<String>, OciError> {
    match init.send_start() {
        // It has said why it is gone.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(OciError::kernel("say `start` to the container's process")(error));
        }
        _ => {}
    }
    loop {
        match init.recv().map_err(OciError::kernel("hear from the container's process"))? {
            InitEvent::SeccompListener(listener) => {
                let pid = container.record.init.as_ref().map_or(0, |init| init.pid);
                listener::hand_over(container, Status::Created, pid, &listener)?;
            }
            InitEvent::Executed => return Ok(poststart(container)),
            InitEvent::Failed(failure) => return Err(OciError::Init(failure)),
            InitEvent::Died | InitEvent::Created { .. } | InitEvent::HooksDue => {
                return Err(OciError::Died { during: "started", out_of_memory: false });
            }
        }
    }
}

fn refusal(container: &Container) -> Result<OciError, OciError> {
    Ok(container.refuse(
        "start",
        match container.status()? {
            Status::Created | Status::Creating => "another command works on it",
            Status::Running => "it is running already",
            Status::Paused => "it is paused",
            Status::Stopped => "it has stopped; a container is started once",
        },
    ))
}

/// The specification wants a warning of a hook that fails here, and the rest to go on.
fn poststart(container: &Container) -> Vec<String> {
    let hooks = container.directory.config().ok().and_then(|spec| spec.hooks().clone());
    let Some(hooks) = hooks.and_then(|hooks| hooks.poststart().clone()) else { return Vec::new() };
    let report = container.record.report(Status::Running);
    let run = |hook| hooks::run("poststart", hook, &container.record.bundle, &report);
    hooks.iter().filter_map(|hook| run(hook).err()).map(|error| error.line()).collect()
}
