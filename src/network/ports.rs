//! Published ports: a socket holds the host's port before anything starts, so that a conflict is found at once.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::config::{PortMapping, Protocol};
use super::error::PortOwner;
use super::record::{Attachment, PublishedPort};
use super::{NetworkError, Networks};

/// How many connections may wait for our proxy.
const BACKLOG: i32 = 1024;

/// Holds one port of the host; what the firewall does not lead to the container arrives at its socket.
///
/// The socket outlives us in the keeper: [`PortReservation::into_fd`] and [`PortReservation::from_fd`].
#[derive(Debug)]
pub struct PortReservation {
    port: PublishedPort,
    socket: OwnedFd,
}

impl PortReservation {
    /// Takes the port in the network namespace of the calling thread; a free one where none is named, or any free one of a
    /// range.
    ///
    /// Without an address the socket takes IPv4 and IPv6 alike, where the host has IPv6.
    pub fn bind(mapping: &PortMapping) -> Result<Self, NetworkError> {
        let mut bound = Err(Errno::ADDRINUSE);
        for port in candidates(mapping) {
            bound = open_at(mapping, port);
            if !matches!(bound, Err(Errno::ADDRINUSE)) {
                break;
            }
        }
        let socket = bound.map_err(|errno| refused(mapping, errno))?;
        let address = getsockname(&socket).and_then(|any| SocketAddr::try_from(any).map_err(|_| Errno::INVAL));
        let host_port = address.map_err(|errno| refused(mapping, errno))?.port();
        let port = PublishedPort {
            host_ip: mapping.host_ip,
            host_port,
            container_port: mapping.container_port,
            protocol: mapping.protocol,
        };
        Ok(Self { port, socket })
    }

    /// Takes a port over from another container that has it, with a duplicate of its socket: there is no moment in which
    /// somebody else could take it. `None` where it is not the same place of the host.
    ///
    /// # Errors
    /// EMFILE.
    pub fn of_predecessor(
        mapping: &PortMapping,
        port: &PublishedPort,
        socket: BorrowedFd<'_>,
    ) -> std::io::Result<Option<Self>> {
        let ports = mapping.host_port.map(|first| first..=mapping.host_port_to.unwrap_or(first));
        let within = ports.is_some_and(|ports| ports.contains(&port.host_port));
        if !within || (port.host_ip, port.protocol) != (mapping.host_ip, mapping.protocol) {
            return Ok(None);
        }
        let port = PublishedPort { container_port: mapping.container_port, ..*port };
        Ok(Some(Self { port, socket: socket.try_clone_to_owned()? }))
    }

    /// Refuses a port that a process has by a socket that is none of `known`. Nothing is bound: who has those sockets has the
    /// port, or a part of it, at present.
    ///
    /// # Errors
    /// [`NetworkError::PortTaken`] with that process.
    pub fn check_beside(mapping: &PortMapping, known: &[BorrowedFd<'_>]) -> Result<(), NetworkError> {
        let (ip, port) = (mapping.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), mapping.host_port.unwrap_or(0));
        let known: Vec<u64> =
            known.iter().filter_map(|socket| rustix::fs::fstat(socket).ok()).map(|stat| stat.st_ino).collect();
        let mut others = holders(ip, port, mapping.protocol);
        others.retain(|inode| !known.contains(inode));
        if others.is_empty() {
            return Ok(());
        }
        let host = SocketAddr::new(ip, port).to_string();
        Err(NetworkError::PortTaken { host, protocol: mapping.protocol, owner: process_with(&others) })
    }

    /// Takes up a socket that was handed over.
    pub fn from_fd(port: PublishedPort, socket: OwnedFd) -> Self {
        Self { port, socket }
    }

    /// Returns what is published.
    pub fn port(&self) -> PublishedPort {
        self.port
    }

    /// Returns what is published as an attach request wants it.
    pub fn mapping(&self) -> PortMapping {
        let PublishedPort { host_ip, host_port, container_port, protocol } = self.port;
        PortMapping { host_ip, host_port: Some(host_port), host_port_to: None, container_port, protocol }
    }

    /// Gives the socket away.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }
}

impl Networks {
    /// Takes a port of the host as [`PortReservation::bind`] does; one that a container of ours has, of whichever project, is
    /// said to be that container's.
    pub fn reserve(&self, mapping: &PortMapping) -> Result<PortReservation, NetworkError> {
        PortReservation::bind(mapping).map_err(|error| match error {
            NetworkError::PortTaken { host, protocol, owner } => {
                let publisher = self.publishers_of(mapping).into_iter().next();
                let publisher = publisher.map(|place| PortOwner::Container(place.container_name));
                NetworkError::PortTaken { host, protocol, owner: publisher.or(owner) }
            }
            error => error,
        })
    }

