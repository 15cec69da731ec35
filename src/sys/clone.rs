//! clone3(2): one call makes a process together with all its namespaces.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::read_pseudo_record;

// clone3's two flags above 32 bits; libc has them in a type that is too small.
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Says what clone3(2) is to make.
#[derive(Debug, Default)]
pub struct CloneRequest<'a> {
    /// `CLONE_NEW*` bits of the namespaces that are made new.
    pub namespaces: u64,
    /// A cgroup v2 directory in which the child starts (CLONE_INTO_CGROUP, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Makes the child a sibling: the caller's parent becomes its parent (CLONE_PARENT).
    pub sibling: bool,
}

/// Is a child process, held by a descriptor that no other process can take the place of.
#[derive(Debug)]
pub struct Child {
    /// Its pid as the caller sees it.
    pub pid: Pid,
    /// Its pidfd (pidfd_open(2)), close-on-exec.
    pub pidfd: OwnedFd,
}

/// Says why a process could not be cloned.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// The caller has more than one thread: a lock held by another thread would stay locked for ever in the child.
    #[error("clone from a process with {threads} threads")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// /proc could not be asked how many threads there are.
    #[error("count the threads in /proc/self/status")]
    ReadStatus(#[source] io::Error),
    /// The kernel refused.
    #[error("clone3 with flags {flags:#x}")]
    Clone {
        /// The flags that were asked for.
        flags: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Proves that this process was cloned a moment ago and has one thread: it may clone once more without looking.
#[derive(Debug)]
pub struct Fresh {
    ignored: u64,
}

impl Fresh {
    /// Returns the signals that the process ignores, bit n - 1 for signal n: a new process inherits them.
    pub fn ignored_signals(&self) -> u64 {
        self.ignored
    }

    /// Clones again, where /proc/self is out of reach (a process whose children live in another pid namespace does not
    /// see itself in that namespace's /proc).
    ///
    /// # Errors
    /// [`CloneError::Clone`].
    pub fn clone_process(
        self,
        request: &CloneRequest<'_>,
        body: impl FnOnce(Self) -> Infallible,
    ) -> Result<Child, CloneError> {
        clone_unchecked(request, self.ignored, body)
    }

    /// Forks with fork(2), which seccomp filters allow where they refuse clone3(2). `body` runs in the child; the result
    /// is its pid.
    ///
    /// # Errors
    /// EAGAIN where a limit of processes is reached.
    pub fn fork_process(self, body: impl FnOnce() -> Infallible) -> io::Result<i32> {
        // SAFETY: this process has one thread (that is what `self` proves), so the child lacks none that holds a lock.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                exit_now(125)
            }
            pid => Ok(pid),
        }
    }
}

/// Says whether this process has one thread: one that was joined may still be counted for a moment.
///
/// # Errors
/// /proc cannot be read.
pub fn is_single_threaded() -> io::Result<bool> {
    read_status().map(|(threads, _)| threads == 1)
}

/// Clones this single-threaded process and runs `body` in the child, which has a copy of all our memory.
///
/// Signal handlers of ours are reset in the child (CLONE_CLEAR_SIGHAND); ignored signals stay ignored. A `body` that
/// panics ends the child with status 125: nothing of the parent's stack runs twice.
///
/// # Errors
/// [`CloneError::Threads`] where the caller is not single-threaded, which is what makes this function safe.
pub fn clone_process(request: &CloneRequest<'_>, body: impl FnOnce(Fresh) -> Infallible) -> Result<Child, CloneError> {
    let (threads, ignored) = read_status().map_err(CloneError::ReadStatus)?;
    if threads != 1 {
        return Err(CloneError::Threads { threads });
    }
    clone_unchecked(request, ignored, body)
}

/// For a caller that knows the process to be single-threaded.
fn clone_unchecked(
    request: &CloneRequest<'_>,
    ignored: u64,
    body: impl FnOnce(Fresh) -> Infallible,
) -> Result<Child, CloneError> {
    let mut pidfd: i32 = -1;
    let mut flags = request.namespaces | libc::CLONE_PIDFD as u64 | CLEAR_SIGHAND;
    if request.sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    if request.cgroup.is_some() {
        flags |= INTO_CGROUP;
    }
    let args = libc::clone_args {
        flags,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // With CLONE_PARENT the child signals what its sibling signals, and clone3 wants 0 here.
        exit_signal: if request.sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: request.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args` is a whole clone_args of the size given and `pidfd` outlives the call; no stack is given, so the
    // child goes on with a copy of ours (no CLONE_VM). The process has one thread (the callers know, and nobody else
    // can start one), so no lock of the allocator or of libc is held by a thread that the child lacks.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(CloneError::Clone { flags, source: io::Error::last_os_error() }),
        0 => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(Fresh { ignored })));
            exit_now(125)
        }
        pid => {
            // SAFETY: the kernel has just put a new descriptor of ours into `pidfd` (CLONE_PIDFD).
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid =
                Pid::from_raw(pid as i32).ok_or(CloneError::Clone { flags, source: io::Error::from(Errno::CHILD) })?;
            Ok(Child { pid, pidfd })
        }
    }
}

/// Ends this process at once: no destructors, no atexit handlers, no buffers flushed (_exit(2)).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any status and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// Returns the number of threads and the ignored signals of this process (proc_pid_status(5)).
fn read_status() -> io::Result<(usize, u64)> {
    let status = read_pseudo_record("/proc/self/status")?;
    let status = String::from_utf8_lossy(&status);
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let threads = line("Threads:").and_then(|text| text.parse().ok());
    let ignored = line("SigIgn:").and_then(|text| u64::from_str_radix(text, 16).ok());
    threads.zip(ignored).ok_or(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv().is_err());
        assert!(matches!(
            clone_process(&CloneRequest::default(), |_| exit_now(0)),
            Err(CloneError::Threads { threads }) if threads > 1
        ));
        drop(stop);
        assert!(other.join().unwrap());
    }
}
