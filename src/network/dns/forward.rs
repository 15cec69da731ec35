//! Asks other resolvers: the host's, from our own network namespace, as any program of the host would, or those that a
//! container names, from within its namespace: it gets no further by us than by itself.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::answer::Transport;
use crate::namespaces::network::in_namespace;

/// How long one resolver may take.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long all of them together may take: less than the 5 s after which a C library asks again.
const TOTAL: Duration = Duration::from_millis(4500);
/// How many resolvers count, as in resolv.conf(5).
const MOST: usize = 3;
const PORT: u16 = 53;
const HEADER: usize = 12;

/// Knows who is asked.
#[derive(Clone, Debug)]
pub struct Resolvers(Source);

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Inside(Arc<OwnedFd>, Arc<[SocketAddr]>),
}

impl Resolvers {
    /// Takes them from this file, usually /etc/resolv.conf. It is read for each query: networks come and go.
    pub fn from_file(resolv_conf: impl Into<PathBuf>) -> Self {
        Self(Source::File(resolv_conf.into()))
    }

    /// Takes these, asked from within this network namespace.
    pub fn inside(netns: OwnedFd, servers: Vec<IpAddr>) -> Self {
        let servers = servers.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect();
        Self(Source::Inside(Arc::new(netns), servers))
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let file = match &self.0 {
            Source::Inside(_, servers) => return servers.to_vec(),
            Source::File(file) => file,
        };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let servers = parse(&text);
        // resolv.conf(5): without any, the one on the local machine is meant.
        if servers.is_empty() { vec![SocketAddr::new(IpAddr::from([127, 0, 0, 1]), PORT)] } else { servers }
    }

    /// Asks one after the other until one answers; `None` when none did in time. One that says that it cannot answer is
    /// believed when no other can.
    pub(super) async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let servers = self.servers();
        let mut unwilling = None;
        let rounds = async {
            for _ in 0..2 {
                for server in &servers {
                    let asked = async {
                        match transport {
                            Transport::Udp => ask_udp(self.socket(*server, transport)?, *server, query).await,
                            Transport::Tcp => ask_tcp(self.socket(*server, transport)?, *server, query).await,
                        }
                    };
                    if let Ok(Ok(mut reply)) = timeout(ATTEMPT, asked).await {
                        restore_id(&mut reply, query);
                        if is_willing(&reply) {
                            return Some(reply);
                        }
                        unwilling = Some(reply);
                    }
                }
                if unwilling.is_some() {
                    break;
                }
            }
            None
        };
        let answered = timeout(TOTAL, rounds).await.ok().flatten();
        answered.or(unwilling)
    }

    /// Makes a socket of its own for each query, where the server is to be asked from.
    fn socket(&self, server: SocketAddr, transport: Transport) -> io::Result<OwnedFd> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let kind = match transport {
            Transport::Udp => SocketType::DGRAM,
            Transport::Tcp => SocketType::STREAM,
        };
        let open = || socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None);
        let opened = match &self.0 {
            Source::File(_) => open(),
            Source::Inside(netns, _) => in_namespace(netns.as_fd(), open).map_err(io::Error::other)?,
        };
        Ok(opened?)
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server).and_then(server)
    };
    text.lines().filter_map(address).take(MOST).collect()
}

/// Reads an address; one that is good on a link alone is followed by that, `fe80::1%eth0` (RFC 4007, 11), by name or number.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((ip, link)) = text.split_once('%') else { return Some(SocketAddr::new(text.parse().ok()?, PORT)) };
    let number = link.parse().ok().or_else(|| nix::net::if_::if_nametoindex(link).ok())?;
    Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, number).into())
}

/// Says whether the answer is one that another server would give as well (RFC 1035, 4.1.1): neither "I failed" nor "not to
/// you".
fn is_willing(reply: &[u8]) -> bool {
    const SERVFAIL: u8 = 2;
    const NOTIMP: u8 = 4;
    const REFUSED: u8 = 5;
    reply.get(3).is_some_and(|flags| !matches!(flags & 0x0f, SERVFAIL | NOTIMP | REFUSED))
}

