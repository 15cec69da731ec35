//! The two sockets inside the container's namespace, served from outside.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::{Decision, Transport, decide, refuse};
use super::forward::Resolvers;
use super::names::NameView;
use crate::namespaces::network::{in_namespace, raise_loopback_here};
use crate::network::NetworkError;

/// Where a container finds its name server; the address that Docker has taught everybody.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const PORT: u16 = 53;
/// How many queries of one container may wait for the host's resolvers.
const WAITING: usize = 64;
/// How many connections one container may hold open; the oldest goes for one more.
const CONNECTIONS: usize = 16;
/// After which a connection that says nothing is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Longer queries come over TCP.
const LONGEST_DATAGRAM: usize = 2048;
/// How long to wait when the process is out of descriptors.
const RESPITE: Duration = Duration::from_millis(50);

/// Holds the name server's sockets of one container; the keeper keeps them over our death.
#[derive(Debug)]
pub struct DnsSockets {
    /// 127.0.0.11:53, udp.
    pub udp: OwnedFd,
    /// 127.0.0.11:53, tcp, listening.
    pub tcp: OwnedFd,
}

impl DnsSockets {
    /// Makes duplicates, for whoever is to hold them beside us.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }
}

/// Opens the sockets inside the namespace, raising `lo` first. They stay there whoever serves them.
pub fn open_dns_sockets(netns: BorrowedFd<'_>) -> Result<DnsSockets, NetworkError> {
    let failed = |source| NetworkError::Socket {
        operation: format!("open the name server's socket {DNS_ADDRESS}:{PORT}"),
        source,
    };
    let container = || "the container".to_owned();
    let opened = in_namespace(netns, || {
        raise_loopback_here().map_err(|source| NetworkError::Namespace { container: container(), source })?;
        let udp = StdUdpSocket::bind((DNS_ADDRESS, PORT)).map_err(failed)?;
        let tcp = StdTcpListener::bind((DNS_ADDRESS, PORT)).map_err(failed)?;
        Ok(DnsSockets { udp: udp.into(), tcp: tcp.into() })
    });
    opened.map_err(|source| NetworkError::Namespace { container: container(), source })?
}

/// Answers a container's questions until it is dropped.
///
/// Without `resolvers` only our own names are answered.
pub fn serve(
    sockets: DnsSockets,
    view: NameView,
    resolvers: Option<Resolvers>,
) -> Result<impl Future<Output = ()> + Send, NetworkError> {
    let failed = |source| NetworkError::Socket { operation: "serve names".to_owned(), source };
    let (udp, tcp) = (StdUdpSocket::from(sockets.udp), StdTcpListener::from(sockets.tcp));
    udp.set_nonblocking(true).map_err(failed)?;
    tcp.set_nonblocking(true).map_err(failed)?;
    let server = Arc::new(Server { view, resolvers });
    Ok(async move {
        match (UdpSocket::from_std(udp), TcpListener::from_std(tcp)) {
            (Ok(udp), Ok(tcp)) => {
                tokio::join!(datagrams(Arc::new(udp), Arc::clone(&server)), connections(tcp, server));
            }
            (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "names are not served"),
        }
    })
}

#[derive(Debug)]
struct Server {
    view: NameView,
    resolvers: Option<Resolvers>,
}

impl Server {
    async fn forward(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let reply = match &self.resolvers {
            Some(resolvers) => resolvers.ask(query, transport).await,
            None => None,
        };
        reply.or_else(|| failure(query))
    }
}

fn failure(query: &[u8]) -> Option<Vec<u8>> {
    match refuse(query, ResponseCode::ServFail) {
        Decision::Reply(bytes) => Some(bytes),
        _ => None,
    }
}

async fn datagrams(socket: Arc<UdpSocket>, server: Arc<Server>) {
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        tokio::select! {
            Some(_) = waiting.join_next() => {}
            received = socket.recv_from(&mut buffer) => {
                // An error here is an ICMP message about an earlier answer.
                let Ok((length, client)) = received else { continue };
                let Some(query) = buffer.get(..length) else { continue };
                match decide(query, Transport::Udp, &server.view) {
                    Decision::Drop => {}
                    Decision::Reply(reply) => send(&socket, reply, client).await,
                    Decision::Forward if waiting.len() >= WAITING => {
                        if let Some(reply) = failure(query) {
                            send(&socket, reply, client).await;
                        }
                    }
                    Decision::Forward => {
                        let (socket, server, query) = (Arc::clone(&socket), Arc::clone(&server), query.to_vec());
                        waiting.spawn(async move {
                            if let Some(reply) = server.forward(&query, Transport::Udp).await {
                                send(&socket, reply, client).await;
                            }
                        });
                    }
                }
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: Vec<u8>, client: SocketAddr) {
    // A client that is gone needs no answer.
    let _ = socket.send_to(&reply, client).await;
}

async fn connections(listener: TcpListener, server: Arc<Server>) {
    let mut open = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            Some(_) = open.join_next() => oldest_first.retain(|connection| !connection.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Who holds connections open and says nothing keeps nobody else out.
                    if open.len() >= CONNECTIONS && let Some(oldest) = oldest_first.pop_front() {
                        oldest.abort();
                    }
                    oldest_first.push_back(open.spawn(converse(stream, Arc::clone(&server))));
                }
                // Without descriptors accept(2) would fail again at once.
                Err(_) => tokio::time::sleep(RESPITE).await,
            },
        }
    }
}

async fn converse(mut stream: TcpStream, server: Arc<Server>) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut query)).await??;
        let reply = match decide(&query, Transport::Tcp, &server.view) {
            Decision::Drop => return Ok(()),
            Decision::Reply(reply) => Some(reply),
            Decision::Forward => server.forward(&query, Transport::Tcp).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
