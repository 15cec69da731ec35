//! What is written down of networks and of containers' places in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::cni::NetworkList;
use super::config::{NetworkConfig, PortMapping, Protocol};
use crate::spec::{Bandwidth, ContainerId, InterfaceName, MacAddress};
use crate::store::ProcessIdentity;

/// Is a network that exists: what was asked for and what was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What was asked for.
    pub config: NetworkConfig,
    /// The bridge and its addresses; `None` for drivers that have none.
    pub bridge: Option<BridgeRecord>,
    /// The parent and the addresses, for the drivers `macvlan` and `ipvlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<LanRecord>,
    /// The CNI configuration as it was read when the network was made.
    #[serde(default)]
    pub cni: Option<Box<NetworkList>>,
}

/// Is what the bridge driver chose for one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredBridge")]
pub struct BridgeRecord {
    /// The interface.
    pub name: InterfaceName,
    /// The network's subnets, in the order in which they give addresses.
    pub subnets: Vec<NetworkSubnet>,
    /// The IFLA_GROUP of all host ends of this network.
    pub group: u32,
    /// False where the bridge was there before us: then it also stays after us.
    pub ours: bool,
    /// The largest packet that the host's way out took when the network was made, where that was not 1500 and no `mtu` was asked
    /// for.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// Is what the drivers `macvlan` and `ipvlan` chose for one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredLan")]
pub struct LanRecord {
    /// The interface of the host that the containers share.
    pub parent: InterfaceName,
    /// What the parent is, where we make it and take it away; `None` where it was there before us.
    pub own: Option<OwnParent>,
    /// The network's subnets, in the order in which they give addresses; the gateways are the LAN's routers.
    pub subnets: Vec<NetworkSubnet>,
}

/// Is a parent that we make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnParent {
    /// An interface that leads nowhere.
    Isolated,
    /// A VLAN of an interface of the host.
    Vlan {
        /// That interface.
        base: InterfaceName,
        /// The VLAN's id, 1 to 4094.
        id: u16,
    },
}

/// Is one subnet of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSubnet {
    /// All its addresses.
    pub subnet: IpNetwork,
    /// The default gateway of containers whose address is of it: the bridge's own address, or that of the LAN's router.
    pub gateway: IpAddr,
}

impl NetworkSubnet {
    /// Returns the bridge's own address with the prefix, as it is given to the interface.
    pub fn own_address(&self) -> Option<IpNetwork> {
        IpNetwork::new(self.gateway, self.subnet.prefix()).ok()
    }
}

/// Is a [`BridgeRecord`] as it is read: records of before there was IPv6 have one subnet.
#[derive(Deserialize)]
struct StoredBridge {
    name: InterfaceName,
    #[serde(default)]
    subnets: Vec<NetworkSubnet>,
    subnet: Option<Ipv4Network>,
    gateway: Option<Ipv4Addr>,
    group: u32,
    ours: bool,
    #[serde(default)]
    mtu: Option<u32>,
}

impl From<StoredBridge> for BridgeRecord {
    fn from(stored: StoredBridge) -> Self {
        let StoredBridge { name, subnets, subnet, gateway, group, ours, mtu } = stored;
        Self { name, subnets: with_first(subnets, subnet, gateway), group, ours, mtu }
    }
}

/// Is a [`LanRecord`] as it is read.
#[derive(Deserialize)]
struct StoredLan {
    parent: InterfaceName,
    own: Option<OwnParent>,
    #[serde(default)]
    subnets: Vec<NetworkSubnet>,
    subnet: Option<Ipv4Network>,
    gateway: Option<Ipv4Addr>,
}

impl From<StoredLan> for LanRecord {
    fn from(stored: StoredLan) -> Self {
        let StoredLan { parent, own, subnets, subnet, gateway } = stored;
        Self { parent, own, subnets: with_first(subnets, subnet, gateway) }
    }
}

