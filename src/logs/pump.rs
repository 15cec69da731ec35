use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::error::LogError;
use super::frame::{PART, Stamp, Stream, Tail};
use super::writer::LogWriter;

/// The most that is taken from a pipe at a time.
const CHUNK: usize = 256 * 1024;
/// After so long a silence the beginning of a line is shown: it is a prompt.
const SILENCE: Duration = Duration::from_millis(20);
/// How often a full disk is tried again where the container says nothing more.
const RETRY: Duration = Duration::from_secs(1);

thread_local! {
    /// One for all pumps of a thread: it is used between two awaits only, and a container costs no memory by it.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch { input: vec![0; PART + CHUNK], batch: Vec::new() });
}

struct Scratch {
    input: Vec<u8>,
    batch: Vec<u8>,
}

/// Is our side of a container's output.
#[derive(Debug)]
pub enum ContainerOutput {
    /// The reading ends of two pipes, see [`make_stdio_pipe`](super::make_stdio_pipe).
    Pipes {
        /// Of standard output.
        stdout: OwnedFd,
        /// Of standard error.
        stderr: OwnedFd,
    },
    /// The master of the container's terminal, which has one stream.
    Terminal(OwnedFd),
}

/// Says why a pump stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PumpEnd {
    /// Nobody holds the other ends any more. The container may live on without (`exec >&-`).
    Closed,
    /// The drain was asked for, and what was in the pipes is in the log.
    Drained,
    /// The pump was stopped; the container goes on, and so can another pump.
    Paused,
}

/// Carries one container's output into its log.
#[derive(Debug)]
pub struct Pump {
    taps: Vec<Tap>,
    writer: LogWriter,
    /// Which stream is asked first: they take turns.
    turn: usize,
}

/// Is one stream of a container.
#[derive(Debug)]
struct Tap {
    stream: Stream,
    fd: AsyncFd<OwnedFd>,
    /// The beginning of a line, at most [`PART`] bytes.
    held: Vec<u8>,
    /// When something was last read.
    heard: Instant,
    ended: bool,
}

/// Is what one read found.
enum Taken {
    Bytes(usize),
    End,
}

impl Pump {
    /// Takes over the descriptors. To be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`LogError::Output`] for a descriptor that cannot be waited for, such as a file.
    pub fn new(output: ContainerOutput, writer: LogWriter) -> Result<Self, LogError> {
        let ends = match output {
            ContainerOutput::Pipes { stdout, stderr } => vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)],
            ContainerOutput::Terminal(master) => vec![(Stream::Stdout, master)],
        };
        let taps = ends.into_iter().map(|(stream, fd)| Tap::new(stream, fd)).collect::<Result<_, _>>()?;
        Ok(Self { taps, writer, turn: 0 })
    }

    /// Pumps until the other ends are closed or, once `drain` is ready, until the pipes are empty.
    ///
    /// `drain` should become ready when the container has ended: what it wrote is in the pipes by then. Dropping the
    /// future loses nothing; the pump can run again.
    pub async fn run(&mut self, drain: impl Future<Output = ()>) -> PumpEnd {
        let mut drain = pin!(drain);
        let mut since_turn = 0;
        while self.taps.iter().any(|tap| !tap.ended) {
            let silent_at = self.silent_at();
            let loss = self.writer.has_unreported_loss();
            tokio::select! {
                biased;
                () = &mut drain => {
                    self.drain();
                    return PumpEnd::Drained;
                }
                count = poll_fn(|context| self.poll_chunk(context)) => {
                    // One stream may be silent while the other floods.
                    self.show_overdue();
                    // So much, and the other tasks of the thread get their turn; that costs an epoll_wait(2), and small
                    // writes would pay for it each.
                    since_turn += count;
                    if since_turn >= CHUNK {
                        since_turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
                () = tokio::time::sleep_until(silent_at.unwrap_or_else(Instant::now)), if silent_at.is_some() => {
                    self.show_overdue();
                }
                () = tokio::time::sleep(RETRY), if loss => {
                    self.writer.report_loss(&Stamp::now());
                }
            }
        }
        PumpEnd::Closed
    }

    /// Writes down the beginnings of lines, so that nothing is in our memory alone. Another pump may go on.
    pub fn pause(&mut self) {
        for tap in &mut self.taps {
            tap.release(&mut self.writer, Tail::Part);
        }
    }

    /// Gives back the log, for a note in it or the container's next run.
    pub fn into_writer(self) -> LogWriter {
        self.writer
    }

    /// Returns the log.
    pub fn writer(&mut self) -> &mut LogWriter {
        &mut self.writer
    }

    /// Takes one chunk of whichever stream has one; returns its length.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        for _ in 0..self.taps.len() {
            self.turn = (self.turn + 1) % self.taps.len();
            let tap = &mut self.taps[self.turn];
            if tap.ended {
                continue;
            }
            if let Poll::Ready(count) = tap.poll_chunk(&mut self.writer, context) {
                tap.heard = Instant::now();
                return Poll::Ready(count);
            }
        }
        Poll::Pending
    }

    /// Says when the first beginning of a line has waited long enough for its rest.
    fn silent_at(&self) -> Option<Instant> {
        self.taps.iter().filter(|tap| !tap.held.is_empty()).map(|tap| tap.heard + SILENCE).min()
    }

    fn show_overdue(&mut self) {
        let now = Instant::now();
        for tap in self.taps.iter_mut().filter(|tap| tap.heard + SILENCE <= now) {
            tap.release(&mut self.writer, Tail::Part);
        }
    }

    /// Takes what is in the pipes and ends.
    fn drain(&mut self) {
        for tap in &mut self.taps {
            // No more was in it when the container ended, and somebody else may write for ever.
            let mut most = rustix::pipe::fcntl_getpipe_size(tap.fd.get_ref()).unwrap_or(1 << 20);
            while let Ok(Taken::Bytes(count)) = SCRATCH.with_borrow_mut(|scratch| tap.take(scratch, &mut self.writer)) {
                most = most.saturating_sub(count);
                if most == 0 {
                    break;
                }
            }
            if !tap.ended {
                tap.end(&mut self.writer);
            }
        }
    }
}

