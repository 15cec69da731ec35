//! `pause` and `resume`: a container's processes stand still, and go on.

use super::{Container, OciError, OciId, Runtime, Status};
use crate::namespaces::cgroup::Cgroup;

/// Freezes a container.
///
/// # Errors
/// [`OciError::State`] unless it is created or runs.
pub fn pause(runtime: &Runtime, id: &OciId) -> Result<(), OciError> {
    let (container, _lock) = runtime.find_locked(id)?;
    match container.status()? {
        Status::Created | Status::Running => Ok(cgroup(&container, "pause")?.freeze()?),
        status => Err(container.refuse("pause", format!("it is {status}"))),
    }
}

/// Thaws a container.
///
/// # Errors
/// [`OciError::State`] unless it is paused.
pub fn resume(runtime: &Runtime, id: &OciId) -> Result<(), OciError> {
    let (container, _lock) = runtime.find_locked(id)?;
    match container.status()? {
        Status::Paused => Ok(cgroup(&container, "resume")?.thaw()?),
        status => Err(container.refuse("resume", format!("it is {status}, not paused"))),
    }
}

/// Opens the cgroup that a command cannot do without.
pub(super) fn cgroup(container: &Container, operation: &'static str) -> Result<Cgroup, OciError> {
    container.cgroup()?.ok_or_else(|| container.refuse(operation, "it has no cgroup of its own"))
}
