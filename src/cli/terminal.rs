//! Raw bytes between our terminal or pipes and a command in a container. None of our own descriptors goes inside: the
//! command has a terminal or pipes of its own, and we carry the bytes.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::output::RawOutput;
use super::report::CliError;

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
    /// Open as long as the command runs: the relay sleeps until there is something to carry, or this is closed.
    runs: PipeWriter,
}

impl Relay {
    /// Starts to carry.
    ///
    /// # Errors
    /// What pipe(2) and pthread_create(3) say.
    pub fn start(from: OwnedFd, to: RawOutput) -> io::Result<Self> {
        let (ended, runs) = io::pipe()?;
        let thread = thread::Builder::new().name("relay".into()).spawn(move || carry(&from, to, &ended))?;
        Ok(Self { thread, runs })
    }

    /// Carries what is left now that the command has ended, and ends. What a process that it left behind may still
    /// write is nobody's to wait for.
    ///
    /// # Errors
    /// The first error of the output.
    pub fn finish(self) -> io::Result<()> {
        drop(self.runs);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the relay panicked")))
    }
}

fn carry(from: &OwnedFd, mut to: RawOutput, ended: &PipeReader) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut result = Ok(());
    let mut is_over = false;
    loop {
        let mut fds = [PollFd::new(from, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        // What was written before the end is in the pipe by now: it needs no waiting.
        let timeout = Timespec::default();
        let waited = if is_over { poll(&mut fds[..1], Some(&timeout)) } else { poll(&mut fds, None) };
        match waited {
            Ok(0) => return result,
            Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        is_over |= !fds[1].revents().is_empty();
        if fds[0].revents().is_empty() {
            continue;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// How often a thread of ours has given up the processor by itself.
    fn waits(name: &str) -> Option<u64> {
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            if status.lines().next().is_some_and(|line| line.ends_with(name)) {
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
                return line.split_whitespace().nth(1).unwrap().parse().ok();
            }
        }
        None
    }

    #[test]
    fn a_relay_sleeps_until_there_is_something_and_ends_though_the_other_end_is_open() {
        let (from, mut theirs) = io::pipe().unwrap();
        let (mut ours, to) = io::pipe().unwrap();
        let relay = Relay::start(from.into(), RawOutput::from(OwnedFd::from(to))).unwrap();
        theirs.write_all(b"one").unwrap();
        let mut heard = [0; 3];
        ours.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"one");
        // Nobody sleeps for the kernel to have been idle; a timer of 20 ms would fire five times here.
        let before = waits("relay");
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
        let woken = waits("relay").zip(before).map_or(0, |(after, before)| after - before);
        assert!(woken <= 1, "woken {woken} times while there was nothing");
        theirs.write_all(b"two").unwrap();
        relay.finish().unwrap();
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two");
    }
}
