//! Raw bytes between our terminal or pipes and a command in a container. None of our own descriptors goes inside: the
//! command has a terminal or pipes of its own, and we carry the bytes.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::output::RawOutput;
use super::report::CliError;

/// How long a relay sleeps before it looks whether the command has ended.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Is our terminal in raw mode, until it is dropped: also by a panic, which unwinds.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal on standard input into raw mode (termios(3)).
    ///
    /// # Errors
    /// [`CliError::Terminal`].
    pub fn enter() -> Result<Self, CliError> {
        let failed = |source: io::Error| CliError::Terminal { operation: "put the terminal into raw mode", source };
        let terminal = rustix::stdio::stdin().try_clone_to_owned().map_err(failed)?;
        let before = tcgetattr(&terminal).map_err(|errno| failed(errno.into()))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw).map_err(|errno| failed(errno.into()))?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A background process that sets its terminal is stopped by SIGTTOU; that is the shell's to sort out.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Gives a terminal the size of ours.
pub fn copy_size(to: impl AsFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        // The other end may just be gone.
        let _ = tcsetwinsize(to, size);
    }
}

/// Carries bytes from a descriptor of the command to one of ours, in a thread.
#[derive(Debug)]
pub struct Relay {
    thread: JoinHandle<io::Result<()>>,
    has_ended: Arc<AtomicBool>,
}

impl Relay {
    /// Starts to carry.
    ///
    /// # Errors
    /// What pthread_create(3) says.
    pub fn start(from: OwnedFd, to: RawOutput) -> io::Result<Self> {
        let has_ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&has_ended);
        let thread = thread::Builder::new().name("relay".into()).spawn(move || carry(&from, to, &flag))?;
        Ok(Self { thread, has_ended })
    }

    /// Carries what is left now that the command has ended, and ends. What a process that it left behind may still
    /// write is nobody's to wait for.
    ///
    /// # Errors
    /// The first error of the output.
    pub fn finish(self) -> io::Result<()> {
        self.has_ended.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the relay panicked")))
    }
}

fn carry(from: &OwnedFd, mut to: RawOutput, has_ended: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut result = Ok(());
    loop {
        // Looked at before the wait: what was written before the end is then in the pipe.
        let was_over = has_ended.load(Ordering::Acquire);
        let mut fds = [PollFd::new(from, PollFlags::IN)];
        let timeout = if was_over { Timespec::default() } else { LOOK };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if was_over => return result,
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match rustix::io::read(from, &mut buffer) {
            // EIO: the last process with the terminal open is gone.
            Ok(0) | Err(Errno::IO) => return result,
            // A reader of ours that is gone must not fill the pipe and stop the command: its SIGPIPE would be ours.
            Ok(count) if result.is_ok() => result = io::Write::write_all(&mut to, &buffer[..count]),
            Ok(_) => return result,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Carries standard input to a descriptor until its end, in a thread that is left to itself: nothing can take it out of a
/// read(2) that waits for a key, and it ends with the process.
///
/// # Errors
/// What pthread_create(3) says.
pub fn relay_stdin(to: OwnedFd) -> io::Result<()> {
    let mut to = RawOutput::from(to);
    // An end that is closed is dropped with the closure, and the command reads its end of file.
    let relay = move || io::copy(&mut UnbufferedStdin, &mut to);
    thread::Builder::new().name("stdin".into()).spawn(relay).map(drop)
}

struct UnbufferedStdin;

impl Read for UnbufferedStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin: BorrowedFd<'_> = rustix::stdio::stdin();
        loop {
            match rustix::io::read(stdin, &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
