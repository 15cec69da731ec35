//! waitid(2) with every signal number: the enums of nix and rustix stop at 31, containers die of SIGRTMIN+3 too.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Tells how a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// The status it gave to _exit, or the signal that killed it.
    pub status: i32,
    /// Says which of the two.
    pub signaled: bool,
}

/// Names the children that are asked about.
#[derive(Clone, Copy, Debug)]
pub enum Children<'fd> {
    /// All of them.
    Any,
    /// The one with this process id.
    Pid(i32),
    /// The one behind this pidfd.
    PidFd(BorrowedFd<'fd>),
}

/// Looks whether a child has ended and leaves it a zombie, so that its status is still there for others.
///
/// # Errors
/// ECHILD where there is no such child.
pub fn peek(children: Children<'_>) -> io::Result<Option<Ended>> {
    wait(children, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Takes the status of a child if it has ended; its process id is free then.
///
/// # Errors
/// ECHILD where there is no such child.
pub fn reap(children: Children<'_>) -> io::Result<Option<Ended>> {
    wait(children, libc::WEXITED | libc::WNOHANG)
}

/// Waits until a child has ended and takes its status.
///
/// # Errors
/// ECHILD where there is no such child.
pub fn reap_blocking(children: Children<'_>) -> io::Result<Ended> {
    loop {
        if let Some(ended) = wait(children, libc::WEXITED)? {
            return Ok(ended);
        }
    }
}

fn wait(children: Children<'_>, options: libc::c_int) -> io::Result<Option<Ended>> {
    let (kind, id) = match children {
        Children::Any => (libc::P_ALL, 0),
        Children::Pid(pid) => (libc::P_PID, pid.cast_unsigned()),
        Children::PidFd(fd) => (libc::P_PIDFD, fd.as_raw_fd().cast_unsigned()),
    };
    // SAFETY: siginfo_t is plain old data of the kernel's; all zeroes is a value of it (si_signo 0: nothing).
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is a live siginfo_t that waitid(2) fills; it keeps no pointer to it.
        if unsafe { libc::waitid(kind, id, &raw mut info, options) } == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: waitid(2) filled the SIGCHLD part of `info`, or left it zeroed where no child has ended.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok(Some(Ended { pid, status, signaled: info.si_code != libc::CLD_EXITED }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Starts a shell command; waiting for it is what is tested.
    fn start(script: &str) -> i32 {
        Command::new("/bin/sh").args(["-c", script]).spawn().unwrap().id().cast_signed()
    }

    #[test]
    fn a_peeked_child_is_still_there() {
        let pid = start("exit 7");
        let ended = loop {
            if let Some(ended) = peek(Children::Pid(pid)).unwrap() {
                break ended;
            }
            std::thread::yield_now();
        };
        assert_eq!(ended, Ended { pid, status: 7, signaled: false });
        assert_eq!(reap_blocking(Children::Pid(pid)).unwrap(), ended);
        assert!(reap(Children::Pid(pid)).is_err());
    }

    #[test]
    fn real_time_signals_have_numbers() {
        let ended = reap_blocking(Children::Pid(start("kill -37 $$"))).unwrap();
        assert_eq!((ended.status, ended.signaled), (37, true));
    }
}
