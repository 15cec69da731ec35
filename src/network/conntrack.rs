//! Flows that the kernel remembers, and is made to forget where a published udp port changes.
//!
//! The nat table is asked for the first packet of a flow alone; the others follow what connection tracking remembers. A client
//! that goes on sending to a udp port keeps its flow alive, and with it the way to a container that is gone. The way there is
//! ctnetlink: nfnetlink messages of the subsystem conntrack (linux/netfilter/nfnetlink_conntrack.h), big-endian inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::SocketFlags;

use super::config::Protocol;
use super::nfnetlink::{
    Attributes, CONNECTION_TRACKING, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, answers, message, open, request,
};
use super::record::PublishedPort;

/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u8 = 1;
const DELETE: u8 = 2;
/// Attributes of a flow.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

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
    let socket = open(SocketFlags::empty())?;
    let mut leaving = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        request(&socket, &message(CONNECTION_TRACKING, GET, NLM_F_REQUEST | NLM_F_DUMP, family as u8, &[]))?;
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

/// Makes the request that ends this flow, if it is one to a published port.
///
/// A flow whose source alone was rewritten is somebody's way out, not a way to us: it stays.
fn deletion(flow: &Message<'_>, ports: &[PublishedPort]) -> Option<Vec<u8>> {
    let attributes = flow.attributes();
    let (there, back) = (Tuple::read(attributes.nested(TUPLE_ORIG)?)?, Tuple::read(attributes.nested(TUPLE_REPLY)?)?);
    let goes_out = back.source == there.target && back.target != there.source;
    let is_to = |port: &PublishedPort| {
        let at = port.host_ip.filter(|ip| !ip.is_unspecified());
        there.port == port.host_port && at.is_none_or(|at| at == there.target)
    };
    if there.protocol != libc::IPPROTO_UDP as u8 || goes_out || !ports.iter().any(is_to) {
        return None;
    }
    let named = [TUPLE_ORIG, ID, ZONE].into_iter().filter_map(|kind| attributes.find(kind));
    let named: Vec<u8> = named.flat_map(|attribute| attribute.whole).copied().collect();
    Some(message(CONNECTION_TRACKING, DELETE, NLM_F_REQUEST | NLM_F_ACK, flow.family()?, &named))
}

/// Is one end of a flow's description.
struct Tuple {
    source: IpAddr,
    target: IpAddr,
    protocol: u8,
    port: u16,
}

impl Tuple {
    fn read(parts: Attributes<'_>) -> Option<Self> {
        const IP: u16 = 1;
        const PROTO: u16 = 2;
        let (ip, proto) = (parts.nested(IP)?, parts.nested(PROTO)?);
        let address = |v4: u16, v6: u16| ip.value(v4).or_else(|| ip.value(v6)).and_then(ip_address);
        Some(Self {
            source: address(1, 3)?,
            target: address(2, 4)?,
            protocol: *proto.value(1)?.first()?,
            port: u16::from_be_bytes(proto.value(3)?.try_into().ok()?),
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

#[cfg(test)]
mod tests {
    use super::super::nfnetlink::messages;
    use super::*;
    use crate::network::nfnetlink::tests::attribute;
    use proptest::prelude::*;

    fn tuple(kind: u16, source: [u8; 4], target: [u8; 4], port: u16) -> Vec<u8> {
        let ip = [attribute(1, &source), attribute(2, &target)].concat();
        let proto = [attribute(1, &[17]), attribute(2, &9_u16.to_be_bytes()), attribute(3, &port.to_be_bytes())];
        attribute(kind | 0x8000, &[attribute(0x8001, &ip), attribute(0x8002, &proto.concat())].concat())
    }

    fn flow(there: [[u8; 4]; 2], back: [[u8; 4]; 2], port: u16) -> Vec<u8> {
        let attributes = [tuple(TUPLE_ORIG, there[0], there[1], port), tuple(TUPLE_REPLY, back[0], back[1], 9)];
        message(CONNECTION_TRACKING, 0, 0, libc::AF_INET as u8, &attributes.concat())
    }

    fn deletion(bytes: &[u8], ports: &[PublishedPort]) -> Option<Vec<u8>> {
        messages(bytes).find_map(|flow| super::deletion(&flow, ports))
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
        let request: Vec<_> = messages(&request).collect();
        assert_eq!((request.len(), request[0].kind(CONNECTION_TRACKING)), (1, Some(DELETE)));
        assert!(request[0].attributes().find(TUPLE_ORIG).is_some());
        assert!(request[0].attributes().find(TUPLE_REPLY).is_none());
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