/// A socket and an id of its own for each query: who wants to forge an answer has to guess both.
async fn ask_udp(socket: OwnedFd, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(server).await?;
    let sent = with_fresh_id(query)?;
    socket.send(&sent).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(reply) = buffer.get(..length).filter(|reply| answers(reply, &sent)) {
            return Ok(reply.to_vec());
        }
    }
}

async fn ask_tcp(socket: OwnedFd, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpSocket::from_std_stream(socket.into()).connect(server).await?;
    let sent = with_fresh_id(query)?;
    let length = u16::try_from(sent.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes()[..], &sent].concat();
    stream.write_all(&framed).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if answers(&reply, &sent) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn with_fresh_id(query: &[u8]) -> io::Result<Vec<u8>> {
    let mut id = [0_u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let mut sent = query.to_vec();
    let place = sent.get_mut(..2).ok_or(io::ErrorKind::InvalidInput)?;
    place.copy_from_slice(&id);
    Ok(sent)
}

fn restore_id(reply: &mut [u8], query: &[u8]) {
    if let (Some(place), Some(id)) = (reply.get_mut(..2), query.get(..2)) {
        place.copy_from_slice(id);
    }
}

/// Whether a message is the response to this query: its id, its kind, and the question word for word (case aside).
fn answers(reply: &[u8], query: &[u8]) -> bool {
    let question = question(query);
    let is_response = reply.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let same_id = reply.get(..2) == query.get(..2);
    // A server that could not read the question may leave it out.
    let without = reply.get(4..6) == Some(&[0, 0]);
    let same = reply.get(HEADER..HEADER + question.len()).is_some_and(|other| other.eq_ignore_ascii_case(question));
    is_response && same_id && (without || same)
}

/// Returns the bytes of the first question: labels up to the empty one, type, class.
fn question(query: &[u8]) -> &[u8] {
    let mut at = HEADER;
    while let Some(&length) = query.get(at) {
        if length == 0 {
            return query.get(HEADER..at + 5).unwrap_or_default();
        }
        at += 1 + usize::from(length);
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x04test\x00\x00\x01\x00\x01";

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let text = "# x\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nsearch a b\nnameserver fe80::1%nosuch0\nnameserver x\n\
                    nameserver 8.8.8.8\nnameserver 9.9.9.9\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "8.8.8.8:53"]);
        assert_eq!(parse("nameserver fe80::1%lo")[0].to_string(), "[fe80::1%1]:53");
        assert_eq!(Resolvers::from_file("/no/such/file").servers(), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let mut reply = QUERY.to_vec();
        assert!(!answers(&reply, QUERY), "a query is no answer");
        reply[2] |= 0x80;
        assert!(answers(&reply, QUERY));
        reply[13] = b'E';
        assert!(answers(&reply, QUERY));
        reply[14] = b'y';
        assert!(!answers(&reply, QUERY));
        reply[14] = b'x';
        reply[0] = 0;
        assert!(!answers(&reply, QUERY));
        assert!(!answers(&[], QUERY) && !answers(&[0x12, 0x34, 0x80], QUERY));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_stop_it(reply in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), cut in 0_usize..32) {
            let query = QUERY.get(..cut).unwrap_or(QUERY);
            let _ = (answers(&reply, query), question(&reply), is_willing(&reply));
            let mut reply = reply;
            restore_id(&mut reply, query);
        }
    }

    #[test]
    fn who_cannot_answer_is_not_believed_at_once() {
        for (flags, willing) in [(0x80, true), (0x83, true), (0x82, false), (0x84, false), (0x85, false)] {
            assert_eq!(is_willing(&[0, 0, 0x81, flags]), willing, "{flags:x}");
        }
    }

    #[test]
    fn ids_are_fresh_and_come_back() {
        let ids: std::collections::BTreeSet<Vec<u8>> =
            (0..50).map(|_| with_fresh_id(QUERY).unwrap()[..2].to_vec()).collect();
        assert!(ids.len() > 40);
        let mut reply = with_fresh_id(QUERY).unwrap();
        restore_id(&mut reply, QUERY);
        assert_eq!(reply, QUERY);
    }
}
