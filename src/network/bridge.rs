//! The driver `bridge`: one Linux bridge a network, one veth pair a container.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};

use super::NetworkError;
use super::config::NetworkConfig;
use super::connection::{HasErrno, HostLinks};
use super::driver::{DriverFuture, NetworkDriver};
use super::inside::configure_inside;
use super::link::{LinkView, Links, VethPair, failed};
use super::record::{Attachment, BridgeRecord, NetworkRecord, NetworkSubnet};
use super::settings::{BridgeSettings, LEAST_MTU_V6};
use super::subnets::choose_subnets;
use crate::namespaces::network as netns;
use crate::spec::{ContainerId, MacAddress};

/// Begins the alias of every bridge that we made.
const ALIAS: &str = "mydocker:";

/// Is what a link takes that nobody said anything about.
pub(super) const USUAL_MTU: u32 = 1500;

/// Marks link groups as ours ("M"); the rest is of the network's id.
const GROUP_MARK: u32 = 0x4d00_0000;
/// Marks host ends that are about to be deleted together.
const GROUP_LEAVING: u32 = 0x0080_0000;

/// Chooses what the configuration leaves open: bridge name, subnet, gateway, link group.
pub(super) async fn allocate(
    links: &Links,
    settings: &BridgeSettings,
    id: &str,
    others: &[NetworkRecord],
    network: &str,
) -> Result<BridgeRecord, NetworkError> {
    let chosen = format!("br-{}", id.get(..12).unwrap_or(id));
    let name = match &settings.name {
        Some(name) => name.clone(),
        None => chosen.parse().map_err(|error: crate::spec::SpecError| NetworkError::Config {
            network: network.to_owned(),
            reason: error.to_string(),
        })?,
    };
    if let Some(other) = others.iter().find(|other| other.bridge_name() == Some(&name)) {
        let reason = format!("it is the bridge of the network {}", other.config.name);
        return Err(NetworkError::LinkClash { name: name.to_string(), reason });
    }
    let existing = links.find(name.as_str()).await?;
    let ours = existing.as_ref().is_none_or(|link| link.alias.starts_with(ALIAS));
    let taken = taken_subnets(links, existing.as_ref(), others).await?;
    let subnets = choose_subnets(&settings.pools, &taken, &[], network)?;
    // Larger packets than the way out takes depend on ICMP errors that many drop.
    let way_out = if settings.mtu.is_none() && !settings.internal { links.uplink_mtu().await? } else { None };
    let least = if subnets.iter().any(|subnet| subnet.subnet.is_ipv6()) { LEAST_MTU_V6 } else { 0 };
    let mtu = way_out.map(|mtu| mtu.max(least)).filter(|mtu| *mtu != USUAL_MTU);
    Ok(BridgeRecord { name, subnets, group: free_group(id, others), ours, mtu })
}

/// Lists subnets that are someone's: routes of the host (those of the bridge in question aside) and other networks of ours.
async fn taken_subnets(
    links: &Links,
    own: Option<&LinkView>,
    others: &[NetworkRecord],
) -> Result<Vec<(IpNetwork, String)>, NetworkError> {
    let recorded = others.iter().flat_map(|other| {
        let whose = format!("which is of the network {}", other.config.name);
        other.subnets().iter().map(move |subnet| (subnet.subnet, whose.clone()))
    });
    let mut taken: Vec<_> = recorded.collect();
    let routes = links.routes().await?;
    let routes = routes.iter().filter(|route| own.is_none_or(|own| route.link != Some(own.index)));
    taken.extend(routes.map(|route| (route.to, "to which the host has a route".to_owned())));
    Ok(taken)
}

/// Says what stands in the alias of a network's bridge.
pub(super) fn alias(network: &str) -> String {
    format!("{ALIAS}{network}")
}

/// Says whether a link group is one of ours.
pub(super) fn is_group(group: u32) -> bool {
    group & 0xff00_0000 == GROUP_MARK
}

/// Makes a link group of the network's id, another one where that is taken by a network of ours.
pub(super) fn free_group(id: &str, others: &[NetworkRecord]) -> u32 {
    let taken: BTreeSet<u32> = others.iter().filter_map(|other| other.bridge.as_ref()).map(|b| b.group).collect();
    let start = id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(1);
    let group = |n: u32| GROUP_MARK | (start.wrapping_add(n) & 0x007f_ffff);
    (0..).map(group).find(|group| !taken.contains(group)).unwrap_or(GROUP_MARK)
}

/// Returns the Ethernet address that belongs to an address: see [`MacAddress::of`]. Of one of IPv6 a digest is taken.
pub(super) fn mac_of(address: IpAddr) -> MacAddress {
    MacAddress::of(match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => {
            let digest = Sha256::digest(address.octets());
            digest.first_chunk::<4>().copied().map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from)
        }
    })
}

