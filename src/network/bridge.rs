//! The driver `bridge`: one Linux bridge a network, one veth pair a container.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipnetwork::Ipv4Network;
use sha2::{Digest, Sha256};

use super::NetworkError;
use super::config::NetworkConfig;
use super::connection::{HostLinks, until_free, with_links};
use super::driver::{DriverFuture, NetworkDriver};
use super::ipam;
use super::link::{LinkView, Links, VethPair, failed};
use super::record::{Attachment, BridgeRecord, NetworkRecord};
use super::settings::BridgeSettings;
use crate::namespaces::network::{self as netns, NetnsError};
use crate::spec::ContainerId;

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
    let subnet = match settings.subnet {
        Some(subnet) => match taken.iter().find(|(other, _)| subnet.overlaps(*other)) {
            Some((other, whose)) => {
                let other = format!("{other}, {whose}");
                return Err(NetworkError::SubnetOverlap { network: network.to_owned(), subnet, other });
            }
            None => subnet,
        },
        None => {
            let taken: Vec<_> = taken.iter().map(|(subnet, _)| *subnet).collect();
            ipam::choose_subnet(&taken)
                .ok_or_else(|| NetworkError::NoFreeSubnet { network: network.to_owned(), pools: ipam::pools_text() })?
        }
    };
    let first = Ipv4Addr::from_bits(subnet.network().to_bits() + 1);
    let gateway = settings.gateway.unwrap_or(first);
    // Larger packets than the way out takes depend on ICMP errors that many drop.
    let way_out = if settings.mtu.is_none() && !settings.internal { links.uplink_mtu().await? } else { None };
    let mtu = way_out.filter(|mtu| *mtu != USUAL_MTU);
    Ok(BridgeRecord { name, subnet, gateway, group: free_group(id, others), ours, mtu })
}

/// Lists subnets that are someone's: routes of the host (those of the bridge in question aside) and other networks of ours.
async fn taken_subnets(
    links: &Links,
    own: Option<&LinkView>,
    others: &[NetworkRecord],
) -> Result<Vec<(Ipv4Network, String)>, NetworkError> {
    let recorded = others.iter().filter_map(|other| {
        other.subnet().map(|subnet| (subnet, format!("which is of the network {}", other.config.name)))
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
                links
                    .add_bridge(name, crate::spec::MacAddress::of(bridge.gateway), settings.mtu.or(bridge.mtu))
                    .await?;
                find_made(links, name).await?
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
        let wanted = Ipv4Network::new(bridge.gateway, bridge.subnet.prefix()).map_err(|error| {
            NetworkError::Config { network: network.config.name.clone(), reason: error.to_string() }
        })?;
        check_address(links, &link, wanted, bridge.ours).await?;
        if link.up { Ok(()) } else { links.raise(&link).await }
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
        make_pair(links, &pair).await?;
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
        BridgeSettings::check(config).map(drop)
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

async fn find_made(links: &Links, name: &str) -> Result<LinkView, NetworkError> {
    links.find(name).await?.ok_or_else(|| NetworkError::LinkClash {
        name: name.to_owned(),
        reason: "it was removed while it was being set up".to_owned(),
    })
}

/// Gives the bridge its address, or makes sure that it has that one: a bridge with another is somebody's, and one of
/// somebody else's without any is not for us to change.
async fn check_address(links: &Links, link: &LinkView, wanted: Ipv4Network, ours: bool) -> Result<(), NetworkError> {
    let present = links.addresses(link.index).await?;
    if present.contains(&wanted) {
        return Ok(());
    }
    if !present.is_empty() {
        let present: Vec<_> = present.iter().map(ToString::to_string).collect();
        let reason = format!("it exists with the address {}, not {wanted}", present.join(", "));
        return Err(NetworkError::LinkClash { name: link.name.clone(), reason });
    }
    if !ours {
        let name = &link.name;
        let reason = format!(
            "a bridge of this name exists that mydocker did not make; give it the address (ip addr add {wanted} dev {name}), \
             remove it (ip link delete {name}), or choose another name or network"
        );
        return Err(NetworkError::LinkClash { name: name.clone(), reason });
    }
    links.add_address(link, wanted).await
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

/// Sets up the inner end on a short-lived thread inside the namespace: `lo`, address, up, default route.
pub(super) async fn configure_inside(attachment: &Attachment, namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
    let outer = |source| NetworkError::Namespace { container: attachment.container_name.clone(), source };
    let netns: OwnedFd = namespace.try_clone_to_owned().map_err(|source| outer(NetnsError::Thread(source)))?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let plan = Arc::new(attachment.clone());
    let inner = Arc::clone(&plan);
    netns::spawn_in_namespace(netns, move |entered| {
        let _ = sender.send(entered.map(|()| with_links(|links| inside(links, inner))));
    })
    .map_err(outer)?;
    receiver.await.map_err(|_| NetworkError::WorkerLost("set up the network inside a container"))?.map_err(outer)??
}

async fn inside(links: Links, attachment: Arc<Attachment>) -> Result<(), NetworkError> {
    netns::prepare_here()
        .map_err(|source| NetworkError::Namespace { container: attachment.container_name.clone(), source })?;
    let link = find_made(&links, attachment.ifname.as_str()).await?;
    if let Some(address) = attachment.address {
        links.add_address(&link, address).await?;
    }
    // The kernel may still be taking apart the namespace of whoever had this address on the same parent before.
    until_free(&[libc::EADDRINUSE, libc::EBUSY], || links.raise(&link)).await?;
    match attachment.gateway {
        Some(gateway) if attachment.default_route => links.add_default_route(gateway).await,
        None if attachment.leads_out() => links.add_link_route(&link).await,
        _ => Ok(()),
    }
}
