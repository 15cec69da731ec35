//! The pipes a container writes its output to.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::pipe::PipeFlags;

use super::error::LogError;

/// What a pipe holds while its reader is away. The kernel takes memory only for what is in it.
const PIPE_SIZE: usize = 256 * 1024;

/// Makes a pipe for one stream of a container: (our end, the container's end), both close-on-exec.
///
/// The container's end is opened for reading *and* writing, so that the pipe has a reader as long as the container holds
/// it: a write when all of ours are dead waits, where SIGPIPE would kill the writer. The pipe belongs to the container's
/// user, who may open /dev/stdout, which is this pipe, by name.
///
/// # Errors
/// [`LogError::Pipe`].
pub fn make_stdio_pipe(uid: u32, gid: u32) -> Result<(OwnedFd, OwnedFd), LogError> {
    let failed = |errno: rustix::io::Errno| LogError::Pipe(errno.into());
    let (reader, write_only) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let name = format!("/proc/self/fd/{}", write_only.as_raw_fd());
    let writer = rustix::fs::openat(CWD, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    rustix::fs::fchown(&writer, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
    // Beyond fs.pipe-max-size or fs.pipe-user-pages-soft the kernel says no; the usual 64 KiB do as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_SIZE);
    Ok((reader, writer))
}

/// Names a pipe among all pipes of the machine: its inode number.
///
/// # Errors
/// [`LogError::Pipe`].
pub fn pipe_inode(pipe: BorrowedFd<'_>) -> Result<u64, LogError> {
    rustix::fs::fstat(pipe).map(|found| found.st_ino).map_err(|errno| LogError::Pipe(errno.into()))
}

/// Opens the reading end of a running container's pipe again, when all that held it are dead.
///
/// `fd` is 1 or 2. `None` when the process has something else there than the pipe with the recorded inode.
///
/// # Errors
/// [`LogError::Pipe`] when there is no such process or descriptor.
pub fn reopen_stdio_pipe(pid: i32, fd: i32, inode: u64) -> Result<Option<OwnedFd>, LogError> {
    let name = format!("/proc/{pid}/fd/{fd}");
    let failed = |errno: rustix::io::Errno| LogError::Pipe(errno.into());
    // What it is shows before it is opened for reading: opening a device or a FIFO of the container's could do harm.
    let probe = rustix::fs::openat(CWD, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    if pipe_inode(probe.as_fd())? != inode || !is_pipe(&probe) {
        return Ok(None);
    }
    let again = format!("/proc/self/fd/{}", probe.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, again, flags, Mode::empty()).map(Some).map_err(failed)
}

/// Says whether a descriptor is of a pipe without a name: a FIFO of any file system could have the same inode number.
fn is_pipe(fd: &OwnedFd) -> bool {
    const PIPEFS_MAGIC: i128 = 0x5049_5045;
    rustix::fs::fstatfs(fd).is_ok_and(|found| i128::from(found.f_type) == PIPEFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_writer_outlives_its_readers() {
        let (reader, writer) = make_stdio_pipe(1234, 1235).unwrap();
        let inode = pipe_inode(reader.as_fd()).unwrap();
        drop(reader);
        let mut writer = File::from(writer);
        writer.write_all(b"still here").unwrap();
        let found = writer.metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.ino()), (1234, 1235, inode));
        let pid = i32::try_from(std::process::id()).unwrap();
        let reader = reopen_stdio_pipe(pid, writer.as_raw_fd(), inode).unwrap().unwrap();
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
    }

    #[test]
    fn another_file_is_not_taken_for_the_pipe() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let (reader, _writer) = make_stdio_pipe(0, 0).unwrap();
        let inode = pipe_inode(reader.as_fd()).unwrap();
        assert!(reopen_stdio_pipe(pid, reader.as_raw_fd(), inode + 1).unwrap().is_none());
        let file = tempfile::tempfile().unwrap();
        let inode = file.metadata().unwrap().ino();
        assert!(reopen_stdio_pipe(pid, file.as_raw_fd(), inode).unwrap().is_none());
        assert!(reopen_stdio_pipe(pid, 1 << 20, inode).is_err());
    }
}
