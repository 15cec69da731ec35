//! Standard output as a stream of bytes: unbuffered, and patient with a descriptor that somebody made non-blocking.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::engine::watch;

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

/// Says who may move the cursor: rows of progress, until something else is printed below them.
#[derive(Debug, Clone, Default)]
pub struct CursorClaim(Arc<Mutex<bool>>);

impl CursorClaim {
    /// Takes the cursor from the rows for good. Waits for a row that is being drawn.
    pub fn take(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Draws rows, unless the cursor was taken; nothing else is printed while it does.
    pub fn unless_taken(&self, draw: impl FnOnce()) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !*taken {
            draw();
        }
        !*taken
    }
}

/// Is an output that takes the cursor with its first byte.
#[derive(Debug)]
pub struct ClaimingOutput {
    output: RawOutput,
    claim: CursorClaim,
}

impl ClaimingOutput {
    /// Joins the two.
    pub fn new(output: RawOutput, claim: CursorClaim) -> Self {
        Self { output, claim }
    }
}

impl Write for ClaimingOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.claim.take();
        self.output.write(bytes)
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
        Self(duplicate.and_then(|fd| watch(fd, Interest::ERROR).ok()))
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

    #[test]
    fn the_cursor_is_the_rows_until_something_is_printed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let claim = CursorClaim::default();
        let mut output = ClaimingOutput::new(RawOutput::of(&writer).unwrap(), claim.clone());
        assert!(claim.unless_taken(|| {}));
        output.write_all(b"x").unwrap();
        assert!(!claim.unless_taken(|| panic!("drawn over the output")));
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told_of() {
        let (reader, writer) = io::pipe().unwrap();
        let watch = ReaderWatch(Some(watch(writer.as_fd().try_clone_to_owned().unwrap(), Interest::ERROR).unwrap()));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, watch.gone()).await.is_err());
        drop(reader);
        watch.gone().await;
        let error = RawOutput::of(&writer).unwrap().write_all(b"y").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
