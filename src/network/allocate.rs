//! What is to be made, decided before any of it is: which subnet, bridge, address and names. The kernel is asked, and nothing in it is changed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::config::{DriverKind, NetworkConfig, PortMapping};
use super::lan::{self, LanSettings};
use super::record::{
    AttachRequest, Attachment, HostLink, LanRecord, NetworkRecord, NetworkSubnet, OwnParent, PublishedPort,
};
use super::settings::BridgeSettings;
use super::state::Lease;
use super::{NetworkError, Networks, bridge, ipam};
use crate::spec::{SpecError, random_hex};

impl Networks {
    /// Takes a recorded network if it is what is asked for; other labels are written down.
    pub(super) fn reuse(&self, record: NetworkRecord, config: &NetworkConfig) -> Result<NetworkRecord, NetworkError> {
        if let Some((field, existing, wanted)) = record.config.difference(config) {
            return Err(NetworkError::Different { network: config.name.clone(), field, existing, wanted });
        }
        let cni = self.same_list(&record, config)?;
        if record.config == *config && record.cni == cni {
            return Ok(record);
        }
        let record = NetworkRecord { config: config.clone(), cni, ..record };
        self.state.write_network(&record)?;
        Ok(record)
    }

    /// Chooses all that the configuration leaves open; the caller holds the lock.
    pub(super) async fn allocate(&self, config: &NetworkConfig) -> Result<NetworkRecord, NetworkError> {
        let id = random_hex();
        let (mut bridge, mut lan) = (None, None);
        if config.driver == DriverKind::Bridge {
            let settings = BridgeSettings::check(config)?;
            let others = self.state.networks()?;
            bridge = Some(bridge::allocate(self.bridge.links()?, &settings, &id, &others, &config.name).await?);
        } else if lan::has_parent(config.driver) {
            lan = Some(lan::allocate(self.bridge.links()?, config, &id, &self.state.networks()?).await?);
        }
        Ok(NetworkRecord { id, config: config.clone(), bridge, lan, cni: self.read_list(config)? })
    }

    /// Says what the attachment is to be; the caller holds the lock.
    pub(super) fn plan_attachment(
        &self,
        network: &NetworkRecord,
        request: &AttachRequest<'_>,
    ) -> Result<Attachment, NetworkError> {
        let mut attachment = Attachment {
            network: network.id.clone(),
            network_name: network.config.name.clone(),
            container: request.container.clone(),
            container_name: request.container_name.clone(),
            aliases: request.aliases.clone(),
            ifname: request.ifname.clone(),
            address: None,
            gateway: None,
            address_v6: None,
            gateway_v6: None,
            further: Vec::new(),
            mac: None,
            default_route: request.default_route && !network.config.internal,
            host_link: None,
            parent: None,
            bandwidth: request.bandwidth,
            ports: Vec::new(),
            process: request.process.clone(),
            published_at: None,
        };
        if network.cni.is_some() {
            attachment.address = request.ipv4.and_then(|address| Ipv4Network::new(address, 32).ok());
            attachment.address_v6 = request.ipv6.and_then(|address| Ipv6Network::new(address, 128).ok());
            attachment.mac = request.mac;
            attachment.ports = published(&request.ports, None);
        }
        if network.subnets().is_empty() {
            return Ok(attachment);
        }
        let settings = BridgeSettings::check(&network.config)?;
        self.plan_addresses(network, request, &settings, &mut attachment)?;
        if let Some(lan) = &network.lan {
            return self.plan_on_lan(network, lan, request, attachment);
        }
        let name = bridge::host_link_name(&request.container, &network.id);
        let name =
            name.parse().map_err(|error: SpecError| NetworkError::LinkClash { name, reason: error.to_string() })?;
        attachment.mac = request.mac.or(attachment.mac);
        attachment.host_link = Some(HostLink { name });
        attachment.ports = published(&request.ports, settings.host_ip);
        Ok(attachment)
    }

