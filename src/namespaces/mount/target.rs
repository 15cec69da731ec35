//! Opens the place where something is mounted. The tree below the root belongs to the image: every component may be a
//! symbolic link that somebody else wrote, so paths are walked by openat2(2) inside the root and held as descriptors.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::MountError;

/// Says what is to stand at a target that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

/// What of proc tells of resources alone: lxcfs puts the container's own figures there, and nothing that we or a security module
/// write passes through it.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens (O_PATH) a mount target inside `root`, following symbolic links as if `root` were `/`, and makes what is
/// missing of it. A target in a proc file system is refused.
///
/// # Errors
/// [`MountError::Target`] with the kernel's error; [`MountError::Refused`] for a target in /proc or behind a dangling link.
pub fn open_target(root: BorrowedFd<'_>, path: &Path, kind: TargetKind) -> Result<OwnedFd, MountError> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = match open_at(root, inside(path), HANDLE, flags) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => make(root, path, kind, open_target)?,
        Err(errno) => return Err(MountError::target(path, errno)),
    };
    let statfs = rustix::fs::fstatfs(&fd).map_err(|errno| MountError::target(path, errno))?;
    if statfs.f_type as i64 == PROC_SUPER_MAGIC {
        if COVERABLE.contains(&path.to_str().unwrap_or_default()) {
            return open_plain(root, path, kind);
        }
        return Err(MountError::Refused {
            path: path.to_owned(),
            reason: "a mount inside a proc file system is refused",
        });
    }
    Ok(fd)
}

/// Opens (O_PATH) a path inside `root` none of whose components may be a symbolic link: how /proc, /sys and /dev are
/// found, which a link in the image could otherwise put anywhere. What is missing is made.
///
/// # Errors
/// [`MountError::Refused`] for a symbolic link; [`MountError::Target`] for the rest.
pub fn open_plain(root: BorrowedFd<'_>, path: &Path, kind: TargetKind) -> Result<OwnedFd, MountError> {
    match find_plain(root, path)? {
        Some(fd) => Ok(fd),
        None => make(root, path, kind, open_plain),
    }
}

/// As [`open_plain`], and makes nothing.
pub(super) fn find_plain(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, MountError> {
    match open_at(root, inside(path), HANDLE, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(link_refused(path)),
        Err(errno) => Err(MountError::target(path, errno)),
    }
}

/// Opens a path inside `root` for a use of its own, without following any symbolic link.
pub(super) fn open_inside(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_at(root, inside(path), flags | OFlags::CLOEXEC, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// openat2(2), again where a rename somewhere made the kernel unsure (EAGAIN).
pub(super) fn open_at(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 32 => tries += 1,
            result => return result,
        }
    }
}

type Open = fn(BorrowedFd<'_>, &Path, TargetKind) -> Result<OwnedFd, MountError>;

/// Makes the last component of `path` in its parent, which `open` opens or makes in turn.
fn make(root: BorrowedFd<'_>, path: &Path, kind: TargetKind, open: Open) -> Result<OwnedFd, MountError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(MountError::target(path, Errno::NOENT));
    };
    make_in(open(root, parent, TargetKind::Directory)?.as_fd(), name, path, kind)
}

/// Makes `name` in its parent and opens it (O_PATH); `path` names it in errors.
pub(super) fn make_in(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    kind: TargetKind,
) -> Result<OwnedFd, MountError> {
    let error = |errno| MountError::target(path, errno);
    make_entry(parent, name, kind).map_err(error)?;
    // What stands there now was made by us or by nobody: a link here was there before, and dangles.
    let flags = match kind {
        TargetKind::Directory => HANDLE | OFlags::NOFOLLOW | OFlags::DIRECTORY,
        TargetKind::File => HANDLE | OFlags::NOFOLLOW,
    };
    match open_at(parent, Path::new(name), flags, ResolveFlags::BENEATH) {
        // A link that is no directory, as any other that is none (open(2), O_NOFOLLOW).
        Err(Errno::NOTDIR) if is_link(parent, name) => Err(link_refused(path)),
        Err(errno) => Err(error(errno)),
        Ok(fd) if kind == TargetKind::Directory => Ok(fd),
        Ok(fd) => match rustix::fs::fstat(&fd) {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() => Err(link_refused(path)),
            Ok(_) => Ok(fd),
            Err(errno) => Err(error(errno)),
        },
    }
}

fn is_link(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::readlinkat(parent, name, Vec::new()).is_ok()
}

fn make_entry(parent: BorrowedFd<'_>, name: &OsStr, kind: TargetKind) -> Result<(), Errno> {
    let result = match kind {
        TargetKind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        TargetKind::File => {
            rustix::fs::mknodat(parent, name, rustix::fs::FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
        }
    };
    if result == Err(Errno::EXIST) { Ok(()) } else { result }
}

fn link_refused(path: &Path) -> MountError {
    MountError::Refused {
        path: path.to_owned(),
        // The first words are those of other runtimes.
        reason: "it must be mounted on ordinary directory, and a symbolic link stands there in the root file system",
    }
}

/// Strips the leading `/`; `.` for the root itself.
pub(super) fn inside(path: &Path) -> &Path {
    let mut parts = path.components();
    while parts.as_path().has_root() {
        if !matches!(parts.next(), Some(Component::RootDir | Component::Prefix(_))) {
            break;
        }
    }
    let rest = parts.as_path();
    if rest.as_os_str().is_empty() { Path::new(".") } else { rest }
}
