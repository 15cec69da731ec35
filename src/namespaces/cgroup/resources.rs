//! The resources of an OCI bundle, written to the cgroup that it has.

use oci_spec::runtime::LinuxResources;

use super::files::write;
use super::{Cgroup, CgroupError};

/// Sets what is given. Returns what has no effect.
pub(super) fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
    let set = |key: &str, controller: &str, v1: &str, v2: &str, value: String| {
        let file = match (cgroup.v1_with(controller), &cgroup.v2) {
            (Some(dir), _) => dir.join(v1),
            (None, Some(dir)) => dir.dir.join(v2),
            (None, None) => return Ok(()),
        };
        write(&file, &value).map_err(|source| CgroupError::Resource { key: key.to_owned(), source: Box::new(source) })
    };
    if let Some(limit) = resources.memory().as_ref().and_then(oci_spec::runtime::LinuxMemory::limit).filter(|l| *l > 0)
    {
        set("memory.limit", "memory", "memory.limit_in_bytes", "memory.max", limit.to_string())?;
    }
    if let Some(limit) = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit).filter(|limit| *limit != 0)
    {
        let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
        set("pids.limit", "pids", "pids.max", "pids.max", value)?;
    }
    Ok(Vec::new())
}
