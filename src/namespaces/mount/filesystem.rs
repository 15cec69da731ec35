use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};
use serde::{Deserialize, Serialize};

use super::bind::clone_tree;
use super::copy_up::copy_up;
use super::target::{TargetKind, open_plain, open_target};
use super::{MountAttributes, MountError, Parents, Propagation};
use crate::sys::mount::{MountChange, change_mount};

/// Is a mount of a file system of its own, as opposed to a bind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemMount {
    /// Its type: `proc`, `tmpfs` …
    pub fstype: String,
    /// What /proc/mounts shows as its source.
    pub source: String,
    /// Where, inside the root.
    pub target: PathBuf,
    /// Options of the file system, one key each: a value with a comma is still one value.
    pub options: Vec<(String, Option<String>)>,
    /// Flags of the mount.
    pub attributes: MountAttributes,
    /// Refuses symbolic links on the way to the target: for what the kernel's interfaces hang on.
    pub plain_target: bool,
    /// Fills it with what the image has at the target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy_up: bool,
    /// How mounts travel; as the kernel makes it where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
}

impl FilesystemMount {
    /// Mounts it below `root` and returns the mount.
    ///
    /// # Errors
    /// [`MountError::Filesystem`] with the kernel's words; those of [`open_target`].
    pub fn mount(&self, root: BorrowedFd<'_>, parents: &mut Parents) -> Result<OwnedFd, MountError> {
        let target = match self.plain_target {
            true => parents.mountpoint(root, &self.target)?,
            false => open_target(root, &self.target, TargetKind::Directory)?,
        };
        let context = Context::open(&self.fstype, &self.target)?;
        context.set("source", Some(&self.source))?;
        for (key, value) in &self.options {
            context.set(key, value.as_deref())?;
        }
        let mount = context.mount(self.attributes)?;
        if self.copy_up {
            copy_up(target.as_fd(), mount.as_fd())
                .map_err(|(path, source)| MountError::CopyUp { path: self.target.join(path), source })?;
        }
        if let Some(propagation) = self.propagation {
            let change = MountChange { propagation: propagation.bits(), ..MountChange::default() };
            change_mount(mount.as_fd(), &change)
                .map_err(|e| MountError::change("set the propagation of", &self.target, e))?;
        }
        attach(mount.as_fd(), target.as_fd()).map_err(|source| MountError::change("attach", &self.target, source))?;
        // A target that links lead to may be anywhere.
        parents.cover(if self.plain_target { &self.target } else { Path::new("/") });
        Ok(mount)
    }

    /// Binds the host's tree at `source` instead, with the same flags.
    ///
    /// # Errors
    /// [`MountError::Open`]; [`MountError::Change`]; those of [`open_plain`].
    pub fn bind_host(&self, root: BorrowedFd<'_>, source: &Path) -> Result<(), MountError> {
        let tree = clone_tree(CWD, source, true)
            .map_err(|errno| MountError::Open { path: source.to_owned(), source: errno.into() })?;
        let set = self.attributes.bits();
        let change = MountChange { set, recursive: true, propagation: libc::MS_PRIVATE, ..MountChange::default() };
        change_mount(tree.as_fd(), &change).map_err(|e| MountError::change("set the flags of", &self.target, e))?;
        let target = open_plain(root, &self.target, TargetKind::Directory)?;
        attach(tree.as_fd(), target.as_fd()).map_err(|source| MountError::change("attach", &self.target, source))
    }
}

impl fmt::Display for FilesystemMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ({}", self.fstype, self.target.display(), self.attributes)?;
        for (key, value) in &self.options {
            match value {
                Some(value) => write!(f, ",{key}={value}")?,
                None => write!(f, ",{key}")?,
            }
        }
        f.write_str(")")
    }
}

/// Is a file system that is being configured (fsopen(2)).
pub(super) struct Context<'a> {
    fd: OwnedFd,
    fstype: &'a str,
    target: &'a Path,
}

impl<'a> Context<'a> {
    pub(super) fn open(fstype: &'a str, target: &'a Path) -> Result<Self, MountError> {
        let fd = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| MountError::Filesystem {
            fstype: fstype.to_owned(),
            target: target.to_owned(),
            kernel: None,
            source: errno.into(),
        })?;
        Ok(Self { fd, fstype, target })
    }

    /// Sets one option.
    pub(super) fn set(&self, key: &str, value: Option<&str>) -> Result<(), MountError> {
        self.try_set(key, value).map_err(|errno| self.error(errno))
    }

    /// Sets one option, where the caller knows what to do if the kernel does not have it.
    pub(super) fn try_set(&self, key: &str, value: Option<&str>) -> Result<(), Errno> {
        match value {
            Some(value) => fsconfig_set_string(self.fd.as_fd(), key, value),
            None => fsconfig_set_flag(self.fd.as_fd(), key),
        }
    }

    /// Makes the file system and a detached mount of it.
    pub(super) fn mount(&self, attributes: MountAttributes) -> Result<OwnedFd, MountError> {
        fsconfig_create(self.fd.as_fd()).map_err(|errno| self.error(errno))?;
        let flags = MountAttrFlags::from_bits_retain(attributes.bits() as u32);
        fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(|errno| self.error(errno))
    }

    fn error(&self, errno: Errno) -> MountError {
        // Reading the descriptor gives the kernel's messages, one a read: "e overlay: …" (fsopen(2)).
        let mut buffer = [0_u8; 512];
        let kernel = rustix::io::read(&self.fd, &mut buffer)
            .ok()
            .map(|count| String::from_utf8_lossy(&buffer[..count]).trim().to_owned())
            .map(|text| text.strip_prefix("e ").map_or(text.clone(), str::to_owned));
        MountError::Filesystem {
            fstype: self.fstype.to_owned(),
            target: self.target.to_owned(),
            kernel,
            source: errno.into(),
        }
    }
}

/// Makes a proc file system that is attached nowhere: nobody but the holder of the descriptor sees it.
///
/// # Errors
/// [`MountError::Filesystem`]: EPERM in a user namespace where the host's proc is not whole.
pub fn detached_proc() -> Result<OwnedFd, MountError> {
    Context::open("proc", Path::new("/proc"))?.mount(MountAttributes::default())
}

/// Attaches a detached mount over `target`, both by handle (move_mount(2)).
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}