/// Names the host's end of a container's pair: `veth` and 8 digits.
pub(super) fn host_link_name(container: &ContainerId, network_id: &str) -> String {
    let digest = Sha256::new().chain_update(container.as_str()).chain_update(network_id).finalize();
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("veth{digits}")
}

/// Makes bridges and veth pairs.
#[derive(Debug)]
pub(super) struct BridgeDriver {
    links: Arc<HostLinks>,
}

impl BridgeDriver {
    /// Works through the connection `links`.
    pub(super) fn new(links: Arc<HostLinks>) -> Self {
        Self { links }
    }

    /// Returns the connection to the kernel.
    pub(super) fn links(&self) -> Result<&Links, NetworkError> {
        self.links.get()
    }

    async fn make_sure(&self, network: &NetworkRecord) -> Result<(), NetworkError> {
        let bridge = bridge_of(network)?;
        let settings = BridgeSettings::check(&network.config)?;
        let links = self.links()?;
        let name = bridge.name.as_str();
        let link = match links.find(name).await? {
            Some(link) => link,
            None => {
                let mac = bridge.subnets.first().map(|subnet| mac_of(subnet.gateway));
                links.add_bridge(name, mac, settings.mtu.or(bridge.mtu)).await?;
                let made = find_made(links, name).await?;
                self.take_ports_back(network, &made, settings.icc).await?;
                made
            }
        };
        // The kernel takes an alias only in a second request; whoever died between the two left a bridge without one.
        if bridge.ours && link.is_bridge && link.alias.is_empty() {
            links.set_alias(&link, &alias(&network.config.name)).await?;
        }
        if !link.is_bridge {
            let reason = "an interface of this name exists and is no bridge".to_owned();
            return Err(NetworkError::LinkClash { name: name.to_owned(), reason });
        }
        if bridge.ours && bridge.has_ipv6() {
            let failed = |source| NetworkError::Namespace { container: format!("the bridge {name}"), source };
            netns::switch_ipv6_here(name, true).map_err(failed)?;
        }
        let wanted: Vec<IpNetwork> = bridge.subnets.iter().filter_map(NetworkSubnet::own_address).collect();
        check_addresses(links, &link, &wanted, bridge.ours).await?;
        if link.up { Ok(()) } else { links.raise(&link).await }
    }

    /// Plugs host ends in again whose bridge somebody deleted.
    async fn take_ports_back(&self, network: &NetworkRecord, made: &LinkView, icc: bool) -> Result<(), NetworkError> {
        let group = bridge_of(network)?.group;
        let links = self.links()?;
        let is_loose = |link: &LinkView| link.group == group && link.master.is_none() && link.index != made.index;
        for link in links.list().await?.iter().filter(|link| is_loose(link)) {
            links.plug_into(link, made).await?;
            if !icc {
                links.isolate_port(link).await?;
            }
        }
        Ok(())
    }

    async fn plug_in(
        &self,
        network: &NetworkRecord,
        attachment: &Attachment,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let bridge = bridge_of(network)?;
        let settings = BridgeSettings::check(&network.config)?;
        let (Some(host), Some(mac)) = (&attachment.host_link, attachment.mac) else {
            return Err(NetworkError::UnknownNetwork(network.config.name.clone()));
        };
        let links = self.links()?;
        let Some(port_of) = links.find(bridge.name.as_str()).await? else {
            let reason = format!("the bridge of the network {} is gone", network.config.name);
            return Err(NetworkError::LinkClash { name: bridge.name.to_string(), reason });
        };
        let pair = VethPair {
            host_name: host.name.as_str(),
            bridge: port_of.index,
            group: bridge.group,
            netns: namespace,
            inner_name: attachment.ifname.as_str(),
            inner_mac: mac,
            mtu: settings.mtu.or(bridge.mtu),
        };
        make_pair(links, &pair).await.map_err(|error| match error.errno() {
            Some(libc::EXFULL) => NetworkError::BridgeFull {
                network: network.config.name.clone(),
                container: attachment.container_name.clone(),
                bridge: bridge.name.to_string(),
            },
            _ => error,
        })?;
        if let Some(limit) = attachment.bandwidth.ingress {
            links.limit(&find_made(links, host.name.as_str()).await?, limit).await?;
        }
        if !settings.icc {
            let link = find_made(links, host.name.as_str()).await?;
            links.isolate_port(&link).await?;
        }
        configure_inside(attachment, namespace).await
    }

