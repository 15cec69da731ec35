//! A container's first process while it is made, and the file that names it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use super::OciError;
use super::delete::wait_for_end;
use super::state::file;
use crate::store::ProcessIdentity;
use crate::sys::Child;
use crate::sys::pidfd::send_signal;
use crate::sys::wait::{Children, reap_blocking};

/// So long the kernel may take to end one that has SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// Is a process that is killed and reaped with whoever makes it, until it is let go.
#[derive(Debug)]
pub(super) struct FirstProcess {
    pid: Pid,
    /// Until it is let go.
    pidfd: Option<OwnedFd>,
}

impl FirstProcess {
    pub(super) fn new(child: Child) -> Self {
        Self { pid: child.pid, pidfd: Some(child.pidfd) }
    }

    pub(super) fn raw_pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Names it for ever. It is our child and not reaped: its entry in /proc is there.
    pub(super) fn identity(&self) -> Result<ProcessIdentity, OciError> {
        ProcessIdentity::of(self.pid())?.ok_or(OciError::Died { during: "created", out_of_memory: false })
    }

    /// Lets it live.
    pub(super) fn release(mut self) -> Child {
        #[expect(clippy::unwrap_used, reason = "nothing else takes it, and this takes the whole")]
        let pidfd = self.pidfd.take().unwrap();
        Child { pid: self.pid, pidfd }
    }
}

impl FirstProcess {
    /// Kills it; says whether it has ended. One that is stuck in the kernel is left to whoever adopts it.
    pub(super) fn end(self) -> bool {
        self.kill()
    }

    fn kill(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return true };
        let _ = send_signal(pidfd.as_fd(), libc::SIGKILL);
        let ended = wait_for_end(pidfd, KILL_DEADLINE);
        if ended {
            let _ = reap_blocking(Children::PidFd(pidfd.as_fd()));
        }
        ended
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Is what a new process has as its three streams. One that will have a terminal gets /dev/null until then: whoever reads what
/// `create` says to its end must not wait for the container's.
#[derive(Debug)]
pub(super) struct FirstStreams {
    null: Option<File>,
}

impl FirstStreams {
    /// Opens them.
    pub(super) fn of(wants_terminal: bool) -> Result<Self, OciError> {
        let open = || File::options().read(true).write(true).open("/dev/null");
        Ok(Self { null: wants_terminal.then(open).transpose().map_err(OciError::kernel("open /dev/null"))? })
    }

    pub(super) fn stdin(&self) -> BorrowedFd<'_> {
        self.null.as_ref().map_or(rustix::stdio::stdin(), AsFd::as_fd)
    }

    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.null.as_ref().map_or(rustix::stdio::stdout(), AsFd::as_fd)
    }

    pub(super) fn stderr(&self) -> BorrowedFd<'_> {
        self.null.as_ref().map_or(rustix::stdio::stderr(), AsFd::as_fd)
    }
}

/// Writes a process id, in digits, for whoever waits for the file: it is there whole or not at all.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<(), OciError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::write(&temporary, pid.to_string()).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        file("write", path)(source)
    })
}
