//! What is written down of networks and of containers' places in them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::cni::NetworkList;
use super::config::{NetworkConfig, PortMapping, Protocol};
use crate::spec::{ContainerId, InterfaceName, MacAddress};
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
pub struct BridgeRecord {
    /// The interface.
    pub name: InterfaceName,
    /// All addresses of the network.
    pub subnet: Ipv4Network,
    /// The bridge's own address, the containers' default gateway.
    pub gateway: Ipv4Addr,
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
pub struct LanRecord {
    /// The interface of the host that the containers share.
    pub parent: InterfaceName,
    /// What the parent is, where we make it and take it away; `None` where it was there before us.
    pub own: Option<OwnParent>,
    /// All addresses of the network.
    pub subnet: Ipv4Network,
    /// The router of the LAN, the containers' default gateway.
    pub gateway: Ipv4Addr,
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

impl NetworkRecord {
    /// Returns the bridge's name.
    pub fn bridge_name(&self) -> Option<&InterfaceName> {
        self.bridge.as_ref().map(|bridge| &bridge.name)
    }

    /// Returns the addresses of the network.
    pub fn subnet(&self) -> Option<Ipv4Network> {
        let of_lan = || self.lan.as_ref().map(|lan| lan.subnet);
        self.bridge.as_ref().map(|bridge| bridge.subnet).or_else(of_lan)
    }

    /// Returns the containers' default gateway: the bridge's own address, or that of the LAN's router.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let of_lan = || self.lan.as_ref().map(|lan| lan.gateway);
        self.bridge.as_ref().map(|bridge| bridge.gateway).or_else(of_lan)
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
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
    /// The interface's name inside: `eth0`, `eth1` …
    pub ifname: InterfaceName,
    /// A chosen address.
    pub ipv4: Option<Ipv4Addr>,
    /// A chosen Ethernet address.
    pub mac: Option<MacAddress>,
    /// Whether the namespace's default route goes through this network (never through an internal one).
    pub default_route: bool,
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
    /// The interface inside.
    pub ifname: InterfaceName,
    /// The address; `None` for drivers that give none.
    pub address: Option<Ipv4Network>,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The Ethernet address of the interface inside.
    pub mac: Option<MacAddress>,
    /// Whether the default route goes through it.
    pub default_route: bool,
    /// The host's end of the pair.
    pub host_link: Option<HostLink>,
    /// The interface of the host that it shares, with the drivers `macvlan` and `ipvlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<InterfaceName>,
    /// Ports that are published.
    pub ports: Vec<PublishedPort>,
    /// The process that was attached by its pid: while it lives, the place is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessIdentity>,
}

impl Attachment {
    /// Says whether it is the place of a process that was attached by its pid and still runs.
    pub fn is_of_live_process(&self) -> bool {
        self.process.as_ref().is_some_and(ProcessIdentity::is_alive)
    }

    /// Says whether the address is one that we gave, so that no other may have it.
    pub fn is_lease(&self) -> bool {
        (self.host_link.is_some() || self.parent.is_some()) && self.address.is_some()
    }

    /// Says whether the container's way out of its networks leads through it.
    pub fn leads_out(&self) -> bool {
        self.default_route && (self.gateway.is_some() || self.parent.is_some())
    }

    /// Returns the container's address without its prefix.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        self.address.map(|address| address.ip())
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
