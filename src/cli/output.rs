//! Standard output as a stream of bytes: unbuffered, patient with a descriptor that somebody made non-blocking, and, for
//! those who must hear signals while a slow reader holds them up, written to by a thread of its own.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::runtime::watched;

/// Writes to a duplicate of a descriptor of ours.
#[derive(Debug)]
pub struct RawOutput(OwnedFd);

impl RawOutput {
    /// Duplicates standard output.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn stdout() -> io::Result<Self> {
        Self::of(rustix::stdio::stdout())
    }

    /// Duplicates a descriptor.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        fd.as_fd().try_clone_to_owned().map(Self)
    }
}

impl From<OwnedFd> for RawOutput {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Write for RawOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a thread that writes to a descriptor: a write to the first never waits, the second says when all is written.
///
/// The thread ends with its last chunk after the first is dropped, or with the process.
///
/// # Errors
/// What pthread_create(3) says.
pub fn write_behind(mut output: RawOutput) -> io::Result<(BehindWriter, Drain)> {
    // Not bounded here: whoever writes asks `Drain` first, and writes no more than one turn of a log reader.
    let (chunks, queue) = mpsc::channel::<Vec<u8>>();
    let (report, state) = watch::channel(State::default());
    thread::Builder::new().name("output".into()).spawn(move || {
        while let Ok(chunk) = queue.recv() {
            let error = output.write_all(&chunk).err().map(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
            report.send_modify(|state| *state = State { written: state.written + 1, error });
            if error.is_some() {
                return;
            }
        }
    })?;
    let sent = Arc::new(AtomicU64::new(0));
    Ok((BehindWriter { chunks, sent: Arc::clone(&sent), state: state.clone() }, Drain { state, sent }))
}

/// Takes what the thread is to write.
#[derive(Debug)]
pub struct BehindWriter {
    chunks: mpsc::Sender<Vec<u8>>,
    sent: Arc<AtomicU64>,
    state: watch::Receiver<State>,
}

/// Knows how far the thread is.
#[derive(Debug)]
pub struct Drain {
    state: watch::Receiver<State>,
    sent: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    written: u64,
    error: Option<Errno>,
}

impl Drain {
    /// Waits until everything is written. Cancel-safe.
    ///
    /// # Errors
    /// The first error of the descriptor; EPIPE when its reader is gone.
    pub async fn drained(&mut self) -> io::Result<()> {
        let sent = self.chunks();
        let state = self.state.wait_for(|state| state.error.is_some() || state.written >= sent).await;
        match state.map(|state| state.error) {
            Ok(None) => Ok(()),
            Ok(Some(errno)) => Err(errno.into()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Counts the chunks that were handed over.
    pub fn chunks(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Write for BehindWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(errno) = self.state.borrow().error {
            return Err(errno.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        self.chunks.send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells when the reader of standard output has gone, also while nothing is written.
///
/// A pipe or socket without a reader is in error (poll(2)). A file never is, and epoll does not take one.
#[derive(Debug)]
pub struct ReaderWatch(Option<AsyncFd<OwnedFd>>);

impl ReaderWatch {
    /// Watches standard output. To be called within the runtime.
    pub fn stdout() -> Self {
        let duplicate = rustix::stdio::stdout().try_clone_to_owned().ok();
        Self(duplicate.and_then(|fd| watched(fd, Interest::ERROR).ok()))
    }

    /// Waits until the reader is gone; for ever where that cannot be seen. Cancel-safe.
    pub async fn gone(&self) {
        let Some(fd) = &self.0 else { return std::future::pending().await };
        loop {
            let Ok(mut guard) = fd.ready(Interest::ERROR).await else { return std::future::pending().await };
            let mut now = [PollFd::new(fd.get_ref(), PollFlags::empty())];
            if poll(&mut now, Some(&Default::default())).is_ok()
                && now[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
            {
                return;
            }
            guard.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn a_reader_that_waits_holds_up_nobody() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut output, mut drain) = write_behind(RawOutput::of(&writer).unwrap()).unwrap();
        drop(writer);
        let chunk = vec![b'x'; 1 << 20];
        output.write_all(&chunk).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, drain.drained()).await.is_err());
        let reading = thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text.len()
        });
        drain.drained().await.unwrap();
        drop(output);
        assert_eq!(reading.join().unwrap(), 1 << 20);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told_of() {
        let (reader, writer) = io::pipe().unwrap();
        let watch = ReaderWatch(Some(watched(writer.as_fd().try_clone_to_owned().unwrap(), Interest::ERROR).unwrap()));
        let (mut output, mut drain) = write_behind(RawOutput::of(&writer).unwrap()).unwrap();
        output.write_all(b"x").unwrap();
        drain.drained().await.unwrap();
        drop(reader);
        watch.gone().await;
        let _ = output.write_all(b"y");
        assert_eq!(drain.drained().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
