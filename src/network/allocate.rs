//! What is to be made, decided before any of it is: which subnet, bridge, address and names. The kernel is asked, and nothing in it is changed.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::Ipv4Network;

use super::config::{DriverKind, NetworkConfig, PortMapping};
use super::lan::{self, LanSettings};
use super::record::{AttachRequest, Attachment, HostLink, LanRecord, NetworkRecord, OwnParent, PublishedPort};
use super::settings::BridgeSettings;
use super::{NetworkError, Networks, bridge, ipam};
use crate::spec::{MacAddress, SpecError, random_hex};

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
            ifname: request.ifname.clone(),
            address: None,
            gateway: None,
            mac: None,
            default_route: request.default_route && !network.config.internal,
            host_link: None,
            parent: None,
            ports: Vec::new(),
            process: request.process.clone(),
        };
        if network.cni.is_some() {
            attachment.address = request.ipv4.and_then(|address| Ipv4Network::new(address, 32).ok());
            attachment.mac = request.mac;
            attachment.ports = published(&request.ports, None);
        }
        let (Some(subnet), Some(gateway)) = (network.subnet(), network.gateway()) else { return Ok(attachment) };
        let settings = BridgeSettings::check(&network.config)?;
        let address = self.plan_address(network, request, (subnet, gateway), settings.range)?;
        attachment.address = Ipv4Network::new(address, subnet.prefix()).ok();
        attachment.gateway = Some(gateway);
        let own = MacAddress::of(address);
        if let Some(lan) = &network.lan {
            return self.plan_on_lan(network, lan, request, Attachment { mac: Some(own), ..attachment });
        }
        let name = bridge::host_link_name(&request.container, &network.id);
        let name =
            name.parse().map_err(|error: SpecError| NetworkError::LinkClash { name, reason: error.to_string() })?;
        attachment.mac = Some(request.mac.unwrap_or(own));
        attachment.host_link = Some(HostLink { name });
        attachment.ports = published(&request.ports, settings.host_ip);
        Ok(attachment)
    }

    /// Says which address the container gets: the one that it asks for, that it has already, or the lowest free one.
    fn plan_address(
        &self,
        network: &NetworkRecord,
        request: &AttachRequest<'_>,
        (subnet, gateway): (Ipv4Network, Ipv4Addr),
        range: Option<Ipv4Network>,
    ) -> Result<Ipv4Addr, NetworkError> {
        let leases = self.state.leases(&network.id)?;
        let held = leases.iter().find(|(_, holder)| **holder == request.container).map(|(address, _)| *address);
        let range = range.unwrap_or(subnet);
        let no_address = || NetworkError::NoFreeAddress { network: network.config.name.clone(), subnet: range };
        let address = match (request.ipv4, held) {
            (Some(wanted), _) => {
                self.check_wanted(network, request, wanted)?;
                wanted
            }
            (None, Some(held)) => held,
            (None, None) => {
                let taken = leases.into_keys().chain(network.config.reserved.values().copied()).collect();
                ipam::choose_address(subnet, range, gateway, &taken).ok_or_else(no_address)?
            }
        };
        if let Some(held) = held.filter(|held| *held != address) {
            self.state.remove_lease(&network.id, held, &request.container)?;
        }
        Ok(address)
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
        let refused = |reason: String| NetworkError::Refused {
            network: network.config.name.clone(),
            container: request.container_name.clone(),
            reason,
        };
        let others = self.state.leases(&network.id)?.into_values().any(|holder| holder != request.container);
        if settings.holds_one() && others {
            return Err(refused(format!(
                "with macvlan_mode `passthru` the interface {} has one user, and has it",
                lan.parent
            )));
        }
        let leads_out = lan.own != Some(OwnParent::Isolated);
        Ok(Attachment {
            default_route: attachment.default_route && leads_out,
            mac: settings.mac(request.mac, attachment.mac).map_err(refused)?,
            gateway: attachment.gateway.filter(|_| settings.has_gateway()),
            parent: Some(lan.parent.clone()),
            ..attachment
        })
    }

    fn check_wanted(
        &self,
        network: &NetworkRecord,
        request: &AttachRequest<'_>,
        wanted: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let (Some(subnet), Some(gateway)) = (network.subnet(), network.gateway()) else { return Ok(()) };
        let refused = |reason: String| NetworkError::Address {
            network: network.config.name.clone(),
            container: request.container_name.clone(),
            address: wanted,
            reason,
        };
        if let Some(reason) = ipam::refusal(subnet, gateway, wanted) {
            return Err(refused(reason.to_owned()));
        }
        if let Some((host, _)) = network.config.reserved.iter().find(|(_, reserved)| **reserved == wanted) {
            return Err(refused(format!("it is reserved for {host}")));
        }
        match self.state.attachments(&network.id)?.into_iter().find(|other| other.ip() == Some(wanted)) {
            Some(other) if other.container != request.container => {
                Err(refused(format!("{} has it", other.container_name)))
            }
            _ => Ok(()),
        }
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