fn with_first(
    mut subnets: Vec<NetworkSubnet>,
    subnet: Option<Ipv4Network>,
    gateway: Option<Ipv4Addr>,
) -> Vec<NetworkSubnet> {
    if let (Some(subnet), Some(gateway)) = (subnet, gateway) {
        subnets.insert(0, NetworkSubnet { subnet: subnet.into(), gateway: gateway.into() });
    }
    subnets
}

impl BridgeRecord {
    /// Says whether its containers get IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.subnet.is_ipv6())
    }
}

impl NetworkRecord {
    /// Returns the bridge's name.
    pub fn bridge_name(&self) -> Option<&InterfaceName> {
        self.bridge.as_ref().map(|bridge| &bridge.name)
    }

    /// Returns its subnets; none where others give its addresses.
    pub fn subnets(&self) -> &[NetworkSubnet] {
        let of_lan = || self.lan.as_ref().map(|lan| lan.subnets.as_slice());
        self.bridge.as_ref().map(|bridge| bridge.subnets.as_slice()).or_else(of_lan).unwrap_or_default()
    }

    /// Returns its subnets of IPv6, or those of IPv4.
    pub fn subnets_of(&self, v6: bool) -> impl Iterator<Item = NetworkSubnet> {
        self.subnets().iter().copied().filter(move |subnet| subnet.subnet.is_ipv6() == v6)
    }

    /// Returns the first subnet of IPv4.
    pub fn subnet(&self) -> Option<Ipv4Network> {
        self.subnets().iter().find_map(|subnet| match subnet.subnet {
            IpNetwork::V4(subnet) => Some(subnet),
            IpNetwork::V6(_) => None,
        })
    }

    /// Returns the containers' default gateway in that.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.subnets().iter().find_map(|subnet| match subnet.gateway {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        })
    }

    /// Returns the 12 digits that people see.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Asks for a container's network namespace to be attached to one network.
#[derive(Clone, Debug)]
pub struct AttachRequest<'a> {
    /// The network's name or id.
    pub network: String,
    /// The container.
    pub container: ContainerId,
    /// Its name, for messages.
    pub container_name: String,
    /// Its names on this network besides that; plugins that want them get them.
    pub aliases: Vec<String>,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
    /// The interface's name inside: `eth0`, `eth1` …
    pub ifname: InterfaceName,
    /// A chosen address.
    pub ipv4: Option<Ipv4Addr>,
    /// A chosen IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Link-local addresses that the interface gets besides.
    pub link_local: Vec<IpAddr>,
    /// A chosen Ethernet address.
    pub mac: Option<MacAddress>,
    /// Whether the namespace's default route goes through this network (never through an internal one).
    pub default_route: bool,
    /// How much it may receive and send.
    pub bandwidth: Bandwidth,
    /// Ports to publish; the host's ports are those that were reserved.
    pub ports: Vec<PortMapping>,
    /// The process whose namespace it is, where that is no container of ours.
    pub process: Option<ProcessIdentity>,
}

/// Is one container's place in one network, as it is written down before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's id.
    pub network: String,
    /// The network's name.
    pub network_name: String,
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub container_name: String,
    /// Its names on this network besides that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The interface inside.
    pub ifname: InterfaceName,
    /// The address; `None` for drivers that give none.
    pub address: Option<Ipv4Network>,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The IPv6 address; `None` on networks without IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_v6: Option<Ipv6Network>,
    /// The gateway of IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_v6: Option<Ipv6Addr>,
    /// Addresses besides those: what else a plugin gave, and link-local ones that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<IpNetwork>,
    /// The Ethernet address of the interface inside.
    pub mac: Option<MacAddress>,
    /// Whether the default route goes through it.
    pub default_route: bool,
    /// The host's end of the pair.
    pub host_link: Option<HostLink>,
    /// The interface of the host that it shares, with the drivers `macvlan` and `ipvlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<InterfaceName>,
    /// How much it may receive and send.
    #[serde(default, skip_serializing_if = "Bandwidth::is_none")]
    pub bandwidth: Bandwidth,
    /// Ports that are published.
    pub ports: Vec<PublishedPort>,
    /// The process that was attached by its pid: while it lives, the place is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessIdentity>,
    /// Where the host reaches its published ports, by the same numbers, where that is not the container's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Ipv4Addr>,
}

