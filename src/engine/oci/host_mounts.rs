//! The mounts of a container without a mount namespace: they are the host's, and nobody takes them away but us.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::OciError;
use super::state::file;
use crate::container::needs_host_mounts;
use crate::namespaces::mount::{MountError, detach, mount_id};

/// Is where such a container's mounts hang: all of them below its root, which is bound over itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMounts {
    root: PathBuf,
    /// The mount that the root directory was in before.
    beneath: u64,
    /// The mount namespace, by its inode: mounts have other numbers in another.
    namespace: u64,
}

impl HostMounts {
    /// Looks at the root before anything is mounted; `None` for a container with a mount namespace.
    pub(super) fn before(spec: &Spec, root: &Path) -> Result<Option<Self>, OciError> {
        if !needs_host_mounts(spec) {
            return Ok(None);
        }
        let root = root.canonicalize().map_err(file("open the root", root))?;
        let beneath = mount_id(&root)?;
        Ok(Some(Self { root, beneath, namespace: own_namespace()? }))
    }

    /// Takes them away, unless somebody did.
    pub(super) fn clear(&self) -> Result<(), OciError> {
        if own_namespace()? != self.namespace {
            return Ok(());
        }
        match mount_id(&self.root) {
            Ok(id) if id != self.beneath => match detach(&self.root) {
                // What is there is no mount: that of before is gone too.
                Err(error) if errno(&error) == Some(libc::EINVAL) => Ok(()),
                detached => Ok(detached?),
            },
            Ok(_) => Ok(()),
            Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn errno(error: &MountError) -> Option<i32> {
    error.cause().and_then(std::io::Error::raw_os_error)
}

fn own_namespace() -> Result<u64, OciError> {
    let path = Path::new("/proc/self/ns/mnt");
    Ok(std::fs::metadata(path).map_err(file("look at", path))?.ino())
}
