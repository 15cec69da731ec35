//! `ps`: who is in a container.

use super::{Container, OciError, Status};

/// Lists the processes of a container as the host numbers them, the first ones first.
///
/// # Errors
/// [`OciError::NotRunning`] where it has ended.
pub fn processes(container: &Container) -> Result<Vec<i32>, OciError> {
    let status = container.status()?;
    if status == Status::Stopped {
        return Err(OciError::NotRunning { id: container.id().to_string(), status });
    }
    match container.cgroup()? {
        Some(cgroup) => Ok(cgroup.processes()?),
        None => Ok(container.record.init.iter().map(|init| init.pid).collect()),
    }
}
