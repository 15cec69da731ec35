//! Who runs in the foreground: one locked file a run. Its lock goes with its owner, however that ends; what is not
//! locked is what a killed run has left behind.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::engine::{ContainerFiles, RunningContainer};
use crate::spec::{ContainerId, ContainerRequest};
use crate::store::{FileLock, ProcessIdentity, StoreError};

/// Where the files lie, below the run directory.
const DIRECTORY: &str = "foreground";
/// Begins the name of a file that is not locked yet: nothing has been made in its name.
const NEW: &str = ".new-";

/// So long a process that was just cloned may outlive a killed parent.
const CHILD_ENDS: Duration = Duration::from_millis(200);
/// flock(2) has no time limit of its own.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Is the locked file of this run.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    _lock: FileLock,
}

/// Is the file of a run that was killed, locked by us now.
#[derive(Debug)]
pub(super) struct Stale {
    /// The container.
    pub(super) id: ContainerId,
    /// Its cgroup.
    pub(super) cgroup: String,
    path: PathBuf,
    _locked: File,
}

impl Claim {
    /// Claims an id before anything of it is made. The file gets its name when it is locked: a file of that name that
    /// is not locked has lost its owner.
    pub(super) fn take(run: &Path, id: &ContainerId, cgroup: &str) -> Result<Self, StoreError> {
        let (new, path) = Self::files(run, id);
        loop {
            let lock = match FileLock::acquire(&new) {
                Err(StoreError::Lock { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    make_directory(&run.join(DIRECTORY))?;
                    continue;
                }
                other => other?,
            };
            // Behind the pid that is there already. A disk too full for this line has the usual cgroup assumed.
            let _ = rustix::io::write(lock.as_fd(), format!("{cgroup}\n").as_bytes());
            match fs::rename(&new, &path) {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                // Another start took it for one that was left behind.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::Write { path, source }),
            }
        }
    }

    /// Makes a container that has a name known to those who may share a namespace with it.
    pub(super) fn tell(&self, request: &ContainerRequest, files: &ContainerFiles, pid: i32) {
        if request.name == request.id.short() {
            return;
        }
        let Ok(Some(process)) = ProcessIdentity::of(pid) else { return };
        let running = RunningContainer {
            id: request.id.clone(),
            name: request.name.clone(),
            process,
            hostname: request.hostname.clone(),
            domainname: request.domainname.clone(),
            directory: files.directory().to_owned(),
        };
        // Without this line nobody finds it, and that is all.
        let line = serde_json::to_string(&running).map(|line| line + "\n");
        let _ = line.map(|line| rustix::io::write(self._lock.as_fd(), line.as_bytes()));
    }

    /// Names the file before it is locked, and then.
    pub(super) fn files(run: &Path, id: &ContainerId) -> (PathBuf, PathBuf) {
        let directory = run.join(DIRECTORY);
        (directory.join(format!("{NEW}{}", id.as_str())), directory.join(id.as_str()))
    }

    /// Gives the id up, after everything of it is gone.
    pub(super) fn release(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StoreError::Directory { path: path.to_owned(), source })
}

/// Lists the containers with names that run in the foreground.
pub fn running(run: &Path) -> Vec<RunningContainer> {
    let Ok(entries) = fs::read_dir(run.join("foreground")) else { return Vec::new() };
    let read = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        serde_json::from_str::<RunningContainer>(text.lines().nth(2)?).ok()
    };
    entries.flatten().filter_map(read).filter(|container| container.process.is_alive()).collect()
}

