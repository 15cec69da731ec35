//! Frames with descriptors over a Unix stream socket: how keeper, shim, supervisor, init and client talk.
//!
//! A frame is a little-endian `u32` length and that many bytes; descriptors ride on the frame's first byte
//! (SCM_RIGHTS, unix(7)). The kernel never merges two messages with descriptors into one read, so descriptors
//! that arrive belong to the frame that starts there.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The greatest length of a frame in bytes; a longer one is refused before memory is taken for it.
pub const MAX_FRAME: usize = 64 << 20;
/// The greatest number of descriptors on one frame (the kernel's SCM_MAX_FD is 253).
pub const MAX_FDS: usize = 64;

/// Is one end of a framed connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

/// Is a received frame.
#[derive(Debug, Default)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Is what a non-blocking read found.
#[derive(Debug)]
pub enum Received {
    /// A whole frame.
    Frame(Frame),
    /// Nothing more now.
    Nothing,
    /// The other side is closed and all its frames were read.
    Closed,
}

/// Is a frame on its way through a socket that must not be waited for.
#[derive(Debug)]
pub struct Outgoing {
    data: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    /// Makes a frame of bytes and descriptors.
    ///
    /// # Errors
    /// EINVAL for a frame over [`MAX_FRAME`] or with more than [`MAX_FDS`] descriptors.
    pub fn new(bytes: &[u8], fds: Vec<OwnedFd>) -> io::Result<Self> {
        if bytes.len() > MAX_FRAME || fds.len() > MAX_FDS {
            return Err(io::Error::from(Errno::INVAL));
        }
        let mut data = (bytes.len() as u32).to_le_bytes().to_vec();
        data.extend_from_slice(bytes);
        Ok(Self { data, sent: 0, fds })
    }

    /// Sends as much as there is room for; says whether that was all. Call again when the socket is writable.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn push(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        while self.sent < self.data.len() {
            let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::from(Errno::INVAL));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::sendmsg(socket, &[IoSlice::new(&self.data[self.sent..])], &mut control, flags) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
            // They went with the first byte.
            self.fds.clear();
        }
        Ok(true)
    }
}

