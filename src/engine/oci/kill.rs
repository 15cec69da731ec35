//! `kill`: a signal for the container's first process, or for all of them.

use std::os::fd::AsFd;

use super::{Container, OciError, OciId, Runtime, Status};
use crate::spec::SignalNumber;
use crate::sys::pidfd::send_signal;

/// Sends a signal to a container.
///
/// # Errors
/// [`OciError::NotRunning`] where it has ended.
pub fn kill(runtime: &Runtime, id: &OciId, signal: SignalNumber, all: bool) -> Result<(), OciError> {
    let container = runtime.find(id)?;
    if all {
        return kill_all(&container, signal);
    }
    send(&container, signal)
}

fn not_running(container: &Container, status: Status) -> OciError {
    OciError::NotRunning { id: container.id().to_string(), status }
}

/// Signals the first process.
fn send(container: &Container, signal: SignalNumber) -> Result<(), OciError> {
    let stopped = || not_running(container, Status::Stopped);
    let init = container.record.init.as_ref().filter(|init| init.is_alive()).ok_or_else(stopped)?;
    let pidfd = init.open_pidfd()?.ok_or_else(stopped)?;
    match send_signal(pidfd.as_fd(), signal.get()) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(stopped()),
        sent => sent.map_err(OciError::kernel("send a signal to the container's process"))?,
    }
    if signal == SignalNumber::KILL
        && let Some(cgroup) = container.cgroup()?
        && cgroup.is_frozen()?
    {
        // It dies when it thaws.
        cgroup.thaw()?;
    }
    Ok(())
}

fn kill_all(container: &Container, signal: SignalNumber) -> Result<(), OciError> {
    let Some(cgroup) = container.cgroup()? else { return send(container, signal) };
    if signal == SignalNumber::KILL {
        return Ok(cgroup.kill()?);
    }
    for pid in cgroup.processes()? {
        // One that has ended meanwhile needs none.
        let _ = crate::sys::process::send_signal(pid, signal.get());
    }
    Ok(())
}
