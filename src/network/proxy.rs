//! Carries what the firewall's DNAT does not catch to the container: connections from the host to 127.0.0.1 and ::1, those of IPv6
//! to a container that has IPv4 alone and the other way round, and from containers to a port of the host.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::NetworkError;
use super::datagram::{AnsweringSocket, Asker};

/// How many connections one port carries at a time; further ones wait in the listen queue.
const CONNECTIONS: usize = 1024;
/// How long a container may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait when the process is out of descriptors.
const RESPITE: Duration = Duration::from_millis(50);
/// After which an exchange of datagrams is over.
const UDP_IDLE: Duration = Duration::from_secs(90);

/// Says where a container's port is, over IPv4 and over IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
}

impl Targets {
    /// Takes the first address of each family.
    pub fn of(addresses: &[IpAddr], port: u16) -> Self {
        let first = |v6: bool| addresses.iter().find(|address| address.is_ipv6() == v6);
        let target = |address: &IpAddr| SocketAddr::new(*address, port);
        Self { v4: first(false).map(target), v6: first(true).map(target) }
    }

    /// Lists what is tried for a client: first what speaks as it does, then the other, for a program that listens over IPv4
    /// alone is not to be lost to those whose `localhost` is ::1.
    fn for_client(self, client: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        // A socket of both families shows clients of IPv4 as ::ffff:192.0.2.1.
        let order = if client.ip().to_canonical().is_ipv6() { [self.v6, self.v4] } else { [self.v4, self.v6] };
        order.into_iter().flatten()
    }
}

impl From<SocketAddr> for Targets {
    fn from(target: SocketAddr) -> Self {
        Self::of(&[target.ip()], target.port())
    }
}

/// Accepts on a reserved port and carries each connection to one of `targets`; runs until it is dropped.
///
/// They are asked for with each connection, so a restarted container is found at its new address; where there is none the
/// connection is closed at once.
pub fn serve_proxy(
    listener: OwnedFd,
    targets: impl Fn() -> Targets + Send + 'static,
) -> Result<impl Future<Output = ()> + Send, NetworkError> {
    let failed = |source| NetworkError::Socket { operation: "serve a published tcp port".to_owned(), source };
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => accept_loop(listener, targets).await,
            Err(error) => tracing::error!(%error, "a published tcp port is not served"),
        }
    })
}

async fn accept_loop(listener: TcpListener, targets: impl Fn() -> Targets) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((client, from)) => {
                    connections.spawn(carry(client, targets().for_client(from).collect()));
                }
                // A connection that its client gave up costs nothing; without descriptors accept(2) would spin.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                    tokio::time::sleep(RESPITE).await;
                }
                Err(error) => tracing::debug!(%error, "accept"),
            },
        }
    }
}

async fn carry(mut client: TcpStream, targets: Vec<SocketAddr>) -> io::Result<()> {
    // One address after the other; of an empty list there is an error, and the connection is closed.
    let mut server = timeout(CONNECT, TcpStream::connect(targets.as_slice())).await??;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Receives on a reserved udp port and carries datagrams to one of `targets` and answers back; runs until it is dropped.
pub fn serve_udp_proxy(
    socket: OwnedFd,
    targets: impl Fn() -> Targets + Send + 'static,
) -> Result<impl Future<Output = ()> + Send, NetworkError> {
    Ok(async move {
        match AnsweringSocket::from_fd(socket) {
            Ok(socket) => datagram_loop(Arc::new(socket), targets).await,
            Err(error) => tracing::error!(%error, "a published udp port is not served"),
        }
    })
}

async fn datagram_loop(socket: Arc<AnsweringSocket>, targets: impl Fn() -> Targets) {
    let mut exchanges: HashMap<Asker, Arc<UdpSocket>> = HashMap::new();
    let mut readers = JoinSet::new();
    let mut buffer = vec![0; 65536];
    loop {
        tokio::select! {
            Some(Ok(asker)) = readers.join_next() => {
                exchanges.remove(&asker);
            }
            received = socket.receive(&mut buffer) => {
                let Ok((length, asker)) = received else { continue };
                let target = targets().for_client(asker.client).next();
                let (Some(target), Some(datagram)) = (target, buffer.get(..length)) else { continue };
                let full = exchanges.len() >= CONNECTIONS;
                let known = exchanges.get(&asker).filter(|exchange| exchange.peer_addr().is_ok_and(|to| to == target));
                let exchange = match known {
                    Some(exchange) => Arc::clone(exchange),
                    None if full => continue,
                    None => match connected(target).await {
                        Ok(exchange) => {
                            let exchange = Arc::new(exchange);
                            exchanges.insert(asker, Arc::clone(&exchange));
                            readers.spawn(answer(Arc::clone(&exchange), Arc::clone(&socket), asker));
                            exchange
                        }
                        Err(_) => continue,
                    },
                };
                // As on any wire, a datagram that does not go through is lost.
                let _ = exchange.send(datagram).await;
            }
        }
    }
}

async fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Carries answers back until there have been none for a while, and returns whose they were.
async fn answer(exchange: Arc<UdpSocket>, socket: Arc<AnsweringSocket>, asker: Asker) -> Asker {
    let mut buffer = vec![0; 65536];
    loop {
        match timeout(UDP_IDLE, exchange.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                if let Some(datagram) = buffer.get(..length) {
                    let _ = socket.answer(asker, datagram).await;
                }
            }
            // Nobody listens yet: the container is starting, and the next datagram may find it.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => return asker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{PortMapping, PortReservation, Protocol};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn reservation(protocol: Protocol) -> PortReservation {
        let host_ip = Some([127, 0, 0, 1].into());
        PortReservation::bind(&PortMapping {
            host_ip,
            host_port: None,
            host_port_to: None,
            container_port: 1,
            protocol,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_carried_both_ways_and_closed_without_a_target() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let reservation = reservation(Protocol::Tcp);
        let port = reservation.port().host_port;
        let there = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&there);
        let target =
            move || if asked.load(std::sync::atomic::Ordering::SeqCst) { address.into() } else { Targets::default() };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_proxy(reservation.into_fd(), target).unwrap());

        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "ping", "the end of one direction is passed on, the other stays open");
        accepted.write_all(b"pong").await.unwrap();
        drop(accepted);
        text.clear();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "pong");

        there.store(false, std::sync::atomic::Ordering::SeqCst);
        let mut refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[test]
    fn a_client_is_led_to_its_own_family_first() {
        let targets = Targets::of(&["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()], 80);
        let led = |client: &str| {
            targets.for_client(client.parse().unwrap()).map(|target| target.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(led("[::1]:4000"), ["[fd00::2]:80", "10.0.0.2:80"]);
        assert_eq!(led("[::ffff:127.0.0.1]:4000"), ["10.0.0.2:80", "[fd00::2]:80"]);
        let alone = Targets::from(SocketAddr::from(([10, 0, 0, 2], 80)));
        assert_eq!(alone.for_client("[::1]:4000".parse().unwrap()).count(), 1);
    }

    #[tokio::test]
    async fn datagrams_come_back_to_their_sender() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let reservation = reservation(Protocol::Udp);
        let port = reservation.port().host_port;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp_proxy(reservation.into_fd(), move || address.into()).unwrap());
        let mut buffer = [0; 16];
        for word in ["one", "two"] {
            let client = connected(([127, 0, 0, 1], port).into()).await.unwrap();
            client.send(word.as_bytes()).await.unwrap();
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&buffer[..length], from).await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], word.as_bytes());
        }
    }
}
