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

impl NetworkRecord {
    /// Returns the bridge's name.
    pub fn bridge_name(&self) -> Option<&InterfaceName> {
        self.bridge.as_ref().map(|bridge| &bridge.name)
    }

    /// Returns the addresses of the network.
    pub fn subnet(&self) -> Option<Ipv4Network> {
        self.bridge.as_ref().map(|bridge| bridge.subnet)
    }

    /// Returns the bridge's own address.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.bridge.as_ref().map(|bridge| bridge.gateway)
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
