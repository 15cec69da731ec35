//! Id-mapped mounts: the files of a layer keep their owners on disk, and inside show as owned by the mapped ids.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;

use super::{SetGroups, UserNamespaceError, write_maps};
use crate::namespaces::mount::{MountError, Overlay};
use crate::spec::IdMaps;
use crate::sys::mount::{MountChange, change_mount};
use crate::sys::{CloneRequest, clone_process};

/// Holds what travels with a plan for a user namespace, in the order of the plan's roles.
#[derive(Debug)]
pub struct OwnedLayers {
    /// The lower layer, id-mapped and detached.
    pub lower: OwnedFd,
    /// The directory that holds `upper` and `work`, id-mapped and detached.
    pub upper: OwnedFd,
}

/// Is the source of a bind mount that is to show its ids through a map.
#[derive(Debug)]
pub struct MappedTree<'a> {
    /// The source on the host.
    pub path: &'a Path,
    /// The mounts below it are taken along.
    pub recursive: bool,
    /// They are mapped too.
    pub map_recursive: bool,
}

impl MappedTree<'_> {
    /// Clones the tree and maps its ids: by `maps`, or by those of the user namespace of `pid`.
    ///
    /// # Errors
    /// [`MountError::Open`] for a missing source; [`MountError::Change`] with a hint where the file system cannot be id-mapped;
    /// [`UserNamespaceError::Helper`] where `maps` need a namespace of their own and this process has threads.
    pub fn clone_mapped(&self, pid: Pid, maps: Option<&IdMaps>) -> Result<OwnedFd, UserNamespaceError> {
        let namespace = maps.map_or_else(|| open_namespace(pid), namespace_of_maps)?;
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if self.recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(CWD, self.path, flags)
            .map_err(|errno| MountError::Open { path: self.path.to_owned(), source: errno.into() })?;
        let recursive = self.recursive && self.map_recursive;
        let change = MountChange { id_map: Some(namespace.as_fd()), recursive, ..MountChange::default() };
        change_mount(tree.as_fd(), &change).map_err(|source| MountError::Change {
            operation: "id-map",
            path: self.path.to_owned(),
            source,
        })?;
        Ok(tree)
    }
}

fn open_namespace(pid: Pid) -> Result<OwnedFd, UserNamespaceError> {
    let path = PathBuf::from(format!("/proc/{}/ns/user", pid.as_raw_nonzero()));
    File::open(&path).map(OwnedFd::from).map_err(|source| UserNamespaceError::Open { path, source })
}

/// Makes a user namespace with these maps. A namespace begins with a process: one that waits to be ended.
fn namespace_of_maps(maps: &IdMaps) -> Result<OwnedFd, UserNamespaceError> {
    let request = CloneRequest { namespaces: libc::CLONE_NEWUSER as u64, ..CloneRequest::default() };
    let child = clone_process(&request, |_| {
        // It cannot fail with this signal; and then it ends with us at the latest.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        loop {
            rustix::event::pause();
        }
    })?;
    let namespace = write_maps(child.pid, maps, SetGroups::Allow).and_then(|()| open_namespace(child.pid));
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
    let id = rustix::process::WaitId::PidFd(child.pidfd.as_fd());
    let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
    namespace
}

/// Clones the layers of `overlay` and maps their ids through the user namespace of `pid`, whose maps are written.
///
/// # Errors
/// [`UserNamespaceError::Open`]; [`MountError::Open`] for a missing layer; [`MountError::Change`] with a hint where
/// the file system cannot be id-mapped.
pub fn map_layers(pid: Pid, overlay: &Overlay) -> Result<OwnedLayers, UserNamespaceError> {
    let namespace = open_namespace(pid)?;
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
