use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::StoreError;

/// How long the line with the holder's pid is, in bytes. All pids take the same room, so that nothing has to be cut off when
/// another holder writes: ext4 writes a file that was truncated to the disk when it is closed.
const HOLDER_LINE: u64 = 11;

/// Is a held lock on a file (flock(2)).
///
/// The lock belongs to the open file description: every duplicate of the descriptor, in this process or another, holds
/// it, and it ends when the last is closed, however its owners die. For that reason dropping closes and never unlocks.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock, waiting as long as it takes. The file is made if need be, its directory is not.
    ///
    /// # Errors
    /// [`StoreError::Lock`].
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        loop {
            let file = open(path)?;
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => {
                    if let Some(lock) = Self::confirm(file, path)? {
                        return Ok(lock);
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(path, errno.into())),
            }
        }
    }

    /// Takes the lock on a directory that is there, waiting as long as it takes: it leaves no file.
    ///
    /// # Errors
    /// [`StoreError::Lock`].
    pub fn acquire_directory(path: &Path) -> Result<Self, StoreError> {
        let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = opened.map_err(|source| failed(path, source))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| failed(path, errno.into()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the holder's pid when somebody does.
    pub fn try_acquire(path: &Path) -> Result<Self, StoreError> {
        loop {
            let file = open(path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    if let Some(lock) = Self::confirm(file, path)? {
                        return Ok(lock);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(StoreError::Locked { path: path.to_owned(), holder: Self::holder_in(&file) });
                }
                Err(errno) => return Err(failed(path, errno.into())),
            }
        }
    }

    /// Takes over a lock whose descriptor was inherited or received, and writes this process into the file.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when the description does not hold the lock and somebody else does.
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Result<Self, StoreError> {
        let file = File::from(fd);
        // Locking again what one's own description holds changes nothing (flock(2)).
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked { path: path.to_owned(), holder: Self::holder_in(&file) });
            }
            Err(errno) => return Err(failed(path, errno.into())),
        }
        let lock = Self { file, path: path.to_owned() };
        lock.write_holder();
        Ok(lock)
    }

    /// Gives the descriptor, close-on-exec, to be passed on; the lock lives as long as any duplicate of it.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }

    /// Returns the lock file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads which process last wrote itself into a lock file. It may have ended since: good for messages only.
    pub fn holder(path: &Path) -> Option<i32> {
        Self::holder_in(&File::open(path).ok()?)
    }

    /// Reads from an open lock file which process last wrote itself into it. What its owner wrote behind that line is not read.
    pub fn holder_in(mut file: &File) -> Option<i32> {
        let mut text = String::new();
        file.rewind().ok()?;
        file.take(HOLDER_LINE).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// Keeps the lock if the path still names this file: whoever held it before may have removed it with its directory.
    fn confirm(file: File, path: &Path) -> Result<Option<Self>, StoreError> {
        let ours = file.metadata().map_err(|source| failed(path, source))?;
        match std::fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                let lock = Self { file, path: path.to_owned() };
                lock.write_holder();
                Ok(Some(lock))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed(path, source)),
        }
    }

    /// Notes our pid for messages; a full disk does not make the lock worse.
    fn write_holder(&self) {
        let mut file = &self.file;
        let line = format!("{:<10}\n", std::process::id());
        let _ = file.rewind().and_then(|()| file.write_all(line.as_bytes()));
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits() as i32
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
        .map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Lock { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn is_held(path: &Path) -> bool {
        matches!(FileLock::try_acquire(path), Err(StoreError::Locked { .. }))
    }

    #[test]
    fn a_second_taker_learns_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path).unwrap();
        let error = FileLock::try_acquire(&path).unwrap_err();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(error, StoreError::Locked { holder: Some(pid), .. } if pid == own), "{error}");
        assert!(is_held(&path));
        drop(lock);
        FileLock::try_acquire(&path).unwrap();
    }

    #[test]
    fn a_duplicate_keeps_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path).unwrap();
        let passed_on = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        assert!(is_held(&path));
        let taken_over = FileLock::from_fd(passed_on, &path).unwrap();
        drop(taken_over);
        assert!(!is_held(&path));
    }

    #[test]
    fn a_waiter_does_not_keep_a_lock_on_a_removed_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::acquire(&path).unwrap();
        let (sender, receiver) = mpsc::channel();
        let waiter = {
            let path = path.clone();
            std::thread::spawn(move || {
                let lock = FileLock::acquire(&path).unwrap();
                sender.send(()).unwrap();
                lock
            })
        };
        std::fs::remove_file(&path).unwrap();
        drop(first);
        receiver.recv().unwrap();
        assert!(is_held(&path), "the waiter holds the file that has the name");
        drop(waiter.join().unwrap());
    }

    #[test]
    fn a_directory_is_locked_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FileLock::acquire_directory(dir.path()).unwrap();
        let other = File::open(dir.path()).unwrap();
        let try_lock = || rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(try_lock(), Err(Errno::WOULDBLOCK));
        drop(lock);
        assert_eq!(try_lock(), Ok(()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(FileLock::try_acquire(&path), Err(StoreError::Lock { .. })));
    }
}
