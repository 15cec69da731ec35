//! Id-mapped mounts: the files of a layer keep their owners on disk, and inside show as owned by the mapped ids.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;

use super::UserNamespaceError;
use crate::namespaces::mount::{MountError, Overlay};
use crate::sys::mount::{MountChange, change_mount};

/// Holds what travels with a plan for a user namespace, in the order of the plan's roles.
#[derive(Debug)]
pub struct OwnedLayers {
    /// The lower layer, id-mapped and detached.
    pub lower: OwnedFd,
    /// The directory that holds `upper` and `work`, id-mapped and detached.
    pub upper: OwnedFd,
}

/// Clones the layers of `overlay` and maps their ids through the user namespace of `pid`, whose maps are written.
///
/// # Errors
/// [`UserNamespaceError::Open`]; [`MountError::Open`] for a missing layer; [`MountError::Change`] with a hint where
/// the file system cannot be id-mapped.
pub fn map_layers(pid: Pid, overlay: &Overlay) -> Result<OwnedLayers, UserNamespaceError> {
    let path = PathBuf::from(format!("/proc/{}/ns/user", pid.as_raw_nonzero()));
    let namespace = File::open(&path).map_err(|source| UserNamespaceError::Open { path, source })?;
    let clone = |path: &Path| -> Result<OwnedFd, MountError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, path, flags)
            .map_err(|errno| MountError::Open { path: path.to_owned(), source: errno.into() })?;
        let change =
            MountChange { id_map: Some(namespace.as_fd()), propagation: libc::MS_PRIVATE, ..MountChange::default() };
        change_mount(tree.as_fd(), &change).map_err(|source| MountError::Change {
            operation: "id-map",
            path: path.to_owned(),
            source,
        })?;
        Ok(tree)
    };
    let lower = overlay.lower.first().map_or(Path::new("/"), PathBuf::as_path);
    let beside = overlay.upper.parent().unwrap_or(Path::new("/"));
    Ok(OwnedLayers { lower: clone(lower)?, upper: clone(beside)? })
}