    async fn unplug(&self, network: &NetworkRecord, attachments: &[Attachment]) -> Result<(), NetworkError> {
        let bridge = bridge_of(network)?;
        let names: BTreeSet<&str> =
            attachments.iter().filter_map(|a| a.host_link.as_ref()).map(|link| link.name.as_str()).collect();
        let links = self.links()?;
        if let (1, Some(name)) = (names.len(), names.first()) {
            return match links.find(name).await? {
                Some(link) if link.group == bridge.group => links.delete(&link).await,
                _ => Ok(()),
            };
        }
        let leaving = bridge.group | GROUP_LEAVING;
        let present = links.list().await?;
        let present = present.iter().filter(|link| link.group == bridge.group && names.contains(link.name.as_str()));
        for link in present {
            links.set_group(link, leaving).await?;
        }
        links.delete_group(leaving).await
    }

    async fn remove(&self, network: &NetworkRecord) -> Result<(), NetworkError> {
        let bridge = bridge_of(network)?;
        let links = self.links()?;
        // The bridge goes with its ports: one request waits for the kernel once, two wait twice.
        if bridge.ours
            && let Some(link) = links.find(bridge.name.as_str()).await?
            // Recorded before it was made, so one without an alias is ours, too: see `make_sure`.
            && (link.alias.is_empty() || link.alias.starts_with(ALIAS))
        {
            links.set_group(&link, bridge.group).await?;
        }
        links.delete_group(bridge.group).await
    }
}

impl NetworkDriver for BridgeDriver {
    fn check(&self, config: &NetworkConfig) -> Result<(), NetworkError> {
        let settings = BridgeSettings::check(config)?;
        if settings.pools.iter().any(|pool| pool.v6) && !netns::has_ipv6_here() {
            return Err(NetworkError::NoIpv6 { network: config.name.clone() });
        }
        Ok(())
    }

    fn setup<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(self.make_sure(network))
    }

    fn attach<'a>(
        &'a self,
        network: &'a NetworkRecord,
        attachment: &'a Attachment,
        namespace: BorrowedFd<'a>,
    ) -> DriverFuture<'a> {
        Box::pin(self.plug_in(network, attachment, namespace))
    }

    fn detach<'a>(&'a self, network: &'a NetworkRecord, attachments: &'a [Attachment]) -> DriverFuture<'a> {
        Box::pin(self.unplug(network, attachments))
    }

    fn teardown<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(self.remove(network))
    }
}

fn bridge_of(network: &NetworkRecord) -> Result<&BridgeRecord, NetworkError> {
    network.bridge.as_ref().ok_or_else(|| NetworkError::UnknownNetwork(network.config.name.clone()))
}

pub(super) async fn find_made(links: &Links, name: &str) -> Result<LinkView, NetworkError> {
    links.find(name).await?.ok_or_else(|| NetworkError::LinkClash {
        name: name.to_owned(),
        reason: "it was removed while it was being set up".to_owned(),
    })
}

/// Gives the bridge its addresses, or makes sure that it has them: a bridge with others is somebody's, and one of somebody
/// else's without them is not for us to change.
async fn check_addresses(links: &Links, link: &LinkView, wanted: &[IpNetwork], ours: bool) -> Result<(), NetworkError> {
    let present = links.addresses(link.index).await?;
    let missing: Vec<IpNetwork> = wanted.iter().copied().filter(|address| !present.contains(address)).collect();
    let name = &link.name;
    for address in &missing {
        let is_other = |other: &&IpNetwork| other.is_ipv4() == address.is_ipv4() && !wanted.contains(other);
        let others: Vec<String> = present.iter().filter(is_other).map(ToString::to_string).collect();
        let reason = if !others.is_empty() {
            format!("it exists with the address {}, not {address}", others.join(", "))
        } else if !ours {
            format!(
                "a bridge of this name exists that mydocker did not make; give it the address (ip addr add {address} dev \
                 {name}), remove it (ip link delete {name}), or choose another name or network"
            )
        } else {
            continue;
        };
        return Err(NetworkError::LinkClash { name: name.clone(), reason });
    }
    for address in missing {
        links.add_address(link, address).await?;
    }
    Ok(())
}

/// Makes the pair; a host end that an earlier container of ours left there is replaced, anybody else's is named.
async fn make_pair(links: &Links, pair: &VethPair<'_>) -> Result<(), NetworkError> {
    let error = match links.add_veth(pair).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let operation = || format!("make the veth pair {} and {}", pair.host_name, pair.inner_name);
    if error.raw_os_error() != Some(libc::EEXIST) {
        return Err(failed(operation(), error));
    }
    match links.find(pair.host_name).await? {
        Some(stale) if stale.group == pair.group => {
            links.delete(&stale).await?;
            links.add_veth(pair).await.map_err(|error| failed(operation(), error))
        }
        Some(_) => {
            let reason = "an interface of this name exists that is not ours".to_owned();
            Err(NetworkError::LinkClash { name: pair.host_name.to_owned(), reason })
        }
        None => {
            let reason = "the container has an interface of this name".to_owned();
            Err(NetworkError::LinkClash { name: pair.inner_name.to_owned(), reason })
        }
    }
}
