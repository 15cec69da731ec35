//! Read-only and masked paths: what remains of the host's interfaces in /proc and /sys.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::bind::clone_tree;
use super::filesystem::{Context, attach};
use super::target::{inside, open_at, open_inside};
use super::{MountAttributes, MountError};
use crate::sys::mount::{MountChange, NODEV, NOEXEC, NOSUID, RDONLY, change_mount};

/// Makes `path` read-only by binding it over itself; says whether it is there.
///
/// # Errors
/// [`MountError::Target`] and [`MountError::Change`].
pub fn protect_path(root: BorrowedFd<'_>, path: &Path) -> Result<bool, MountError> {
    let Some(target) = open_existing(root, path)? else { return Ok(false) };
    let error = |error: std::io::Error| MountError::change("protect", path, error);
    let tree = clone_tree(target.as_fd(), Path::new(""), true).map_err(|errno| error(errno.into()))?;
    change_mount(tree.as_fd(), &MountChange { set: RDONLY, recursive: true, ..MountChange::default() })
        .map_err(error)?;
    attach(tree.as_fd(), target.as_fd()).map_err(error)?;
    Ok(true)
}

/// Makes the mount at `path` read-only, not what is mounted below it.
///
/// # Errors
/// [`MountError::Target`]; [`MountError::Change`], EINVAL where nothing is mounted there.
pub fn protect_mount(root: BorrowedFd<'_>, path: &Path) -> Result<(), MountError> {
    let mount = open_linked(root, path).map_err(|errno| MountError::target(path, errno))?;
    change_mount(mount.as_fd(), &MountChange { set: RDONLY, ..MountChange::default() })
        .map_err(|error| MountError::change("protect", path, error))
}

/// Hides paths: /dev/null over a file, one empty read-only tmpfs over all directories.
#[derive(Debug, Default)]
pub struct Masks {
    empty: Option<OwnedFd>,
    null: Option<OwnedFd>,
}

impl Masks {
    /// Hides `path`; says whether it is there.
    ///
    /// # Errors
    /// [`MountError::Target`], [`MountError::Filesystem`] and [`MountError::Change`].
    pub fn hide(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<bool, MountError> {
        let Some(target) = open_existing(root, path)? else { return Ok(false) };
        let error = |errno: Errno| MountError::change("mask", path, errno);
        let stat = rustix::fs::fstat(&target).map_err(error)?;
        let cover = if FileType::from_raw_mode(stat.st_mode).is_dir() {
            match &self.empty {
                Some(empty) => clone_tree(empty.as_fd(), Path::new(""), false).map_err(error)?,
                None => {
                    // The first is attached itself and the others are its clones: a mount that is never attached is
                    // dissolved when its descriptor is closed, and that waits for all CPUs (synchronize_rcu).
                    let empty = self.empty.insert(empty_directory(path)?);
                    let attached = attach(empty.as_fd(), target.as_fd());
                    return attached.map(|()| true).map_err(|source| MountError::change("mask", path, source));
                }
            }
        } else {
            let null = match &self.null {
                Some(null) => null,
                None => self.null.insert(open_null(root).map_err(|source| MountError::change("mask", path, source))?),
            };
            clone_tree(null.as_fd(), Path::new(""), false).map_err(error)?
        };
        let attached = attach(cover.as_fd(), target.as_fd());
        attached.map(|()| true).map_err(|source| MountError::change("mask", path, source))
    }
}

fn empty_directory(path: &Path) -> Result<OwnedFd, MountError> {
    let context = Context::open("tmpfs", path)?;
    context.set("source", Some("tmpfs"))?;
    context.set("nr_inodes", Some("2"))?;
    context.set("mode", Some("755"))?;
    context.mount(MountAttributes::of(RDONLY | NOSUID | NODEV | NOEXEC))
}

/// Opens /dev/null of the root. What an image put there instead would show the container what is to be hidden.
fn open_null(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let null = open_inside(root, Path::new("/dev/null"), OFlags::PATH)?;
    let stat = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(io::Error::other("/dev/null of the root file system is not the null device")) }
}

/// Opens a path inside `root`, following links that stay there.
fn open_linked(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open_at(root, inside(path), OFlags::PATH | OFlags::CLOEXEC, flags)
}

fn open_existing(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, MountError> {
    match open_inside(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        // proc and sysfs have links of their own (/proc/net); what they lead to is protected where it stands.
        Err(Errno::LOOP) if path.starts_with("/proc") || path.starts_with("/sys") => Ok(None),
        Err(Errno::LOOP) => match open_linked(root, path) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(MountError::target(path, errno)),
        },
        Err(errno) => Err(MountError::target(path, errno)),
    }
}
