//! Id-mapped mounts: the files of a layer keep their owners on disk, and inside show as owned by the mapped ids.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;

use super::{SetGroups, UserNamespaceError, write_maps};
use crate::namespaces::mount::{MountError, Overlay, copy_tree};
use crate::spec::{IdMap, IdMaps, Mark, Stopwatch};
use crate::sys::mount::{MountChange, change_mount};
use crate::sys::{CloneRequest, clone_process};

/// Holds what travels with a plan for a user namespace, in the order of the plan's roles.
#[derive(Debug)]
pub struct OwnedLayers {
    /// The lower layer, id-mapped and detached.
    pub lower: OwnedFd,
    /// The directory that holds `upper` and `work`, id-mapped and detached.
    pub upper: OwnedFd,
    /// The lower layer is a copy: ids could not be mapped.
    pub is_copy: bool,
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

/// Clones the layers of `overlay` with the ids of the user namespace of `pid`, whose maps are written: `maps`.
///
/// Mapped as mounts where file system and kernel can do that; nothing on disk changes then. Otherwise the image is copied into
/// the container's directory, with other owners.
///
/// # Errors
/// [`UserNamespaceError::Open`]; [`MountError::Open`] for a missing layer; [`MountError::Copy`].
pub fn map_layers(
    pid: Pid,
    overlay: &Overlay,
    maps: &IdMaps,
    watch: &Stopwatch,
) -> Result<OwnedLayers, UserNamespaceError> {
    let [lower, beside] = mapped_layers(overlay);
    if overlays_take_mapped_layers(&release()) {
        let namespace = open_namespace(pid)?;
        let mapped = |number, path| watch.time(Mark::MapLayer(number), || clone_layer(path, Some(namespace.as_fd())));
        match mapped(0, lower).and_then(|lower| Ok((lower, mapped(1, beside)?))) {
            Ok((lower, upper)) => return Ok(OwnedLayers { lower, upper, is_copy: false }),
            Err(error) if is_unmappable(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let lower = watch.time(Mark::MapLayer(0), || {
        let copy = shift_layers(overlay, lower, beside, maps)?;
        clone_layer(&copy, None)
    })?;
    let upper = watch.time(Mark::MapLayer(1), || clone_layer(beside, None))?;
    Ok(OwnedLayers { lower, upper, is_copy: true })
}

/// Names what [`map_layers`] clones: the lower layer, and the directory that holds the other two.
pub fn mapped_layers(overlay: &Overlay) -> [&Path; 2] {
    let lower = overlay.lower.first().map_or(Path::new("/"), PathBuf::as_path);
    [lower, overlay.upper.parent().unwrap_or(Path::new("/"))]
}

fn clone_layer(path: &Path, id_map: Option<BorrowedFd<'_>>) -> Result<OwnedFd, MountError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)
        .map_err(|errno| MountError::Open { path: path.to_owned(), source: errno.into() })?;
    let change = MountChange { id_map, propagation: libc::MS_PRIVATE, ..MountChange::default() };
    change_mount(tree.as_fd(), &change).map_err(|source| MountError::Change {
        operation: "id-map",
        path: path.to_owned(),
        source,
    })?;
    Ok(tree)
}

/// Says whether a file system, or the kernel, cannot map ids.
fn is_unmappable(error: &MountError) -> bool {
    let cannot = |errno| matches!(errno, libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP);
    matches!(error, MountError::Change { operation: "id-map", .. })
        && error.cause().and_then(std::io::Error::raw_os_error).is_some_and(cannot)
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// An overlay of id-mapped layers is refused before Linux 5.19, and only when it is mounted: `release` is asked before.
fn overlays_take_mapped_layers(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0_u32));
    (numbers.next(), numbers.next()) >= (Some(5), Some(19))
}

/// Gives the container's layers to the ids that are its own outside: the image as a copy, beside the writable layer.
fn shift_layers(overlay: &Overlay, lower: &Path, beside: &Path, maps: &IdMaps) -> Result<PathBuf, MountError> {
    let owner = |uid, gid| (outside(&maps.uid, uid), outside(&maps.gid, gid));
    let copy = beside.join("lower");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MountError::Copy { path, source }
    };
    fs::create_dir(&copy).map_err(failed(&copy))?;
    copy_tree(&fs::canonicalize(lower).map_err(failed(lower))?, &copy, &owner)?;
    for path in [beside, &overlay.upper, &overlay.work] {
        let found = fs::metadata(path).map_err(failed(path))?;
        let (uid, gid) = owner(found.uid(), found.gid());
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(failed(path))?;
    }
    Ok(copy)
}

/// Returns the id outside of an id inside; one that no map has stays, and is nobody's inside.
fn outside(maps: &[IdMap], id: u32) -> u32 {
    let map = maps.iter().find(|map| id.checked_sub(map.inside).is_some_and(|offset| offset < map.count));
    map.map_or(id, |map| map.outside + (id - map.inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_19_have_no_overlay_of_mapped_layers() {
        for release in ["5.15.0-91-generic", "5.18.19", "4.19.0", ""] {
            assert!(!overlays_take_mapped_layers(release), "{release}");
        }
        for release in ["5.19.0", "6.1.0-44-amd64", "6.18.44-fc", "10.0"] {
            assert!(overlays_take_mapped_layers(release), "{release}");
        }
    }

    #[test]
    fn an_id_has_one_outside() {
        let maps = [IdMap { inside: 0, outside: 100_000, count: 10 }, IdMap { inside: 20, outside: 5, count: 1 }];
        assert_eq!([0, 9, 10, 20, 21].map(|id| outside(&maps, id)), [100_000, 100_009, 10, 5, 21]);
    }
}
