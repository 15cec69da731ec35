//! Carries what the firewall's DNAT does not catch to the container: connections from the host to 127.0.0.1, over IPv6,
//! and from containers to a port of the host.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
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

/// Accepts on a reserved port and carries each connection to `target`; runs until it is dropped.
///
/// The target is asked for each connection, so a restarted container is found at its new address; where there is none the
/// connection is closed at once.
pub fn serve_proxy(
    listener: OwnedFd,
    target: impl Fn() -> Option<SocketAddr> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send, NetworkError> {
    let failed = |source| NetworkError::Socket { operation: "serve a published tcp port".to_owned(), source };
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => accept_loop(listener, target).await,
            Err(error) => tracing::error!(%error, "a published tcp port is not served"),
        }
    })
}

async fn accept_loop(listener: TcpListener, target: impl Fn() -> Option<SocketAddr>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((client, _)) => {
                    if let Some(target) = target() {
                        connections.spawn(carry(client, target));
                    }
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

async fn carry(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut server = timeout(CONNECT, TcpStream::connect(target)).await??;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Receives on a reserved udp port and carries datagrams to `target` and answers back; runs until it is dropped.
pub fn serve_udp_proxy(
    socket: OwnedFd,
    target: impl Fn() -> Option<SocketAddr> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send, NetworkError> {
    Ok(async move {
        match AnsweringSocket::from_fd(socket) {
            Ok(socket) => datagram_loop(Arc::new(socket), target).await,
            Err(error) => tracing::error!(%error, "a published udp port is not served"),
        }
    })
}

async fn datagram_loop(socket: Arc<AnsweringSocket>, target: impl Fn() -> Option<SocketAddr>) {
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
                let (Some(target), Some(datagram)) = (target(), buffer.get(..length)) else { continue };
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
        let target = move || asked.load(std::sync::atomic::Ordering::SeqCst).then_some(address);
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

    #[tokio::test]
    async fn datagrams_come_back_to_their_sender() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let reservation = reservation(Protocol::Udp);
        let port = reservation.port().host_port;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp_proxy(reservation.into_fd(), move || Some(address)).unwrap());
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
