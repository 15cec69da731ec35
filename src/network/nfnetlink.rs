//! nfnetlink, the netlink family of the kernel's packet filter: messages and their attributes.
//!
//! A message is a `struct nlmsghdr` (netlink(7)), a `struct nfgenmsg` (linux/netfilter/nfnetlink.h) and attributes, each a length, a
//! kind and a value. The headers are in the machine's byte order, the values of most attributes are big-endian.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `NFNL_SUBSYS_CTNETLINK`: connection tracking.
pub(super) const CONNECTION_TRACKING: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const NF_TABLES: u8 = 10;

/// Flags of a request.
pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Lengths of `struct nlmsghdr`, of that with `struct nfgenmsg`, of `struct nlattr`.
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
const ATTRIBUTE: usize = 4;
/// More than the kernel puts into one answer.
const ANSWER: usize = 1 << 16;

/// Opens a socket in the network namespace of the calling thread.
///
/// # Errors
/// Those of socket(2): EPROTONOSUPPORT or EAFNOSUPPORT where the kernel was built without it.
pub(super) fn open(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags | SocketFlags::CLOEXEC, Some(NETFILTER))
}

/// Makes a message of a subsystem. `family` is the address family (AF_INET, AF_INET6), or 0.
///
/// Sequence number and port stay 0: whoever sends one request at a time on a socket of its own needs neither.
pub(super) fn message(subsystem: u8, kind: u8, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (HEADERS + attributes.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(u16::from_be_bytes([subsystem, kind]).to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, 0, 0, 0]);
    message.extend(attributes);
    message
}

/// Sends a request.
///
/// # Errors
/// Those of send(2).
pub(super) fn request(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket, message, SendFlags::empty())?;
    Ok(())
}

/// Reads answers up to the last.
///
/// # Errors
/// The errno in the last, and those of recv(2).
pub(super) fn answers(socket: &OwnedFd, mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
    let mut buffer = vec![0_u8; ANSWER];
    loop {
        let (length, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
        for message in messages(buffer.get(..length).unwrap_or_default()) {
            match message.end() {
                Some(end) => return end,
                None => each(&message),
            }
        }
    }
}

/// Is one message that the kernel sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`: subsystem and kind, or one of netlink's own.
    kind: u16,
    /// What follows the netlink header.
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the kind of a message of this subsystem; `None` where it is of another.
    pub(super) fn kind(&self, subsystem: u8) -> Option<u8> {
        let [of, kind] = self.kind.to_be_bytes();
        (of == subsystem).then_some(kind)
    }

    /// Returns the address family.
    pub(super) fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// Returns what the message consists of behind its headers.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(HEADERS - HEADER..).unwrap_or_default())
    }

    /// Returns how the request ended, if this message says so: an acknowledgement, an errno, or the end of a dump.
    pub(super) fn end(&self) -> Option<io::Result<()>> {
        match self.kind {
            NLMSG_DONE => Some(Ok(())),
            NLMSG_ERROR => {
                let errno = native_u32(self.payload).map_or(0, |code| (code as i32).wrapping_neg());
                Some(if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) })
            }
            _ => None,
        }
    }
}

/// Cuts what one recv(2) gave into messages. What is cut off at the end is none.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = native_u32(bytes)? as usize;
        let kind = native_u16(bytes.get(4..)?)?;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, payload })
    })
}

/// Is one attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    kind: u16,
    pub(super) value: &'a [u8],
    /// With its header and what it is filled up with.
    pub(super) whole: &'a [u8],
}

/// Are the attributes of a message, or those inside another attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Returns all up to the first that is cut off.
    fn iter(self) -> impl Iterator<Item = Attribute<'a>> {
        // The upper bits say that it is nested, or big-endian.
        const KIND: u16 = 0x3fff;
        let mut bytes = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(native_u16(bytes)?);
            let kind = native_u16(bytes.get(2..)?)? & KIND;
            let value = bytes.get(ATTRIBUTE..length)?;
            let (whole, rest) = bytes.split_at(length.next_multiple_of(4).min(bytes.len()));
            bytes = rest;
            Some(Attribute { kind, value, whole })
        })
    }

    /// Returns the first of this kind.
    pub(super) fn find(self, kind: u16) -> Option<Attribute<'a>> {
        self.iter().find(|attribute| attribute.kind == kind)
    }

    /// Returns the value of the first of this kind.
    pub(super) fn value(self, kind: u16) -> Option<&'a [u8]> {
        self.find(kind).map(|attribute| attribute.value)
    }

    /// Returns the attributes inside the first of this kind.
    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.value(kind).map(Self)
    }
}

fn native_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_ne_bytes)
}

fn native_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(ATTRIBUTE + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let inside = [attribute(1, b"a"), attribute(2, b"bcde")].concat();
        let bytes = message(NF_TABLES, 7, NLM_F_REQUEST, 2, &attribute(0x8003, &inside));
        let two = [bytes.clone(), bytes].concat();
        let read: Vec<_> = messages(&two).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].kind(NF_TABLES), read[1].kind(CONNECTION_TRACKING)), (Some(7), None));
        assert_eq!(read[1].family(), Some(2));
        assert_eq!(read[1].attributes().nested(3).unwrap().value(2), Some(&b"bcde"[..]));
        assert_eq!(read[1].attributes().find(3).unwrap().whole.len(), ATTRIBUTE + inside.len());
        assert!(read[1].end().is_none());
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let whole = message(NF_TABLES, 7, NLM_F_REQUEST, 2, &attribute(1, b"filter"));
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }

    #[test]
    fn an_end_is_good_or_an_errno() {
        let end = |kind: u16, code: i32| {
            let payload = code.to_ne_bytes();
            Message { kind, payload: &payload }.end().map(|end| end.map_err(|error| error.raw_os_error().unwrap()))
        };
        assert_eq!(end(NLMSG_DONE, 0), Some(Ok(())));
        assert_eq!(end(NLMSG_ERROR, 0), Some(Ok(())));
        assert_eq!(end(NLMSG_ERROR, -libc::ENOENT), Some(Err(libc::ENOENT)));
    }

    proptest! {
        #[test]
        fn no_bytes_stop_it(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for message in messages(&bytes) {
                let _ = (message.end(), message.attributes().iter().count());
            }
            prop_assert!(Attributes(&bytes).iter().count() <= bytes.len() / ATTRIBUTE);
        }
    }
}
