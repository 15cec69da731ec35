//! A udp socket that answers from the address at which it was asked.
//!
//! A socket without an address of its own sends from the one that the route suggests. A client that asked another address
//! of ours, and listens for answers from there alone, would never see it (ip(7), `IP_PKTINFO`; ipv6(7), `IPV6_RECVPKTINFO`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Is who asked, and at which address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asker {
    /// Its address.
    pub(super) client: SocketAddr,
    at: Option<Local>,
}

/// Is an address of ours as the kernel told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Local {
    V4([u8; 4]),
    /// Also what came to a socket of both families: `::ffff:192.0.2.1`.
    V6([u8; 16]),
}

/// Is the socket of a published udp port.
#[derive(Debug)]
pub(super) struct AnsweringSocket(UdpSocket);

impl AnsweringSocket {
    /// Takes a bound socket; needs a runtime.
    pub(super) fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        match socket.local_addr()? {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        UdpSocket::from_std(socket).map(Self)
    }

    /// Waits for a datagram.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Asker)> {
        self.0.async_io(Interest::READABLE, || receive(&self.0, buffer)).await
    }

    /// Sends one back.
    pub(super) async fn answer(&self, asker: Asker, datagram: &[u8]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, || answer(&self.0, asker, datagram)).await
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Asker)> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let at = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(about) => Some(Local::V4(about.ipi_spec_dst.s_addr.to_ne_bytes())),
        ControlMessageOwned::Ipv6PacketInfo(about) => Some(Local::V6(about.ipi6_addr.s6_addr)),
        _ => None,
    });
    let from = message.address.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| SocketAddr::V4((*from).into()));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| SocketAddr::V6((*from).into())))
    });
    let client = from.ok_or(io::ErrorKind::InvalidData)?;
    Ok((message.bytes, Asker { client, at }))
}

fn answer(socket: &UdpSocket, asker: Asker, datagram: &[u8]) -> io::Result<()> {
    let (descriptor, parts, flags) = (socket.as_raw_fd(), [IoSlice::new(datagram)], MsgFlags::MSG_DONTWAIT);
    let (v4, v6) = match asker.at {
        Some(Local::V4(octets)) => (Some(source_v4(octets)), None),
        Some(Local::V6(octets)) => {
            (None, Some(libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: octets }, ipi6_ifindex: 0 }))
        }
        None => (None, None),
    };
    let control: Vec<ControlMessage<'_>> =
        v4.iter().map(ControlMessage::Ipv4PacketInfo).chain(v6.iter().map(ControlMessage::Ipv6PacketInfo)).collect();
    match asker.client {
        SocketAddr::V4(to) => sendmsg(descriptor, &parts, &control, flags, Some(&SockaddrIn::from(to)))?,
        SocketAddr::V6(to) => sendmsg(descriptor, &parts, &control, flags, Some(&SockaddrIn6::from(to)))?,
    };
    Ok(())
}

fn source_v4(octets: [u8; 4]) -> libc::in_pktinfo {
    let any = libc::in_addr { s_addr: 0 };
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(octets) },
        ipi_addr: any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[tokio::test]
    async fn the_answer_comes_from_where_the_question_went() {
        for bound in [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))] {
            let socket = AnsweringSocket::from_fd(std::net::UdpSocket::bind(bound).unwrap().into()).unwrap();
            let port = socket.0.local_addr().unwrap().port();
            for asked in [[127, 0, 0, 1], [127, 0, 0, 77]] {
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                // A connected socket hears nobody else.
                client.connect((Ipv4Addr::from(asked), port)).await.unwrap();
                client.send(b"where?").await.unwrap();
                let mut buffer = [0; 16];
                let (length, asker) = socket.receive(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..length], b"where?");
                socket.answer(asker, b"here").await.unwrap();
                let heard = tokio::time::timeout(std::time::Duration::from_secs(5), client.recv(&mut buffer));
                let length = heard.await.expect("an answer").unwrap();
                assert_eq!(&buffer[..length], b"here", "{bound} {asked:?}");
            }
        }
    }
}