impl Attachment {
    /// Says whether it is the place of a process that was attached by its pid and still runs.
    pub fn is_of_live_process(&self) -> bool {
        self.process.as_ref().is_some_and(ProcessIdentity::is_alive)
    }

    /// Says whether the addresses are ones that we gave, so that no other may have them.
    pub fn is_lease(&self) -> bool {
        let is_ours = self.host_link.is_some() || self.parent.is_some();
        is_ours && (self.address.is_some() || self.address_v6.is_some())
    }

    /// Returns the container's IPv4 address without its prefix.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        self.address.map(|address| address.ip())
    }

    /// Returns the container's IPv6 address without its prefix.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.address_v6.map(|address| address.ip())
    }

    /// Takes addresses with their gateways from whoever gave them; of each family the first is the container's.
    pub(super) fn set_addresses(&mut self, given: impl Iterator<Item = (IpNetwork, Option<IpAddr>)>) {
        (self.address, self.gateway, self.address_v6, self.gateway_v6) = (None, None, None, None);
        self.further.clear();
        for (address, gateway) in given {
            match (address, gateway) {
                (IpNetwork::V4(address), gateway) if self.address.is_none() => {
                    self.address = Some(address);
                    self.gateway = if let Some(IpAddr::V4(gateway)) = gateway { Some(gateway) } else { None };
                }
                (IpNetwork::V6(address), gateway) if self.address_v6.is_none() => {
                    self.address_v6 = Some(address);
                    self.gateway_v6 = if let Some(IpAddr::V6(gateway)) = gateway { Some(gateway) } else { None };
                }
                (another, _) => self.further.push(another),
            }
        }
    }

    /// Returns all addresses with their prefixes.
    pub fn networks(&self) -> Vec<IpNetwork> {
        let own = self.address.map(IpNetwork::V4).into_iter().chain(self.address_v6.map(IpNetwork::V6));
        own.chain(self.further.iter().copied()).collect()
    }

    /// Returns all addresses by which it is found, those of IPv4 first; link-local ones are good on their link alone.
    pub fn ips(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.networks().iter().map(IpNetwork::ip).collect();
        all.retain(|address| !is_link_local(*address));
        // Stable: within a family the first stays the first.
        all.sort_by_key(IpAddr::is_ipv6);
        all
    }

    /// Says whether the container's way out of its networks leads through it.
    pub fn leads_out(&self) -> bool {
        self.default_route && (self.gateway.is_some() || self.gateway_v6.is_some() || self.parent.is_some())
    }
}

/// Says whether an address is good on one link alone: 169.254.0.0/16 (RFC 3927), fe80::/10 (RFC 4291).
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Is the host's end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLink {
    /// `veth` and 8 digits made of container and network.
    pub name: InterfaceName,
}

/// Is one port that is published, with the host's port chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; all where `None`.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_before_ipv6_are_read() {
        let old = r#"{"name":"br-1","subnet":"10.11.0.0/24","gateway":"10.11.0.1","group":7,"ours":true}"#;
        let bridge: BridgeRecord = serde_json::from_str(old).unwrap();
        let subnet = NetworkSubnet { subnet: "10.11.0.0/24".parse().unwrap(), gateway: "10.11.0.1".parse().unwrap() };
        assert_eq!((bridge.subnets.as_slice(), bridge.has_ipv6(), bridge.mtu), ([subnet].as_slice(), false, None));
        let again: BridgeRecord = serde_json::from_str(&serde_json::to_string(&bridge).unwrap()).unwrap();
        assert_eq!(again, bridge);
    }
}
