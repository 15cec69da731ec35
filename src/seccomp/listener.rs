//! Handing a filter's listener to the agent that answers it (runtime specification, `listenerPath`).

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::SeccompError;

/// How long an agent may take to read a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names the agent of a filter whose action is SCMP_ACT_NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The stream socket it listens on.
    pub path: PathBuf,
    /// What it is told beside the state, as the bundle has it.
    pub metadata: Option<String>,
}

/// Sends a listener's descriptor to the agent, with the container process state as JSON: one message, one descriptor.
///
/// # Errors
/// [`SeccompError::Listener`].
pub fn send_listener(path: &Path, state: &[u8], listener: BorrowedFd<'_>) -> Result<(), SeccompError> {
    send(path, state, listener).map_err(|source| SeccompError::Listener { path: path.to_owned(), source })
}

fn send(path: &Path, state: &[u8], listener: BorrowedFd<'_>) -> io::Result<()> {
    let socket = UnixStream::connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(&listener)));
    let sent = sendmsg(&socket, &[io::IoSlice::new(state)], &mut control, SendFlags::NOSIGNAL)?;
    // The descriptor rides on the first byte; the rest of a long state follows it.
    io::Write::write_all(&mut &socket, state.get(sent..).unwrap_or_default())
}