    /// Chooses the container's addresses, and the Ethernet address that belongs to them.
    fn plan_addresses(
        &self,
        network: &NetworkRecord,
        request: &AttachRequest<'_>,
        settings: &BridgeSettings,
        attachment: &mut Attachment,
    ) -> Result<(), NetworkError> {
        let choice = Choice { network, settings, leases: self.state.leases(&network.id)?, request };
        let held = choice.leases.iter().find(|lease| lease.container == request.container);
        let held_v4 = held.and_then(|held| held.v4).map(IpAddr::V4);
        let v4 = choice.address(false, request.ipv4.map(IpAddr::V4), held_v4, None);
        let v4 = self.named_holder(network, v4)?;
        let held_v6 = held.and_then(|held| held.v6).map(IpAddr::V6);
        let v6 = self.named_holder(network, choice.address(true, request.ipv6.map(IpAddr::V6), held_v6, v4))?;
        if let Some((address, subnet)) = v4 {
            attachment.address = ipv4_of(address).and_then(|ip| Ipv4Network::new(ip, subnet.subnet.prefix()).ok());
            attachment.gateway = ipv4_of(subnet.gateway);
        }
        if let Some((IpAddr::V6(address), subnet)) = v6 {
            attachment.address_v6 = Ipv6Network::new(address, subnet.subnet.prefix()).ok();
            attachment.gateway_v6 = ipv6_of(subnet.gateway);
        }
        if let Some(held) = held.filter(|held| (held.v4, held.v6) != (attachment.ip(), attachment.ipv6())) {
            self.state.remove_lease(&network.id, held)?;
        }
        attachment.mac = v4.or(v6).map(|(address, _)| bridge::mac_of(address));
        attachment.further = link_local(&request.link_local);
        Ok(())
    }

    /// Completes the place of a container that shares an interface of the host.
    fn plan_on_lan(
        &self,
        network: &NetworkRecord,
        lan: &LanRecord,
        request: &AttachRequest<'_>,
        attachment: Attachment,
    ) -> Result<Attachment, NetworkError> {
        let settings = LanSettings::check(&network.config)?;
        let driver = network.config.driver;
        let refused = |reason: String| NetworkError::Refused {
            network: network.config.name.clone(),
            container: request.container_name.clone(),
            reason,
        };
        let others = self.state.leases(&network.id)?.iter().any(|lease| lease.container != request.container);
        if settings.holds_one() && others {
            return Err(refused(format!(
                "with macvlan_mode `passthru` the interface {} has one user, and has it",
                lan.parent
            )));
        }
        if request.bandwidth.ingress.is_some() {
            return Err(refused(format!(
                "what it receives cannot be limited on a network of the driver {driver}: it has no end on the host"
            )));
        }
        let leads_out = lan.own != Some(OwnParent::Isolated);
        Ok(Attachment {
            default_route: attachment.default_route && leads_out,
            mac: settings.mac(request.mac, attachment.mac).map_err(refused)?,
            gateway: attachment.gateway.filter(|_| settings.has_gateway()),
            gateway_v6: attachment.gateway_v6.filter(|_| settings.has_gateway()),
            parent: Some(lan.parent.clone()),
            ..attachment
        })
    }

    /// Puts the name of whoever has an address that was asked for into the error.
    fn named_holder<T>(&self, network: &NetworkRecord, chosen: Result<T, NetworkError>) -> Result<T, NetworkError> {
        let Err(NetworkError::Address { network: name, container, address, reason }) = chosen else { return chosen };
        let places = self.state.attachments(&network.id)?;
        let holder =
            places.into_iter().find(|place| place.container_name != container && place.ips().contains(&address));
        let reason = holder.map_or(reason, |holder| format!("{} has it", holder.container_name));
        Err(NetworkError::Address { network: name, container, address, reason })
    }
}

/// Is what the choice of a container's addresses depends on.
struct Choice<'a> {
    network: &'a NetworkRecord,
    settings: &'a BridgeSettings,
    leases: Vec<Lease>,
    request: &'a AttachRequest<'a>,
}

