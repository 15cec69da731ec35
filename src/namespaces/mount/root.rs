//! The way from the host's tree into the container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::bind::clone_tree;
use super::filesystem::attach;
use super::{MountError, Propagation};
use crate::sys::mount::{MountChange, RDONLY, change_mount};

/// Sets the propagation type of the namespace's mounts (mount(2), MS_PRIVATE …).
///
/// # Errors
/// [`MountError::Change`].
pub fn set_propagation(propagation: Propagation) -> Result<(), MountError> {
    let mut flags = MountPropagationFlags::from_bits_retain(propagation.bits() as u32);
    if propagation.recursive() {
        flags |= MountPropagationFlags::REC;
    }
    mount_change("/", flags).map_err(|errno| MountError::change("set the propagation of", Path::new("/"), errno))
}

/// Binds `source`, with what is mounted below it, over itself and returns the mount.
///
/// # Errors
/// [`MountError::Open`] and [`MountError::Change`].
pub fn bind_root(source: &Path) -> Result<OwnedFd, MountError> {
    let open = |errno: rustix::io::Errno| MountError::Open { path: source.to_owned(), source: errno.into() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::openat(CWD, source, flags, Mode::empty()).map_err(open)?;
    let tree = clone_tree(target.as_fd(), Path::new(""), true).map_err(open)?;
    attach(tree.as_fd(), target.as_fd()).map_err(|error| MountError::change("bind the root on", source, error))?;
    Ok(tree)
}

/// Makes the mount behind `root` this namespace's `/` and detaches the old one.
///
/// `pivot_root(".", ".")` puts the old root on top of the new one, where `umount2(".", MNT_DETACH)` finds it: no
/// directory for it is needed in the image (pivot_root(2), "pivot_root(".", ".")").
///
/// # Errors
/// [`MountError::Change`].
pub fn enter_root(root: BorrowedFd<'_>) -> Result<(), MountError> {
    let error = |operation| move |errno: rustix::io::Errno| MountError::change(operation, Path::new("/"), errno);
    rustix::process::fchdir(root).map_err(error("go into"))?;
    rustix::process::pivot_root(".", ".").map_err(error("pivot into"))?;
    unmount(".", UnmountFlags::DETACH).map_err(error("detach the old"))?;
    rustix::process::chdir("/").map_err(error("go into"))
}

/// Moves the mount behind `root` over this namespace's `/` and makes that the process's root, for hosts whose own root cannot be
/// pivoted away from (an initial ramdisk). The old root stays below, where nothing reaches it.
///
/// # Errors
/// [`MountError::Change`].
pub fn enter_root_by_move(root: BorrowedFd<'_>) -> Result<(), MountError> {
    let error = |operation| move |errno: rustix::io::Errno| MountError::change(operation, Path::new("/"), errno);
    let old = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(error("open"))?;
    attach(root, old.as_fd()).map_err(|source| MountError::change("move over", Path::new("/"), source))?;
    change_root(root)
}

/// Makes the mount behind `root` the process's root and nothing more: who may call chroot(2) gets out of it.
///
/// # Errors
/// [`MountError::Change`].
pub fn change_root(root: BorrowedFd<'_>) -> Result<(), MountError> {
    let error = |operation| move |errno: rustix::io::Errno| MountError::change(operation, Path::new("/"), errno);
    rustix::process::fchdir(root).map_err(error("go into"))?;
    rustix::process::chroot(".").map_err(error("change root to"))?;
    rustix::process::chdir("/").map_err(error("go into"))
}

/// Says which mount a path leads into (statx(2), STATX_MNT_ID).
///
/// # Errors
/// [`MountError::Open`].
pub fn mount_id(path: &Path) -> Result<u64, MountError> {
    let error = |errno: rustix::io::Errno| MountError::Open { path: path.to_owned(), source: errno.into() };
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map_err(error)?;
    Ok(stat.stx_mnt_id)
}

/// Takes the mount on `path` away, with all that is mounted below it.
///
/// # Errors
/// [`MountError::Change`].
pub fn detach(path: &Path) -> Result<(), MountError> {
    unmount(path, UnmountFlags::DETACH).map_err(|errno| MountError::change("detach", path, errno))
}

/// Sets the propagation type of the root mount (config.json's `rootfsPropagation`).
///
/// # Errors
/// [`MountError::Change`].
pub fn set_own_propagation(root: BorrowedFd<'_>, propagation: Propagation) -> Result<(), MountError> {
    let change =
        MountChange { propagation: propagation.bits(), recursive: propagation.recursive(), ..MountChange::default() };
    change_mount(root, &change).map_err(|error| MountError::change("set the propagation of", Path::new("/"), error))
}

/// Makes the root mount read-only, not what is mounted below it.
///
/// # Errors
/// [`MountError::Change`].
pub fn protect_root(root: BorrowedFd<'_>) -> Result<(), MountError> {
    change_mount(root, &MountChange { set: RDONLY, ..MountChange::default() })
        .map_err(|error| MountError::change("protect", Path::new("/"), error))
}
