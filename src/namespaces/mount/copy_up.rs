//! Copies trees: an image's into an empty volume, and a root file system whose owners have to be others. Both sides are walked by
//! descriptor and without following links.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};

use super::MountError;

type Failure = (PathBuf, io::Error);

const READ_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies what `image` holds into `volume` if `volume` is empty: contents, owners, modes, times, links, also the
/// mode and owner of the directory itself. Sockets, FIFOs and devices are left out.
pub(super) fn copy_up(image: BorrowedFd<'_>, volume: BorrowedFd<'_>) -> Result<(), Failure> {
    let here = |error: rustix::io::Errno| (PathBuf::new(), io::Error::from(error));
    let from = rustix::fs::openat(image, ".", READ_DIRECTORY, Mode::empty()).map_err(here)?;
    let to = rustix::fs::openat(volume, ".", READ_DIRECTORY, Mode::empty()).map_err(here)?;
    // Two containers of one volume may start at once: the second waits, and finds it filled.
    rustix::fs::flock(&to, FlockOperation::LockExclusive).map_err(here)?;
    if names(to.as_fd()).map_err(here)?.is_empty() && !names(from.as_fd()).map_err(here)?.is_empty() {
        copy_directory(from.as_fd(), to.as_fd(), Path::new(""), &as_they_are)?;
    }
    Ok(())
}

/// Copies what the directory `from` holds into the empty directory `to`, each file with the owner and group that `owner` makes of
/// its own. Sockets, FIFOs, devices and extended attributes are left out; a file with several names becomes several files.
///
/// # Errors
/// [`MountError::Copy`] with the path below `from`.
pub fn copy_tree(from: &Path, to: &Path, owner: &Owner<'_>) -> Result<(), MountError> {
    let failed = |(path, source): Failure| MountError::Copy { path: from.join(path), source };
    let open =
        |path: &Path| open(CWD, path.as_os_str(), READ_DIRECTORY).map_err(|error| (PathBuf::new(), error.into()));
    let (source, copy) = (open(from).map_err(failed)?, open(to).map_err(failed)?);
    copy_directory(source.as_fd(), copy.as_fd(), Path::new(""), owner).map_err(failed)
}

/// Says who owns the copy of a file of this owner and group.
type Owner<'a> = dyn Fn(u32, u32) -> (u32, u32) + 'a;

fn as_they_are(uid: u32, gid: u32) -> (u32, u32) {
    (uid, gid)
}

fn ids(stat: &Stat, owner: &Owner<'_>) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = owner(stat.st_uid, stat.st_gid);
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            found.push(name);
        }
    }
    Ok(found)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, owner: &Owner<'_>) -> Result<(), Failure> {
    let here = |error: rustix::io::Errno| (path.to_owned(), io::Error::from(error));
    for name in names(from).map_err(here)? {
        let name = OsStr::from_bytes(&name);
        copy_entry(from, to, name, &path.join(name), owner)?;
    }
    let stat = rustix::fs::fstat(from).map_err(here)?;
    let (uid, gid) = ids(&stat, owner);
    rustix::fs::fchown(to, uid, gid).map_err(here)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(here)?;
    rustix::fs::futimens(to, &times(&stat)).map_err(here)
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    owner: &Owner<'_>,
) -> Result<(), Failure> {
    let here = |error: rustix::io::Errno| (path.to_owned(), io::Error::from(error));
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(here)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)).map_err(here)?;
            let below = open(from, name, READ_DIRECTORY).map_err(here)?;
            let copy = open(to, name, READ_DIRECTORY).map_err(here)?;
            copy_directory(below.as_fd(), copy.as_fd(), path, owner)
        }
        FileType::RegularFile => {
            let source = open(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC).map_err(here)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600)).map_err(here)?;
            copy_file(source, copy, &stat, owner).map_err(|error| (path.to_owned(), error))
        }
        FileType::Symlink => {
            let points_to = rustix::fs::readlinkat(from, name, Vec::new()).map_err(here)?;
            rustix::fs::symlinkat(&points_to, to, name).map_err(here)?;
            let (uid, gid) = ids(&stat, owner);
            rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(here)
        }
        _ => Ok(()),
    }
}

fn open(at: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn copy_file(source: OwnedFd, copy: OwnedFd, stat: &Stat, owner: &Owner<'_>) -> io::Result<()> {
    let (mut source, mut copy) = (File::from(source), File::from(copy));
    io::copy(&mut source, &mut copy)?;
    let (uid, gid) = ids(stat, owner);
    rustix::fs::fchown(&copy, uid, gid)?;
    // After the owner: chown clears the set-user-id bit.
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode))?;
    Ok(rustix::fs::futimens(&copy, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
