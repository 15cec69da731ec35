use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

use crate::spec::InterfaceName;

/// Names the driver that makes a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// A Linux bridge of ours with addresses, NAT and published ports.
    #[default]
    Bridge,
    /// Only `lo`.
    None,
    /// The namespace mydocker itself was started in.
    Host,
    /// A CNI network configuration list.
    Cni,
    /// Polycube's cubes.
    Polycube,
    /// Interfaces with Ethernet addresses of their own on one of the host's.
    Macvlan,
    /// Interfaces with IP addresses of their own on one of the host's.
    Ipvlan,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::None => "none",
            Self::Host => "host",
            Self::Cni => "cni",
            Self::Polycube => "polycube",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        })
    }
}

/// Is a subnet of a network with what is said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// Its addresses.
    pub subnet: IpNetwork,
    /// The bridge's address in it; the first where `None`.
    pub gateway: Option<IpAddr>,
    /// The part that containers get addresses from; all of it where `None`.
    pub ip_range: Option<IpNetwork>,
    /// Addresses that no container gets, by the name of who has them (`aux_addresses`).
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

impl AddressPool {
    /// Takes a subnet of which nothing else is said.
    pub fn of(subnet: IpNetwork) -> Self {
        Self { subnet, gateway: None, ip_range: None, reserved: BTreeMap::new() }
    }
}

/// Says what a network is to be; what is `None` is chosen when the network is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The full name, `<project>_<name>` for Compose.
    pub name: String,
    /// The project it belongs to, if any.
    pub project: Option<String>,
    /// Who makes it.
    pub driver: DriverKind,
    /// Its addresses; a free /24 where `None`.
    pub subnet: Option<Ipv4Network>,
    /// The bridge's own address; the subnet's first where `None`.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet that containers get addresses from.
    pub ip_range: Option<Ipv4Network>,
    /// Addresses that no container gets, by the name of who has them (`aux_addresses`).
    #[serde(default)]
    pub reserved: BTreeMap<String, Ipv4Addr>,
    /// Its containers get IPv6 addresses as well; a unique local /64 (RFC 4193) is chosen where `pools` has no subnet of IPv6.
    #[serde(default)]
    pub ipv6: bool,
    /// Its containers get no IPv4 addresses (`enable_ipv4: false`).
    #[serde(default)]
    pub without_ipv4: bool,
    /// Subnets besides the one above: those of IPv6, and more of IPv4. Of each family the first that has an address left gives it.
    #[serde(default)]
    pub pools: Vec<AddressPool>,
    /// The bridge's name; `br-` and 12 digits of the id where `None`.
    pub bridge_name: Option<InterfaceName>,
    /// Has no way out and no default route.
    pub internal: bool,
    /// The largest packet of its links, 1500 where `None`.
    pub mtu: Option<u32>,
    /// `driver_opts`, with Docker's keys.
    pub options: BTreeMap<String, String>,
    /// Labels, for people; a change of labels alone changes nothing else.
    pub labels: BTreeMap<String, String>,
}

impl NetworkConfig {
    /// Finds who has an address that no container gets.
    pub(super) fn reserved_for(&self, address: IpAddr) -> Option<&str> {
        let first = self.reserved.iter().map(|(host, reserved)| (host, IpAddr::V4(*reserved)));
        let others = self.pools.iter().flat_map(|pool| pool.reserved.iter().map(|(host, reserved)| (host, *reserved)));
        first.chain(others).find(|(_, reserved)| *reserved == address).map(|(host, _)| host.as_str())
    }

    /// Lists the addresses that no container gets.
    pub(super) fn reserved_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.pools.iter().flat_map(|pool| pool.reserved.values().copied());
        self.reserved.values().copied().map(IpAddr::V4).chain(others)
    }

    /// Names the first field in which another configuration differs, with both values; project and labels aside.
    pub(super) fn difference(&self, wanted: &Self) -> Option<(&'static str, String, String)> {
        fn text<T: ToString>(value: &Option<T>) -> String {
            value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
        }
        // Where plugins lie may change: it is no part of what the network is.
        let options = |config: &Self| {
            let mut options = config.options.clone();
            options.retain(|key, _| config.driver != DriverKind::Cni || key != super::cni::OPTION_PATH);
            format!("{options:?}")
        };
        let pools = |config: &Self| config.pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let pairs = [
            ("driver", self.driver.to_string(), wanted.driver.to_string()),
            ("subnet", text(&self.subnet), text(&wanted.subnet)),
            ("gateway", text(&self.gateway), text(&wanted.gateway)),
            ("ip_range", text(&self.ip_range), text(&wanted.ip_range)),
            ("reserved addresses", format!("{:?}", self.reserved), format!("{:?}", wanted.reserved)),
            ("IPv6", self.ipv6.to_string(), wanted.ipv6.to_string()),
            ("absence of IPv4", self.without_ipv4.to_string(), wanted.without_ipv4.to_string()),
            ("set of subnets", pools(self), pools(wanted)),
            ("bridge name", text(&self.bridge_name), text(&wanted.bridge_name)),
            ("internal", self.internal.to_string(), wanted.internal.to_string()),
            ("mtu", text(&self.mtu), text(&wanted.mtu)),
            ("driver_opts", options(self), options(wanted)),
        ];
        pairs.into_iter().find(|(_, existing, wanted)| existing != wanted)
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subnet)?;
        if let Some(gateway) = self.gateway {
            write!(f, " gateway {gateway}")?;
        }
        if let Some(range) = self.ip_range {
            write!(f, " ip_range {range}")?;
        }
        for (host, address) in &self.reserved {
            write!(f, " {host} {address}")?;
        }
        Ok(())
    }
}

/// Is the transport protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// tcp(7).
    #[default]
    Tcp,
    /// udp(7).
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Asks for one port of a container to be reachable at one port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; all where `None`.
    pub host_ip: Option<IpAddr>,
    /// The host's port; a free one is chosen where `None`.
    pub host_port: Option<u16>,
    /// The last of the host's ports of which any free one is taken; `host_port` alone where `None`.
    #[serde(default)]
    pub host_port_to: Option<u16>,
    /// The container's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}