    /// Gives a mapping without an address the one that its network's option `host_binding_ipv4` names. It is asked for before
    /// the port is taken: socket, record, proxy and firewall have to mean the same place.
    pub fn at_its_address(&self, network: &str, mapping: PortMapping) -> PortMapping {
        let of_network = || self.state.find(network).ok()??.config.host_binding();
        PortMapping { host_ip: mapping.host_ip.or_else(of_network), ..mapping }
    }

    /// Finds the containers of ours whose published ports clash with this one.
    pub fn publishers_of(&self, mapping: &PortMapping) -> Vec<Attachment> {
        if mapping.host_port.is_none() || mapping.host_port_to.is_some() {
            return Vec::new();
        }
        let networks = self.state.networks().unwrap_or_default();
        let places = networks.iter().flat_map(|network| self.state.attachments(&network.id).unwrap_or_default());
        places.into_iter().filter(|place| place.ports.iter().any(|port| port.clashes_with(mapping))).collect()
    }
}

impl PublishedPort {
    /// Whether both cannot be published at once.
    pub fn clashes_with(&self, mapping: &PortMapping) -> bool {
        let host_port = mapping.host_port.filter(|_| mapping.host_port_to.is_none());
        overlap(self.host_ip, mapping.host_ip) && self.protocol == mapping.protocol && Some(self.host_port) == host_port
    }
}

impl PortMapping {
    /// Whether both ask for the same port of the host, and for no other.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let fixed = self.host_port_to.is_none() && other.host_port_to.is_none() && self.host_port.is_some();
        let same = (self.protocol, self.host_port) == (other.protocol, other.host_port);
        fixed && same && overlap(self.host_ip, other.host_ip)
    }
}

fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    // 0.0.0.0 is all of IPv4, :: all of IPv6.
    one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified() || one == other)
}

impl AsFd for PortReservation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Lists the host's ports that may be taken, in the order in which they are tried. A range is begun at a place made by chance:
/// whoever connects to a port by habit is not to find another container there.
fn candidates(mapping: &PortMapping) -> Vec<u16> {
    let first = mapping.host_port.unwrap_or(0);
    let mut ports: Vec<u16> = (first..=mapping.host_port_to.unwrap_or(first)).collect();
    let mut chance = [0_u8; 2];
    if ports.len() > 1 && rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty()).is_ok() {
        let start = usize::from(u16::from_ne_bytes(chance)) % ports.len();
        ports.rotate_left(start);
    }
    ports
}

fn open_at(mapping: &PortMapping, port: u16) -> Result<OwnedFd, Errno> {
    let PortMapping { host_ip, protocol, .. } = *mapping;
    match host_ip {
        Some(ip) => open(SocketAddr::new(ip, port), protocol, true),
        None => match open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), protocol, false) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), protocol, true)
            }
            other => other,
        },
    }
}

/// Opens a socket at an address; one of IPv6 takes clients of IPv4, too, unless `one_family` says otherwise.
fn open(address: SocketAddr, protocol: Protocol, one_family: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, one_family)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier container in TIME_WAIT do not hold the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn refused(mapping: &PortMapping, errno: Errno) -> NetworkError {
    let ip = mapping.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let host = SocketAddr::new(ip, mapping.host_port.unwrap_or(0));
    match (errno, mapping.host_port_to) {
        (Errno::ADDRINUSE, Some(last)) => {
            NetworkError::PortsTaken { range: format!("{ip}:{}-{last}", host.port()), protocol: mapping.protocol }
        }
        (Errno::ADDRINUSE, None) => NetworkError::PortTaken {
            host: host.to_string(),
            protocol: mapping.protocol,
            owner: process_with(&holders(ip, host.port(), mapping.protocol)),
        },
        (errno, _) => NetworkError::Socket {
            operation: format!("publish {} port {host}", mapping.protocol),
            source: errno.into(),
        },
    }
}

/// Lists the sockets that hold the port, by their inodes.
fn holders(ip: IpAddr, port: u16, protocol: Protocol) -> Vec<u64> {
    // Not /proc/net: that is the namespace of the thread group leader.
    let tables = ["", "6"].map(|family| fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    lines.filter_map(|line| holder(line, ip, port, protocol)?.parse().ok()).collect()
}

/// Looks for the process of which a descriptor shows one of these sockets.
fn process_with(inodes: &[u64]) -> Option<PortOwner> {
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if sockets.is_empty() {
        return None;
    }
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in processes {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        if links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str())) {
            return Some(PortOwner::Process { pid, command: command(pid) });
        }
    }
    None
}

