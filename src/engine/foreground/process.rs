//! The container's first process as its parent has it, and the signals that people send to the parent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::Pid;

use super::{Console, KILL_DEADLINE};
use crate::engine::LaunchError;
use crate::spec::ExitStatus;
use crate::sys::Child;
use crate::sys::pidfd::send_signal;
use crate::sys::signals::SignalReader;
use crate::sys::wait::{Children, reap, reap_blocking};

/// What ends a process by default and is sent to end one.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
/// Passed on besides these; the real-time ones too. Stopping and going on are between us and our shell.
const PASSED_ON: [i32; 6] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGIO, libc::SIGPWR, libc::SIGVTALRM];
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Reads the signals that are sent to this process.
#[derive(Debug)]
pub(in crate::engine) struct MainSignals(SignalReader);

impl MainSignals {
    /// Begins. Whatever is sent until the program runs waits for it.
    pub(in crate::engine) fn block() -> Result<Self, LaunchError> {
        let all = ENDING.into_iter().chain(PASSED_ON).chain(REAL_TIME).chain([libc::SIGWINCH]);
        SignalReader::block(all).map(Self).map_err(LaunchError::Signals)
    }
}

impl MainSignals {
    /// Begins with those alone that want an end; the others do what they do.
    pub(in crate::engine) fn block_ending() -> Result<Self, LaunchError> {
        SignalReader::block(ENDING).map(Self).map_err(LaunchError::Signals)
    }

    /// Takes what has been sent; says whether somebody wants an end.
    pub(in crate::engine) fn take_ending(&self) -> bool {
        let mut is_ending = false;
        while let Ok(Some(signal)) = self.0.take() {
            is_ending |= ENDING.contains(&signal);
        }
        is_ending
    }
}

impl AsFd for MainSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Is the container's first process. Dropping it before its end kills it and all of its PID namespace.
#[derive(Debug)]
pub(in crate::engine) struct MainProcess {
    child: Child,
    /// Also where it is none of ours any more.
    is_reaped: bool,
    /// The signal that we ended it in the name of.
    ended_by: Option<i32>,
}

impl MainProcess {
    pub(in crate::engine) fn new(child: Child) -> Self {
        Self { child, is_reaped: false, ended_by: None }
    }

    pub(in crate::engine) fn pid(&self) -> i32 {
        self.child.pid.as_raw_nonzero().get()
    }

    pub(in crate::engine) fn raw_pid(&self) -> Pid {
        self.child.pid
    }

    pub(in crate::engine) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Says whether we ended it in the name of a signal that was sent to us.
    pub(in crate::engine) fn is_ended_by_signal(&self) -> bool {
        self.ended_by.is_some()
    }

    /// Passes signals on.
    pub(in crate::engine) fn take_signals(
        &mut self,
        signals: &MainSignals,
        runs: bool,
        console: &mut dyn Console,
    ) -> Result<(), LaunchError> {
        while let Some(signal) = signals.0.take().map_err(LaunchError::Signals)? {
            match signal {
                libc::SIGWINCH => console.resize(),
                // The kernel keeps from a PID 1 what it has no handler for (pid_namespaces(7)). Anybody else would have
                // ended by it, and that is what the sender wants.
                _ if ENDING.contains(&signal) && (!runs || self.has_default_action(signal)) => {
                    self.ended_by = Some(signal);
                    self.kill();
                }
                // One that has ended needs none.
                _ => drop(send_signal(self.pidfd(), signal)),
            }
        }
        Ok(())
    }

    /// Says whether PID 1 neither catches nor ignores nor blocks a signal.
    fn has_default_action(&self, signal: i32) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid())) else { return false };
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        let masks = [mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")];
        masks.iter().flatten().all(|mask| mask & (1 << (signal - 1)) == 0)
    }

    /// Lets it live without us.
    pub(in crate::engine) fn release(mut self) {
        self.is_reaped = true;
    }

    fn kill(&self) {
        // One that has ended needs no signal.
        let _ = send_signal(self.pidfd(), libc::SIGKILL);
    }

    /// Takes the status of the process, which has ended.
    pub(in crate::engine) fn reap(&mut self) -> io::Result<ExitStatus> {
        let ended = reap_blocking(Children::PidFd(self.pidfd()))?;
        self.is_reaped = true;
        let status = ExitStatus::from(ended);
        Ok(match self.ended_by {
            Some(signal) if status == ExitStatus::Signal(libc::SIGKILL) => ExitStatus::Signal(signal),
            _ => status,
        })
    }
}

impl Drop for MainProcess {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        self.kill();
        let timeout = rustix::time::Timespec { tv_sec: KILL_DEADLINE.as_secs() as i64, tv_nsec: 0 };
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(self.pidfd(), rustix::event::PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        if !matches!(reap(Children::PidFd(self.pidfd())), Ok(Some(_))) {
            tracing::error!(pid = self.pid(), "the container's process does not end; it is stuck in the kernel");
        }
    }
}
