use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::MountError;
use super::bind::clone_tree;
use super::filesystem::attach;
use super::target::{TargetKind, find_plain, make_in, open_plain};

/// Is a device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where, inside the root; on the host too where it is bound.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Says what a device node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
}

impl Device {
    /// Makes the node (mknod(2)). The umask must be 0, or the mode comes out wrong.
    ///
    /// # Errors
    /// [`MountError::Change`]: EPERM without CAP_MKNOD or in a user namespace.
    pub fn make(&self, root: BorrowedFd<'_>, parents: &mut Parents) -> Result<(), MountError> {
        let error = |errno: Errno| MountError::change("make device", &self.path, errno);
        let (parent, name) = parents.open(root, &self.path)?;
        let kind = match self.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Fifo => FileType::Fifo,
        };
        let number = rustix::fs::makedev(self.major, self.minor);
        match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(self.mode), number) {
            Ok(()) => {}
            Err(Errno::EXIST) => self.adopt(parent, name, number)?,
            Err(errno) => return Err(error(errno)),
        }
        if (self.uid, self.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
        }
        Ok(())
    }

    /// Takes what stands there already if it is this very device.
    fn adopt(&self, parent: BorrowedFd<'_>, name: &OsStr, number: rustix::fs::Dev) -> Result<(), MountError> {
        let error = |errno: Errno| MountError::change("make device", &self.path, errno);
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let same = match self.kind {
            DeviceKind::Character => kind.is_char_device() && stat.st_rdev == number,
            DeviceKind::Block => kind.is_block_device() && stat.st_rdev == number,
            DeviceKind::Fifo => kind.is_fifo(),
        };
        if same {
            return Ok(());
        }
        Err(MountError::Refused {
            path: self.path.clone(),
            reason: "something else stands there in the root file system, where a device is to be",
        })
    }

    /// Binds the host's node of the same path over an empty file.
    ///
    /// # Errors
    /// [`MountError::Open`] where the host has no such node.
    pub fn bind(&self, root: BorrowedFd<'_>) -> Result<(), MountError> {
        let node = clone_tree(CWD, &self.path, false)
            .map_err(|errno| MountError::Open { path: self.path.clone(), source: errno.into() })?;
        self.place(root, node.as_fd())
    }

    /// Attaches a node that was made outside ([`super::make_detached`]) over an empty file.
    ///
    /// # Errors
    /// Those of [`open_plain`]; [`MountError::Change`].
    pub fn place(&self, root: BorrowedFd<'_>, node: BorrowedFd<'_>) -> Result<(), MountError> {
        let target = open_plain(root, &self.path, TargetKind::File)?;
        attach(node, target.as_fd()).map_err(|error| MountError::change("bind device", &self.path, error))
    }
}

/// Makes a symbolic link inside `root`. One that is there already stays.
///
/// # Errors
/// [`MountError::Change`].
pub fn make_symlink(
    root: BorrowedFd<'_>,
    parents: &mut Parents,
    points_to: &str,
    path: &Path,
) -> Result<(), MountError> {
    let (parent, name) = parents.open(root, path)?;
    match rustix::fs::symlinkat(points_to, parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(MountError::change("make the link", path, errno)),
    }
}

/// Keeps the directory that the last thing was made in open for the next: nearly all of them stand in /dev, and hierarchies of cgroups
/// beside each other.
#[derive(Debug, Default)]
pub struct Parents {
    last: Option<(PathBuf, OwnedFd)>,
}

impl Parents {
    fn open<'a>(&'a mut self, root: BorrowedFd<'_>, path: &'a Path) -> Result<(BorrowedFd<'a>, &'a OsStr), MountError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().ok_or_else(|| MountError::target(path, Errno::INVAL))?;
        if !self.has(parent) {
            self.last = Some((parent.to_owned(), open_plain(root, parent, TargetKind::Directory)?));
        }
        let (_, fd) = self.last.as_ref().ok_or_else(|| MountError::target(path, Errno::BADF))?;
        Ok((fd.as_fd(), name))
    }

    fn has(&self, parent: &Path) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| last == parent)
    }

    /// Opens a directory to mount on, as [`open_plain`] does. What is to stand beside the last one is made before it is looked for.
    pub(super) fn mountpoint(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, MountError> {
        if !path.parent().is_some_and(|parent| self.has(parent)) {
            match find_plain(root, path)? {
                Some(found) => return Ok(found),
                None if path.file_name().is_none() => return Err(MountError::target(path, Errno::NOENT)),
                None => {}
            }
        }
        let (parent, name) = self.open(root, path)?;
        make_in(parent, name, path, TargetKind::Directory)
    }

    /// Forgets what lies below a path that was mounted on.
    pub(super) fn cover(&mut self, path: &Path) {
        self.last.take_if(|(last, _)| last.starts_with(path));
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, major, minor, mode, .. } = self;
        write!(f, "{} {major}:{minor} mode {mode:04o}", path.display())
    }
}
