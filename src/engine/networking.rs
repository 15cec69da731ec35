//! A container's places in networks: attaching all of them, or none; its names, its name server, its published ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::error::LaunchError;
use super::files::Addresses;
use super::host::Host;
use crate::network::dns::{self, DnsSockets, NameEntry, Resolvers, open_dns_sockets};
use crate::network::{
    AttachRequest, Attachment, PortMapping, PortReservation, Protocol, PublishedPort, Targets, serve_proxy,
    serve_udp_proxy,
};
use crate::spec::{Bandwidth, ContainerId, DnsRequest, InterfaceName, MacAddress, Mark, Stopwatch};

/// Names what is kept for a successor.
const NETNS: &str = "netns";
const DNS_UDP: &str = "dns-udp";
const DNS_TCP: &str = "dns-tcp";

/// Is what one container wants of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkWish {
    /// The network's full name.
    pub network: String,
    /// The interface inside.
    pub ifname: InterfaceName,
    /// Names under which others on this network find it, besides its own.
    pub aliases: Vec<String>,
    /// Names that it alone knows others by, and what they are called on this network.
    pub links: BTreeMap<String, String>,
    /// A chosen address.
    pub ipv4: Option<Ipv4Addr>,
    /// A chosen IPv6 address.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Link-local addresses that the interface gets besides.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// A chosen Ethernet address.
    pub mac: Option<MacAddress>,
    /// Whether the default route goes through it, and published ports come in.
    pub default_route: bool,
    /// How much it may receive and send there.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Ports to publish on it.
    pub ports: Vec<PortMapping>,
}

/// Says who is attached, and how it is called.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Its name.
    pub name: &'a str,
    /// Its names on every network, besides that.
    pub names: &'a [String],
    /// Its networks, in the order of their interfaces.
    pub wishes: &'a [NetworkWish],
    /// Whose servers answer what is not ours.
    pub dns: &'a DnsRequest,
}