impl Tap {
    fn new(stream: Stream, fd: OwnedFd) -> Result<Self, LogError> {
        let failed = |errno: Errno| LogError::Output(errno.into());
        // The flag belongs to the open file description: duplicates in the keeper get it too, the container's end,
        // which was opened anew, does not.
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(failed)?;
        let fd = wait_on(fd).map_err(LogError::Output)?;
        Ok(Self { stream, fd, held: Vec::new(), heard: Instant::now(), ended: false })
    }

    /// Ready with the length of the chunk that was taken, 0 when the stream ended.
    fn poll_chunk(&mut self, writer: &mut LogWriter, context: &mut Context<'_>) -> Poll<usize> {
        loop {
            let Ok(mut guard) = ready!(self.fd.poll_read_ready(context)) else {
                self.end(writer);
                return Poll::Ready(0);
            };
            let read = SCRATCH
                .with_borrow_mut(|scratch| take(guard.get_inner(), self.stream, &mut self.held, scratch, writer));
            match read {
                Ok(Taken::Bytes(count)) => return Poll::Ready(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Ok(Taken::End) | Err(_) => {
                    self.end(writer);
                    return Poll::Ready(0);
                }
            }
        }
    }

    fn take(&mut self, scratch: &mut Scratch, writer: &mut LogWriter) -> io::Result<Taken> {
        take(self.fd.get_ref(), self.stream, &mut self.held, scratch, writer)
    }

    /// Writes down the beginning of a line that waits for its rest.
    fn release(&mut self, writer: &mut LogWriter, tail: Tail) {
        if !self.held.is_empty() {
            SCRATCH.with_borrow_mut(|scratch| {
                writer.append_with(&mut scratch.batch, self.stream, &self.held, &Stamp::now(), tail);
            });
            // A silent container shall hold no memory for its last prompt.
            self.held = Vec::new();
        }
    }

    fn end(&mut self, writer: &mut LogWriter) {
        self.release(writer, Tail::End);
        writer.close(self.stream, &Stamp::now());
        self.ended = true;
    }
}

/// Registers a descriptor with the runtime, to be read.
#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe; an OwnedFd names one descriptor all its life"
)]
pub(super) fn wait_on(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)
}