impl Channel {
    /// Wraps a connected Unix stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Vec::new(), fds: VecDeque::new() }
    }

    /// Makes a connected pair (socketpair(2)), both ends close-on-exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(a), Self::new(b)))
    }

    /// Gives the socket back. Frames that were read but not taken are lost.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sends one frame, waiting for room as long as it takes.
    ///
    /// # Errors
    /// EPIPE when the other side is closed (no SIGPIPE is raised); EINVAL for a frame over [`MAX_FRAME`] or with
    /// more than [`MAX_FDS`] descriptors.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MAX_FRAME || fds.len() > MAX_FDS {
            return Err(io::Error::from(Errno::INVAL));
        }
        let header = (bytes.len() as u32).to_le_bytes();
        let mut sent = self.send_some(&header, bytes, fds)?;
        while sent < header.len() + bytes.len() {
            let (head, tail) =
                if sent < header.len() { (&header[sent..], bytes) } else { (&[][..], &bytes[sent - header.len()..]) };
            sent += self.send_some(head, tail, &[])?;
        }
        Ok(())
    }

    fn send_some(&self, head: &[u8], tail: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::Error::from(Errno::INVAL));
            }
            let data = [IoSlice::new(head), IoSlice::new(tail)];
            match rustix::net::sendmsg(&self.socket, &data, &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(rustix::event::PollFlags::OUT)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one frame, waiting as long as it takes; `None` when the other side is closed.
    ///
    /// # Errors
    /// As [`Channel::try_recv`].
    pub fn recv(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.try_recv()? {
                Received::Frame(frame) => return Ok(Some(frame)),
                Received::Closed => return Ok(None),
                Received::Nothing => self.wait(rustix::event::PollFlags::IN)?,
            }
        }
    }

    /// Receives one frame if a whole one is there. Call again until it says [`Received::Nothing`].
    ///
    /// # Errors
    /// `InvalidData` for a frame over [`MAX_FRAME`]; `UnexpectedEof` when the other side closed within a frame.
    pub fn try_recv(&mut self) -> io::Result<Received> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Received::Frame(frame));
            }
            match self.read_some()? {
                None => return Ok(Received::Nothing),
                Some(0) if self.buffer.is_empty() => return Ok(Received::Closed),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {}
            }
        }
    }

    fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(4 + length);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.drain(..4);
        Ok(Some(Frame { bytes, fds: self.fds.drain(..).collect() }))
    }

    /// Reads at most up to the end of the current frame, so that descriptors of the next are not taken with it.
    fn read_some(&mut self) -> io::Result<Option<usize>> {
        let wanted = match self.buffer.first_chunk::<4>() {
            Some(header) => 4 + u32::from_le_bytes(*header) as usize - self.buffer.len(),
            None => 4 - self.buffer.len(),
        };
        let start = self.buffer.len();
        self.buffer.resize(start + wanted.min(1 << 20), 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let result = loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut data = [IoSliceMut::new(&mut self.buffer[start..])];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match rustix::net::recvmsg(&self.socket, &mut data, &mut control, flags) {
                Ok(message) => {
                    for part in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = part {
                            self.fds.extend(fds);
                        }
                    }
                    // The descriptor table is full: some descriptors were dropped by the kernel.
                    if message.flags.contains(ReturnFlags::CTRUNC) {
                        break Err(io::Error::from(Errno::MFILE));
                    }
                    break Ok(Some(message.bytes));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break Ok(None),
                Err(Errno::CONNRESET) => break Ok(Some(0)),
                Err(errno) => break Err(errno.into()),
            }
        };
        let count = result.as_ref().ok().copied().flatten().unwrap_or(0);
        self.buffer.truncate(start + count);
        result
    }

    fn wait(&self, flags: rustix::event::PollFlags) -> io::Result<()> {
        let mut fds = [rustix::event::PollFd::new(&self.socket, flags)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn frames_and_descriptors_arrive_in_order() {
        let (a, mut b) = Channel::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two", &[writer.as_fd(), reader.as_fd()]).unwrap();
        a.send(b"", &[writer.as_fd()]).unwrap();
        let frame = b.recv().unwrap().unwrap();
        assert_eq!((&frame.bytes[..], frame.fds.len()), (&b"one"[..], 0));
        let mut frame = b.recv().unwrap().unwrap();
        assert_eq!((&frame.bytes[..], frame.fds.len()), (&b"two"[..], 2));
        let mut end = std::fs::File::from(frame.fds.remove(0));
        end.write_all(b"x").unwrap();
        let mut byte = [0];
        (&reader).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let frame = b.recv().unwrap().unwrap();
        assert_eq!((frame.bytes.len(), frame.fds.len()), (0, 1));
        drop(a);
        assert!(b.recv().unwrap().is_none());
    }

    #[test]
    fn large_frames_pass_through_a_small_socket_buffer() {
        let (a, mut b) = Channel::pair().unwrap();
        let sender = std::thread::spawn(move || a.send(&vec![7_u8; 3 << 20], &[]));
        let frame = b.recv().unwrap().unwrap();
        assert_eq!(frame.bytes.len(), 3 << 20);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn a_frame_is_pushed_without_waiting() {
        let (a, mut b) = Channel::pair().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut outgoing = Outgoing::new(&vec![7; 3 << 20], vec![reader.into()]).unwrap();
        let mut rounds = 0;
        let frame = loop {
            outgoing.push(a.as_fd()).unwrap();
            rounds += 1;
            if let Received::Frame(frame) = b.try_recv().unwrap() {
                break frame;
            }
        };
        assert_eq!((frame.bytes.len(), frame.fds.len()), (3 << 20, 1));
        assert!(rounds > 1 && outgoing.push(a.as_fd()).unwrap());
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused() {
        let (a, mut b) = Channel::pair().unwrap();
        rustix::io::write(&a, &u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_closed_writer_within_a_frame_is_an_error() {
        let (a, mut b) = Channel::pair().unwrap();
        rustix::io::write(&a, &[5, 0, 0, 0, 1]).unwrap();
        drop(a);
        assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
