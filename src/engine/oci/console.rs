//! A container's terminal on its way to who asked for it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::OciError;
use super::state::file;

/// What goes with the descriptor, as runc has it: the name that the master was opened by.
const NAME: &[u8] = b"/dev/ptmx";

/// Is a connection to a console socket. It is made before there is a container: a socket that is not there ends `create` early.
#[derive(Debug)]
pub(super) struct ConsoleSocket(OwnedFd);

impl ConsoleSocket {
    /// Connects.
    ///
    /// # Errors
    /// [`OciError::File`].
    pub(super) fn connect(path: &Path) -> Result<Self, OciError> {
        let failed = |errno: Errno| file("connect to the console socket", path)(errno.into());
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(failed)?;
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Sends the master of a terminal (SCM_RIGHTS, unix(7)).
    ///
    /// # Errors
    /// [`OciError::Kernel`].
    pub(super) fn send(&self, master: &OwnedFd) -> Result<(), OciError> {
        let fds = [master.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&self.0, &[IoSlice::new(NAME)], &mut control, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|errno| OciError::kernel("send the terminal through the console socket")(errno.into()))
    }
}