impl Choice<'_> {
    /// Takes the address that is wanted, or the one that the container has, or a free one of the first subnet that has any;
    /// `None` where the network has no subnet of the family. `beside` is the container's address of the other one.
    fn address(
        &self,
        v6: bool,
        wanted: Option<IpAddr>,
        held: Option<IpAddr>,
        beside: Option<(IpAddr, NetworkSubnet)>,
    ) -> Result<Option<(IpAddr, NetworkSubnet)>, NetworkError> {
        let subnets: Vec<NetworkSubnet> = self.network.subnets_of(v6).collect();
        if let Some(wanted) = wanted {
            return self.check_wanted(&subnets, wanted).map(Some);
        }
        let home = |address: IpAddr| subnets.iter().copied().find(|subnet| subnet.subnet.contains(address));
        if let Some(held) = held
            && let Some(subnet) = home(held)
        {
            return Ok(Some((held, subnet)));
        }
        let others = self.leases.iter().filter(|lease| lease.container != self.request.container);
        let taken = others.flat_map(Lease::addresses).chain(self.network.config.reserved_addresses()).collect();
        let free = subnets.iter().find_map(|subnet| Some((self.free_address(*subnet, beside, &taken)?, *subnet)));
        if free.is_none() && !subnets.is_empty() {
            let subnets: Vec<String> = subnets.iter().map(|subnet| self.range(*subnet).to_string()).collect();
            let network = self.network.config.name.clone();
            let container = self.request.container_name.clone();
            return Err(NetworkError::NoFreeAddress { container, network, subnets: subnets.join(", ") });
        }
        Ok(free)
    }

    fn free_address(
        &self,
        subnet: NetworkSubnet,
        beside: Option<(IpAddr, NetworkSubnet)>,
        taken: &BTreeSet<IpAddr>,
    ) -> Option<IpAddr> {
        let NetworkSubnet { subnet: all, gateway } = subnet;
        let range = self.range(subnet);
        let same = beside.and_then(|(address, other)| ipam::same_place(address, other.subnet, all));
        let is_free = |address: &IpAddr| {
            range.contains(*address) && !taken.contains(address) && ipam::refusal(all, gateway, *address).is_none()
        };
        same.filter(is_free).or_else(|| ipam::choose_address(all, range, gateway, taken))
    }

    /// Returns the part of a subnet that containers get addresses from.
    fn range(&self, subnet: NetworkSubnet) -> IpNetwork {
        // Settings and record have the same subnets in the same order; one that was chosen is not in the settings.
        let at = self.network.subnets().iter().position(|other| *other == subnet);
        at.and_then(|at| self.settings.pools.get(at)?.range).unwrap_or(subnet.subnet)
    }

    fn check_wanted(&self, subnets: &[NetworkSubnet], wanted: IpAddr) -> Result<(IpAddr, NetworkSubnet), NetworkError> {
        let refused = |reason: String| NetworkError::Address {
            network: self.network.config.name.clone(),
            container: self.request.container_name.clone(),
            address: wanted,
            reason,
        };
        let Some(home) = subnets.iter().find(|subnet| subnet.subnet.contains(wanted)) else {
            let all: Vec<String> = subnets.iter().map(|subnet| subnet.subnet.to_string()).collect();
            let family = if wanted.is_ipv6() { "IPv6" } else { "IPv4" };
            return Err(refused(match all.as_slice() {
                [] => format!("the network has no {family} addresses"),
                [one] => format!("it is not in the subnet {one}"),
                several => format!("it is in none of the subnets {}", several.join(", ")),
            }));
        };
        if let Some(reason) = ipam::refusal(home.subnet, home.gateway, wanted) {
            return Err(refused(reason.to_owned()));
        }
        if let Some(host) = self.network.config.reserved_for(wanted) {
            return Err(refused(format!("it is reserved for {host}")));
        }
        let is_others = |lease: &&Lease| lease.container != self.request.container;
        if self.leases.iter().filter(is_others).flat_map(Lease::addresses).any(|address| address == wanted) {
            return Err(refused("another container has it".to_owned()));
        }
        Ok((wanted, *home))
    }
}

/// Gives link-local addresses the prefix of their block.
fn link_local(addresses: &[IpAddr]) -> Vec<IpNetwork> {
    let with_prefix = |address: &IpAddr| IpNetwork::new(*address, if address.is_ipv6() { 64 } else { 16 }).ok();
    addresses.iter().filter_map(with_prefix).collect()
}

fn ipv4_of(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn ipv6_of(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}

/// Turns port mappings into published ports; the host's port was chosen when it was reserved.
fn published(ports: &[PortMapping], default_ip: Option<Ipv4Addr>) -> Vec<PublishedPort> {
    let chosen = ports.iter().filter_map(|port| {
        Some(PublishedPort {
            host_ip: port.host_ip.or(default_ip.map(IpAddr::V4)),
            host_port: port.host_port?,
            container_port: port.container_port,
            protocol: port.protocol,
        })
    });
    chosen.collect()
}