impl Stale {
    /// Forgets the run, after everything of it is gone.
    pub(super) fn release(self) {
        // It is found again by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Finds the runs that were killed, but for `own`, and locks them: nobody else clears them meanwhile.
pub(super) fn stale(run: &Path, parent: &str, own: Option<&ContainerId>) -> Vec<Stale> {
    // Without the directory nothing has run; one that cannot be read is told of by whoever writes to it.
    let Ok(entries) = fs::read_dir(run.join("foreground")) else { return Vec::new() };
    let others = entries.flatten().filter(|entry| own.is_none_or(|own| entry.file_name() != own.as_str()));
    others.filter_map(|entry| look(entry.path(), parent)).collect()
}

fn look(path: PathBuf, parent: &str) -> Option<Stale> {
    let name = path.file_name()?.to_str()?;
    let id: ContainerId = name.strip_prefix(NEW).unwrap_or(name).parse().ok()?;
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() && !(is_orphaned(&file) && lock_soon(&file)) {
        return None;
    }
    if name.starts_with(NEW) {
        // Killed before it got its name, or not locked yet: then its owner makes another.
        let _ = fs::remove_file(&path);
        return None;
    }
    // Its owner has removed it since it was opened here, and nothing is left.
    path.symlink_metadata().ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let cgroup = text.lines().nth(1).map_or_else(|| format!("{parent}/{}", id.as_str()), str::to_owned);
    Some(Stale { id, cgroup, path, _locked: file })
}

/// Says whether the owner that the file names is gone while the lock is held. Then a process that it had cloned just before holds
/// it still: that one ends, too, or is about to close what is not its own.
fn is_orphaned(mut file: &File) -> bool {
    let pid = FileLock::holder_in(file).and_then(Pid::from_raw);
    file.rewind().is_ok() && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

fn lock_soon(file: &File) -> bool {
    let deadline = Instant::now() + CHILD_ENDS;
    while Instant::now() < deadline {
        thread::sleep(LOOK_AGAIN);
        if flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_lives_and_what_is_not_is_found() {
        let run = tempfile::tempdir().unwrap();
        let ids = [ContainerId::generate(), ContainerId::generate()];
        assert!(stale(run.path(), "/p", None).is_empty());
        let alive = Claim::take(run.path(), &ids[0], "/q/a").unwrap();
        drop(Claim::take(run.path(), &ids[1], "/q/b").unwrap());
        let found = stale(run.path(), "/p", None);
        assert_eq!(found.iter().map(|stale| (&stale.id, &stale.cgroup[..])).collect::<Vec<_>>(), [(&ids[1], "/q/b")]);
        assert!(stale(run.path(), "/p", None).is_empty(), "another start clears nothing twice");
        found.into_iter().for_each(Stale::release);
        alive.release().unwrap();
        assert_eq!(fs::read_dir(run.path().join("foreground")).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_that_a_dying_child_still_holds_is_waited_for() {
        let run = tempfile::tempdir().unwrap();
        let id = ContainerId::generate();
        let claim = Claim::take(run.path(), &id, "/q/a").unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let path = run.path().join("foreground").join(id.as_str());
        let own = std::process::id();
        let text = fs::read_to_string(&path).unwrap();
        let of_the_gone = text.replacen(&format!("{own:<10}"), &format!("{:<10}", gone.id()), 1);
        assert_ne!(text, of_the_gone, "the claim begins with the pid of its owner");
        fs::write(&path, of_the_gone).unwrap();
        let held = claim._lock.as_fd().try_clone_to_owned().unwrap();
        drop(claim);
        let (begin, begun) = std::sync::mpsc::channel();
        let child = thread::spawn(move || {
            begun.recv().unwrap();
            thread::sleep(CHILD_ENDS / 10);
            drop(held);
        });
        begin.send(()).unwrap();
        let found = stale(run.path(), "/p", None);
        assert_eq!(found.iter().map(|stale| &stale.cgroup[..]).collect::<Vec<_>>(), ["/q/a"]);
        child.join().unwrap();
    }

    #[test]
    fn a_file_without_its_second_line_names_the_usual_cgroup() {
        let run = tempfile::tempdir().unwrap();
        let id = ContainerId::generate();
        fs::create_dir(run.path().join("foreground")).unwrap();
        fs::write(run.path().join("foreground").join(id.as_str()), "").unwrap();
        let new = run.path().join("foreground").join(format!("{NEW}{}", ContainerId::generate().as_str()));
        fs::write(&new, "").unwrap();
        let found = stale(run.path(), "/p", None);
        assert_eq!((found.len(), &found[0].cgroup), (1, &format!("/p/{}", id.as_str())));
        assert!(!new.exists());
    }
}