/// Reads once, behind the held beginning of a line, and appends what is whole.
fn take(
    fd: &OwnedFd,
    stream: Stream,
    held: &mut Vec<u8>,
    scratch: &mut Scratch,
    writer: &mut LogWriter,
) -> io::Result<Taken> {
    let Scratch { input, batch } = scratch;
    let start = held.len();
    let count = loop {
        match rustix::io::read(fd, &mut input[start..start + CHUNK]) {
            Ok(0) => return Ok(Taken::End),
            // The last user of a terminal's other side is gone.
            Err(Errno::IO) => return Ok(Taken::End),
            Ok(count) => break count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    input[..start].copy_from_slice(held);
    let chunk = &input[..start + count];
    let taken = writer.append_with(batch, stream, chunk, &Stamp::now(), Tail::Keep);
    held.clear();
    held.extend_from_slice(&chunk[taken..]);
    Ok(Taken::Bytes(count))
}

#[cfg(test)]
mod tests {
    use super::super::frame::Line;
    use super::super::make_stdio_pipe;
    use super::*;
    use std::fs::{self, File};
    use std::future::pending;
    use std::io::Write;
    use std::path::Path;

    struct Rig {
        dir: tempfile::TempDir,
        stdout: Option<File>,
        stderr: Option<File>,
        pump: Pump,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (stdout, out) = make_stdio_pipe(0, 0).unwrap();
        let (stderr, err) = make_stdio_pipe(0, 0).unwrap();
        let writer = LogWriter::open(dir.path(), None).unwrap();
        let pump = Pump::new(ContainerOutput::Pipes { stdout, stderr }, writer).unwrap();
        Rig { dir, stdout: Some(out.into()), stderr: Some(err.into()), pump }
    }

    /// The output that a log holds: (stdout, stderr, number of parts).
    fn output(directory: &Path) -> (Vec<u8>, Vec<u8>, usize) {
        let (mut out, mut err, mut parts) = (Vec::new(), Vec::new(), 0);
        let bytes = fs::read(directory.join("log")).unwrap();
        for line in bytes.split(|b| *b == b'\n').filter_map(Line::parse) {
            let to = if line.stream == Stream::Stdout { &mut out } else { &mut err };
            to.extend_from_slice(line.text);
            parts += usize::from(line.partial);
            if !line.partial {
                to.push(b'\n');
            }
        }
        (out, err, parts)
    }

    #[tokio::test]
    async fn it_ends_when_both_streams_are_closed() {
        let mut rig = rig();
        rig.stdout.take().unwrap().write_all(b"one\ntwo\nrest").unwrap();
        rig.stderr.take().unwrap().write_all(b"\0\xff\x1b[1m\n").unwrap();
        assert_eq!(rig.pump.run(pending()).await, PumpEnd::Closed);
        let (out, err, parts) = output(rig.dir.path());
        assert_eq!((&out[..], &err[..], parts), (&b"one\ntwo\nrest\n"[..], &b"\0\xff\x1b[1m\n"[..], 0));
    }

    #[tokio::test]
    async fn a_closed_stdout_does_not_end_stderr() {
        let mut rig = rig();
        drop(rig.stdout.take());
        let mut stderr = rig.stderr.take().unwrap();
        let writer = async {
            tokio::task::yield_now().await;
            stderr.write_all(b"alive\n").unwrap();
            drop(stderr);
        };
        let (end, ()) = tokio::join!(rig.pump.run(pending()), writer);
        assert_eq!((end, &output(rig.dir.path()).1[..]), (PumpEnd::Closed, &b"alive\n"[..]));
    }

    #[tokio::test]
    async fn a_drain_takes_what_is_there_though_the_pipe_stays_open() {
        let mut rig = rig();
        let text = "0123456789\n".repeat(5000);
        let (mut stdout, text) = (rig.stdout.take().unwrap(), text.as_bytes());
        stdout.write_all(text).unwrap();
        assert_eq!(rig.pump.run(std::future::ready(())).await, PumpEnd::Drained);
        assert_eq!(output(rig.dir.path()).0, text);
    }

    #[tokio::test]
    async fn a_prompt_shows_after_silence_and_its_line_goes_on() {
        let mut rig = rig();
        let mut stdout = rig.stdout.take().unwrap();
        stdout.write_all(b"name: ").unwrap();
        let log = rig.dir.path().join("log");
        let typed = async {
            while fs::metadata(&log).unwrap().len() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stdout.write_all(b"bob\n").unwrap();
            drop((stdout, rig.stderr.take()));
        };
        tokio::join!(rig.pump.run(pending()), typed);
        let (out, _, parts) = output(rig.dir.path());
        assert_eq!((&out[..], parts), (&b"name: bob\n"[..], 1));
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_and_not_kept_in_memory() {
        let mut rig = rig();
        let (mut stdout, total) = (rig.stdout.take().unwrap(), 8 << 20);
        drop(rig.stderr.take());
        let writer = std::thread::spawn(move || stdout.write_all(&vec![b'x'; total]).unwrap());
        rig.pump.run(pending()).await;
        writer.join().unwrap();
        let (out, _, parts) = output(rig.dir.path());
        assert_eq!((out.len(), parts), (total + 1, total / PART - 1));
        assert!(rig.pump.taps.iter().all(|tap| tap.held.capacity() <= 2 * PART));
    }

    #[tokio::test]
    async fn a_prompt_shows_while_the_other_stream_floods() {
        let mut rig = rig();
        let (mut stdout, mut stderr) = (rig.stdout.take().unwrap(), rig.stderr.take().unwrap());
        stderr.write_all(b"password: ").unwrap();
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stop = std::sync::Arc::clone(&done);
        let flood = std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                stdout.write_all(&[b'\n'; 4096]).unwrap();
            }
        });
        let log = rig.dir.path().join("log");
        let seen = async {
            let mut read = 0;
            loop {
                let bytes = fs::read(&log).unwrap();
                let from = bytes[..read].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                if bytes[from..].split(|b| *b == b'\n').any(|line| line.ends_with(b" stderr P password: ")) {
                    break;
                }
                read = bytes.len();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = rig.pump.run(pending()) => panic!("nothing was closed"),
            () = seen => {}
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(stderr);
        rig.pump.run(pending()).await;
        flood.join().unwrap();
    }

    #[tokio::test]
    async fn a_terminal_ends_with_its_last_user() {
        let dir = tempfile::tempdir().unwrap();
        let pty = nix::pty::openpty(None, None).unwrap();
        let writer = LogWriter::open(dir.path(), None).unwrap();
        let mut pump = Pump::new(ContainerOutput::Terminal(pty.master), writer).unwrap();
        File::from(pty.slave).write_all(b"one\ntwo").unwrap();
        assert_eq!(pump.run(pending()).await, PumpEnd::Closed);
        assert_eq!(output(dir.path()).0, b"one\r\ntwo\n");
    }
}