/// Returns the inode of a line of /proc/net/tcp (or udp) if it holds the port at an address that clashes with `ip`.
fn holder(line: &str, ip: IpAddr, port: u16, protocol: Protocol) -> Option<String> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, hex_port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let listens = protocol == Protocol::Udp || state == LISTEN;
    if u16::from_str_radix(hex_port, 16) != Ok(port) || !listens || inode == "0" {
        return None;
    }
    let any = address.bytes().all(|byte| byte == b'0');
    let same = match ip {
        IpAddr::V4(ip) => address.len() == 8 && u32::from_str_radix(address, 16) == Ok(u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(_) => address.len() == 32,
    };
    (any || same || ip.is_unspecified()).then(|| inode.to_owned())
}

fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&line).replace('\0', " ");
    let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(80).collect();
    if !shown.is_empty() {
        return shown;
    }
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(ip: Option<&str>, port: Option<u16>, protocol: Protocol) -> PortMapping {
        let host_ip = ip.map(|ip| ip.parse().unwrap());
        PortMapping { host_ip, host_port: port, host_port_to: None, container_port: 80, protocol }
    }

    fn in_fresh_namespace(work: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            crate::namespaces::network::raise_loopback_here().unwrap();
            work();
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_taken_port_names_its_owner() {
        in_fresh_namespace(|| {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let first = PortReservation::bind(&mapping(None, None, protocol)).unwrap();
                let port = first.port().host_port;
                for ip in [None, Some("127.0.0.1"), Some("0.0.0.0")] {
                    let error = PortReservation::bind(&mapping(ip, Some(port), protocol)).unwrap_err();
                    let NetworkError::PortTaken { owner: Some(PortOwner::Process { pid, .. }), .. } = &error else {
                        panic!("{error:?}")
                    };
                    assert_eq!(*pid, std::process::id());
                    assert!(error.to_string().contains(&port.to_string()), "{error}");
                }
                drop(PortReservation::from_fd(first.port(), first.into_fd()));
                PortReservation::bind(&mapping(None, Some(port), protocol)).unwrap();
            }
        });
    }

    #[test]
    fn all_of_ipv6_is_none_of_ipv4() {
        in_fresh_namespace(|| {
            if !crate::namespaces::network::has_ipv6_here() {
                return;
            }
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let first = PortReservation::bind(&mapping(Some("::"), None, protocol)).unwrap();
                let port = Some(first.port().host_port);
                let v4 = mapping(Some("0.0.0.0"), port, protocol);
                assert!(!first.port().clashes_with(&v4) && first.port().clashes_with(&mapping(None, port, protocol)));
                assert!(first.port().clashes_with(&mapping(Some("::1"), port, protocol)));
                PortReservation::bind(&v4).unwrap();
                assert!(PortReservation::bind(&mapping(None, port, protocol)).is_err());
            }
        });
    }

    #[test]
    fn of_a_range_any_free_port_is_taken() {
        in_fresh_namespace(|| {
            let range = PortMapping { host_port_to: Some(8012), ..mapping(None, Some(8010), Protocol::Udp) };
            let taken: Vec<_> = (0..3).map(|_| PortReservation::bind(&range).unwrap()).collect();
            let mut ports: Vec<u16> = taken.iter().map(|taken| taken.port().host_port).collect();
            ports.sort_unstable();
            assert_eq!(ports, [8010, 8011, 8012]);
            let error = PortReservation::bind(&range).unwrap_err();
            assert!(error.to_string().contains("8010-8012") && error.hint().is_some(), "{error}");
        });
    }

    #[test]
    fn different_addresses_do_not_clash_and_foreign_ones_have_a_hint() {
        in_fresh_namespace(|| {
            let first = PortReservation::bind(&mapping(Some("127.0.0.1"), None, Protocol::Tcp)).unwrap();
            let port = Some(first.port().host_port);
            PortReservation::bind(&mapping(Some("127.0.0.2"), port, Protocol::Tcp)).unwrap();
            let error = PortReservation::bind(&mapping(Some("192.0.2.1"), port, Protocol::Tcp)).unwrap_err();
            assert!(error.hint().unwrap().contains("no interface"), "{error:?}");
        });
    }

    #[test]
    fn lines_of_proc_net_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let localhost = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(holder(line, localhost, 8080, Protocol::Tcp).as_deref(), Some("4242"));
        assert_eq!(holder(line, [127, 0, 0, 2].into(), 8080, Protocol::Tcp), None);
        assert_eq!(holder(line, localhost, 8081, Protocol::Tcp), None);
        assert_eq!(holder(&line.replace(" 0A ", " 01 "), localhost, 8080, Protocol::Tcp), None);
        assert_eq!(holder("", localhost, 8080, Protocol::Tcp), None);
    }
}