impl Guest<'_> {
    /// Returns its names on one network, besides its own name.
    fn names_on(&self, network: &str) -> Vec<String> {
        let there = self.wishes.iter().filter(|wish| wish.network == network);
        let mut names: Vec<String> = Vec::new();
        for name in self.names.iter().chain(there.flat_map(|wish| &wish.aliases)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// Is a container's network namespace with its places in networks. Dropping it ends the servers and nothing else.
#[derive(Debug, Default)]
pub struct Networking {
    /// The namespace, where it has one of its own.
    pub netns: Option<OwnedFd>,
    /// Its places.
    pub attachments: Vec<Attachment>,
    name_server: Option<DnsSockets>,
    ports: Vec<(PublishedPort, Arc<OwnedFd>)>,
    servers: JoinSet<()>,
    /// Whether an attachment was begun: who stops waiting in the middle of one has not heard of it.
    is_begun: bool,
    /// What its steps are noted in.
    watch: Stopwatch,
}

impl Networking {
    /// Begins with a namespace that is on no network yet.
    pub fn of(netns: OwnedFd) -> Self {
        Self { netns: Some(netns), ..Self::default() }
    }

    pub(super) fn watch(&self) -> &Stopwatch {
        &self.watch
    }

    /// Notes in `watch` how long each attachment takes.
    #[must_use]
    pub fn measured_by(self, watch: &Stopwatch) -> Self {
        Self { watch: watch.clone(), ..self }
    }

    /// Attaches the namespace to every network that is wished for, in order, and gives the container its names there.
    ///
    /// # Errors
    /// The first failure. What was made before it is for [`Networking::detach`].
    pub async fn attach(&mut self, host: &Host, guest: Guest<'_>) -> Result<(), LaunchError> {
        let Some(netns) = &self.netns else { return Ok(()) };
        host.detacher.comes_back(guest.id);
        let watch = self.watch.clone();
        for (number, wish) in guest.wishes.iter().enumerate() {
            let step = watch.begin(Mark::AttachNetwork(number));
            let mut ports = Vec::new();
            for mapping in &wish.ports {
                let mapping = host.networks.at_its_address(&wish.network, *mapping);
                let reservation = match host.ports.take(guest.id, &mapping) {
                    Some(held) => held,
                    None => host.networks.reserve(&mapping)?,
                };
                ports.push(reservation.mapping());
                self.ports.push((reservation.port(), Arc::new(reservation.into_fd())));
            }
            self.is_begun = true;
            let attachment = host
                .networks
                .attach(AttachRequest {
                    network: wish.network.clone(),
                    container: guest.id.clone(),
                    container_name: guest.name.to_owned(),
                    aliases: guest.names_on(&wish.network),
                    netns: netns.as_fd(),
                    ifname: wish.ifname.clone(),
                    ipv4: wish.ipv4,
                    ipv6: wish.ipv6,
                    link_local: wish.link_local.clone(),
                    mac: wish.mac,
                    default_route: wish.default_route,
                    bandwidth: wish.bandwidth,
                    ports,
                    process: None,
                })
                .await?;
            self.attachments.push(attachment);
            step.done();
        }
        let step = watch.begin(Mark::AttachNetwork(guest.wishes.len().saturating_sub(1)));
        if !self.attachments.is_empty() {
            self.name_server = Some(open_dns_sockets(netns.as_fd())?);
        }
        self.serve(host, guest)?;
        step.done();
        Ok(())
    }

    /// Takes over from an earlier supervisor: the places from their records, the descriptors from what was kept.
    ///
    /// # Errors
    /// Records that are lost or cannot be read; sockets that cannot be had.
    pub fn resume(
        host: &Host,
        guest: Guest<'_>,
        pid: i32,
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Self, LaunchError> {
        let attachments = host.networks.attachments_of(guest.id)?;
        let is_there = |wish: &NetworkWish| attachments.iter().any(|place| place.network_name == wish.network);
        if let Some(wish) = guest.wishes.iter().find(|wish| !is_there(wish)) {
            return Err(LaunchError::PlaceLost { network: wish.network.clone() });
        }
        let netns = take(NETNS).or_else(|| std::fs::File::open(format!("/proc/{pid}/ns/net")).ok().map(OwnedFd::from));
        if let Some(netns) = &netns {
            host.networks.resume(guest.id, netns.as_fd())?;
        }
        let name_server = match (take(DNS_UDP), take(DNS_TCP), &netns) {
            (Some(udp), Some(tcp), _) => Some(DnsSockets { udp, tcp }),
            (_, _, Some(netns)) if !attachments.is_empty() => Some(open_dns_sockets(netns.as_fd())?),
            _ => None,
        };
        let mut ports = Vec::new();
        for port in attachments.iter().flat_map(|attachment| &attachment.ports) {
            let socket = match take(&port_key(port)) {
                Some(socket) => socket,
                None => PortReservation::bind(&mapping(port))?.into_fd(),
            };
            ports.push((*port, Arc::new(socket)));
        }
        let is_begun = !attachments.is_empty();
        let mut networking = Self {
            netns,
            attachments,
            name_server,
            ports,
            servers: JoinSet::new(),
            is_begun,
            watch: Stopwatch::default(),
        };
        networking.serve(host, guest)?;
        Ok(networking)
    }

    /// Makes the names known and begins to answer for them and to carry what the firewall does not.
    fn serve(&mut self, host: &Host, guest: Guest<'_>) -> Result<(), LaunchError> {
        for attachment in &self.attachments {
            let addresses = attachment.ips();
            if addresses.is_empty() {
                continue;
            }
            host.names.insert(NameEntry {
                network: attachment.network_name.clone(),
                container: guest.id.clone(),
                container_name: guest.name.to_owned(),
                addresses,
                names: guest.names_on(&attachment.network_name),
                holder: None,
            })?;
        }
        if let Some(sockets) = &self.name_server {
            let links = guest.wishes.iter().flat_map(|wish| wish.links.clone());
            let view =
                host.names.view(self.attachments.iter().map(|place| place.network_name.clone())).with_links(links);
            let resolvers = self.resolvers(host, guest.dns)?;
            let sockets = sockets.try_clone().map_err(LaunchError::Channel)?;
            self.servers.spawn(dns::serve(sockets, view, resolvers)?);
        }
        host.ports.note(guest.id, &self.ports);
        for (port, socket) in &self.ports {
            let Some(place) = self.attachments.iter().find(|place| place.ports.contains(port)) else { continue };
            let target = match place.published_at {
                Some(router) => Targets::of(&[router.into()], port.host_port),
                None => {
                    let ips: Vec<IpAddr> = place.networks().iter().map(IpNetwork::ip).collect();
                    Targets::of(&ips, port.container_port)
                }
            };
            let socket = socket.try_clone().map_err(LaunchError::Channel)?;
            match port.protocol {
                Protocol::Tcp => self.servers.spawn(serve_proxy(socket, move || target)?),
                Protocol::Udp => self.servers.spawn(serve_udp_proxy(socket, move || target)?),
            };
        }
        Ok(())
    }

    /// Says who is asked for names that are not ours: the servers that the container names, as it reaches them, or those of
    /// the host where the container has a way out of it.
    fn resolvers(&self, host: &Host, dns: &DnsRequest) -> Result<Option<Resolvers>, LaunchError> {
        if let (false, Some(netns)) = (dns.servers.is_empty(), &self.netns) {
            let netns = netns.try_clone().map_err(LaunchError::Channel)?;
            return Ok(Some(Resolvers::inside(netns, dns.servers.clone())));
        }
        let leads_out = self.attachments.iter().any(Attachment::leads_out);
        Ok(leads_out.then(|| Resolvers::from_file(host.resolv_conf.clone())))
    }

    /// Lists the descriptors that a successor needs, by name.
    pub fn kept(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let mut kept: Vec<_> = self.netns.iter().map(|netns| (NETNS.to_owned(), netns.as_fd())).collect();
        if let Some(sockets) = &self.name_server {
            kept.push((DNS_UDP.to_owned(), sockets.udp.as_fd()));
            kept.push((DNS_TCP.to_owned(), sockets.tcp.as_fd()));
        }
        kept.extend(self.ports.iter().map(|(port, socket)| (port_key(port), socket.as_fd())));
        kept
    }

    /// Gives up all names, ports and places.
    ///
    /// # Errors
    /// What stays behind is on record, and is taken away by whoever starts next.
    pub async fn detach(mut self, host: &Host, container: &ContainerId) -> Result<(), LaunchError> {
        self.fall_silent(host, container).await;
        // The namespace ends with its last descriptor; its interfaces are taken away before that, and by us.
        if !self.is_begun { Ok(()) } else { host.detacher.detach(host, container).await }
    }

    /// Gives up all that an attachment that failed has made; the namespace stays, to be attached again.
    ///
    /// # Errors
    /// As [`Networking::detach`].
    pub(super) async fn begin_again(&mut self, host: &Host, container: &ContainerId) -> Result<(), LaunchError> {
        self.fall_silent(host, container).await;
        self.attachments.clear();
        self.ports.clear();
        self.name_server = None;
        host.detacher.detach(host, container).await
    }

    /// Gives up names and ports; the places are taken away with their networks.
    pub async fn leave(mut self, host: &Host, container: &ContainerId) {
        self.fall_silent(host, container).await;
        host.detacher.leave(container.clone(), self.netns.take());
    }

    async fn fall_silent(&mut self, host: &Host, container: &ContainerId) {
        host.names.remove(container);
        self.servers.shutdown().await;
    }

    /// Returns the container's addresses, and the host's: the gateway of the network that leads out, or else of the
    /// first that has one.
    pub fn addresses(&self) -> Addresses {
        let own = self.attachments.iter().flat_map(Attachment::ips).collect();
        let gateway = |place: &Attachment| place.gateway.map(IpAddr::V4).or(place.gateway_v6.map(IpAddr::V6));
        let with_gateway = self.attachments.iter().filter(|place| gateway(place).is_some());
        let host = with_gateway.min_by_key(|place| !place.default_route).and_then(gateway);
        Addresses { own, host }
    }
}

fn port_key(port: &PublishedPort) -> String {
    let ip = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
    format!("port-{ip}:{}/{}", port.host_port, port.protocol)
}

fn mapping(port: &PublishedPort) -> PortMapping {
    PortMapping {
        host_ip: port.host_ip,
        host_port: Some(port.host_port),
        host_port_to: None,
        container_port: port.container_port,
        protocol: port.protocol,
    }
}
