//! Flows that the kernel remembers, and is made to forget where a published udp port changes.
//!
//! The nat table is asked for the first packet of a flow alone; the others follow what connection tracking remembers. A client
//! that goes on sending to a udp port keeps its flow alive, and with it the way to a container that is gone. The way there is
//! ctnetlink: nfnetlink messages of the subsystem conntrack (linux/netfilter/nfnetlink_conntrack.h), big-endian inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use super::config::Protocol;
use super::record::PublishedPort;

/// `NFNL_SUBSYS_CTNETLINK` in the upper byte, `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE` in the lower.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The length of a netlink header, and of that with an nfnetlink header behind it.
const HEADER: usize = 16;
const HEADERS: usize = 20;
/// Attributes of a flow.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// More than the kernel puts into one answer.
const ANSWER: usize = 1 << 16;

/// Ends what the kernel remembers of ways to these ports, once the rules say another. Where it cannot be done, clients that go
/// on sending find the new way when they have been silent for a while.
pub(super) async fn forget_flows(ports: Vec<PublishedPort>) {
    if ports.iter().all(|port| port.protocol != Protocol::Udp) {
        return;
    }
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || forget(&ports)).await {
        tracing::warn!(%error, "flows to published udp ports are not forgotten");
    }
}

/// Makes the kernel forget the flows to these published ports, in the network namespace of the calling thread. What is not
/// udp needs none of that: a connection ends with its container.
///
/// # Errors
/// That of the first system call that fails; a kernel without ctnetlink refuses the socket.
fn forget(ports: &[PublishedPort]) -> io::Result<()> {
    let ports: Vec<PublishedPort> = ports.iter().filter(|port| port.protocol == Protocol::Udp).copied().collect();
    if ports.is_empty() {
        return Ok(());
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    let mut leaving = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        request(&socket, &message(GET, NLM_F_REQUEST | NLM_F_DUMP, family as u8, &[]))?;
        answers(&socket, |flow| leaving.extend(deletion(flow, &ports)))?;
    }
    for deletion in leaving {
        request(&socket, &deletion)?;
        // One that has ended by itself is as good.
        match answers(&socket, |_| ()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn request(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket, message, SendFlags::empty())?;
    Ok(())
}

/// Reads answers up to the last; an errno in it is an error.
fn answers(socket: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0_u8; ANSWER];
    loop {
        let (length, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some(length) = native_u32(rest, 0) {
            let length = length as usize;
            let Some(message) = rest.get(..length).filter(|_| length >= HEADER) else { break };
            match native_u16(message, 4) {
                Some(NLMSG_DONE) => return Ok(()),
                Some(NLMSG_ERROR) => {
                    let errno = native_u32(message, HEADER).map_or(0, |code| (code as i32).wrapping_neg());
                    return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
                }
                _ => each(message),
            }
            rest = rest.get(aligned(length)..).unwrap_or_default();
        }
    }
}

/// Makes the request that ends this flow, if it is one to a published port.
///
/// A flow whose source alone was rewritten is somebody's way out, not a way to us: it stays.
fn deletion(message: &[u8], ports: &[PublishedPort]) -> Option<Vec<u8>> {
    let family = *message.get(HEADER)?;
    let attributes = attributes(message.get(HEADERS..)?);
    let find = |kind: u16| attributes.iter().find(|attribute| attribute.kind == kind);
    let (there, back) = (Tuple::read(find(TUPLE_ORIG)?.value)?, Tuple::read(find(TUPLE_REPLY)?.value)?);
    let goes_out = back.source == there.target && back.target != there.source;
    let is_to = |port: &PublishedPort| {
        let at = port.host_ip.filter(|ip| !ip.is_unspecified());
        there.port == port.host_port && at.is_none_or(|at| at == there.target)
    };
    if there.protocol != libc::IPPROTO_UDP as u8 || goes_out || !ports.iter().any(is_to) {
        return None;
    }
    let named = [TUPLE_ORIG, ID, ZONE].into_iter().filter_map(find).flat_map(|attribute| attribute.whole);
    Some(self::message(DELETE, NLM_F_REQUEST | NLM_F_ACK, family, &named.copied().collect::<Vec<u8>>()))
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (HEADERS + attributes.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: one request at a time on a socket of its own needs neither.
    message.extend([0; 8]);
    message.extend([family, 0, 0, 0]);
    message.extend(attributes);
    message
}

/// Is one end of a flow's description.
struct Tuple {
    source: IpAddr,
    target: IpAddr,
    protocol: u8,
    port: u16,
}

impl Tuple {
    fn read(value: &[u8]) -> Option<Self> {
        const IP: u16 = 1;
        const PROTO: u16 = 2;
        let parts = attributes(value);
        let part = |kind: u16| parts.iter().find(|part| part.kind == kind).map(|part| attributes(part.value));
        let (ip, proto) = (part(IP)?, part(PROTO)?);
        let address =
            |v4: u16, v6: u16| ip.iter().find(|part| part.kind == v4 || part.kind == v6).map(|part| part.value);
        let number = |kind: u16| proto.iter().find(|part| part.kind == kind).map(|part| part.value);
        Some(Self {
            source: ip_address(address(1, 3)?)?,
            target: ip_address(address(2, 4)?)?,
            protocol: *number(1)?.first()?,
            port: u16::from_be_bytes(number(3)?.try_into().ok()?),
        })
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Is one netlink attribute.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    /// With its header and what it is filled up with.
    whole: &'a [u8],
}

fn attributes(mut bytes: &[u8]) -> Vec<Attribute<'_>> {
    // The upper bits say that it is nested, or big-endian.
    const KIND: u16 = 0x3fff;
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (native_u16(bytes, 0), native_u16(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        let end = aligned(length).min(bytes.len());
        let (whole, rest) = bytes.split_at(end);
        found.push(Attribute { kind: kind & KIND, value, whole });
        bytes = rest;
    }
    found
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn tuple(kind: u16, source: [u8; 4], target: [u8; 4], port: u16) -> Vec<u8> {
        let ip = [attribute(1, &source), attribute(2, &target)].concat();
        let proto = [attribute(1, &[17]), attribute(2, &9_u16.to_be_bytes()), attribute(3, &port.to_be_bytes())];
        attribute(kind | 0x8000, &[attribute(0x8001, &ip), attribute(0x8002, &proto.concat())].concat())
    }

    fn flow(there: [[u8; 4]; 2], back: [[u8; 4]; 2], port: u16) -> Vec<u8> {
        let attributes = [tuple(TUPLE_ORIG, there[0], there[1], port), tuple(TUPLE_REPLY, back[0], back[1], 9)];
        message(0x0100, 0, libc::AF_INET as u8, &attributes.concat())
    }

    fn port(host_ip: Option<&str>, host_port: u16) -> PublishedPort {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PublishedPort { host_ip, host_port, container_port: 1, protocol: Protocol::Udp }
    }

    const CLIENT: [u8; 4] = [198, 51, 100, 10];
    const HOST: [u8; 4] = [192, 0, 2, 2];
    const CONTAINER: [u8; 4] = [10, 11, 0, 2];

    #[test]
    fn flows_to_the_port_go_and_others_stay() {
        let ours = flow([CLIENT, HOST], [CONTAINER, CLIENT], 53);
        let request = deletion(&ours, &[port(None, 53)]).unwrap();
        assert_eq!(native_u16(&request, 4), Some(DELETE));
        assert_eq!(native_u32(&request, 0).unwrap() as usize, request.len());
        assert_eq!(attributes(&request[HEADERS..])[0].kind, TUPLE_ORIG);
        assert!(deletion(&ours, &[port(Some("192.0.2.2"), 53)]).is_some());
        assert!(deletion(&ours, &[port(Some("192.0.2.9"), 53)]).is_none());
        assert!(deletion(&ours, &[port(None, 54)]).is_none());
        // To our socket, before there was a rule.
        assert!(deletion(&flow([CLIENT, HOST], [HOST, CLIENT], 53), &[port(None, 53)]).is_some());
        // A container's own question to a server beyond.
        assert!(deletion(&flow([CONTAINER, CLIENT], [CLIENT, HOST], 53), &[port(None, 53)]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_stop_it(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = deletion(&bytes, &[port(None, 53)]);
        }

        #[test]
        fn nor_damage(at in 0_usize..100, byte in any::<u8>(), cut in 0_usize..120) {
            let mut bytes = flow([CLIENT, HOST], [CONTAINER, CLIENT], 53);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let _ = deletion(&bytes, &[port(None, 53)]);
        }
    }
}
