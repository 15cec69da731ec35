//! `update`: other limits for a container that is there.

use oci_spec::runtime::LinuxResources;

use super::pause::cgroup;
use super::{OciError, OciId, Runtime, Status};

/// Changes the resources that are given and leaves the others as they are. Returns what has no effect on this host.
///
/// # Errors
/// [`OciError::NotRunning`]; [`OciError::Cgroup`] with what cannot be set: nothing has changed then.
pub fn update(runtime: &Runtime, id: &OciId, resources: &LinuxResources) -> Result<Vec<String>, OciError> {
    let (container, _lock) = runtime.find_locked(id)?;
    let status = container.status()?;
    if status == Status::Stopped {
        return Err(OciError::NotRunning { id: id.to_string(), status });
    }
    Ok(cgroup(&container, "update")?.update(resources)?)
}
