use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::project::hash_of;
use crate::spec::{Bandwidth, InterfaceName, MacAddress};

/// Is one network of the top-level `networks:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network's own name: `<project>_<key>`, or what `name:` said, or the key where it is external.
    pub name: String,
    /// The driver; ours is `bridge`, also where `None`.
    pub driver: Option<String>,
    /// Options for the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Has no way out of the host: no NAT and no default route.
    pub internal: bool,
    /// Its containers get IPv6 addresses as well.
    #[serde(default)]
    pub enable_ipv6: bool,
    /// Its containers get no IPv4 addresses: `enable_ipv4: false`.
    #[serde(default)]
    pub without_ipv4: bool,
    /// Was made outside this project: it must be there, and `down` leaves it.
    pub external: bool,
    /// How addresses are given.
    pub ipam: Ipam,
    /// Labels, as written.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// Whether its containers are neighbours of the host, on an interface that they share with it.
    pub fn is_on_lan(&self) -> bool {
        matches!(self.driver.as_deref(), Some("macvlan" | "ipvlan"))
    }

    /// Whether there is a way out of it.
    pub fn leads_out(&self) -> bool {
        let has_parent = self.driver_opts.get("parent").is_some_and(|parent| !parent.is_empty());
        !self.internal && (!self.is_on_lan() || has_parent || self.external)
    }

    /// Hashes what makes two networks different, for the label `com.docker.compose.config-hash`.
    pub fn config_hash(&self) -> String {
        hash_of(self)
    }
}

/// Says how a network gives addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    /// The pools; one is chosen where there is none.
    pub config: Vec<IpamPool>,
}

/// Is one subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamPool {
    /// The subnet, without host bits.
    pub subnet: Option<IpNetwork>,
    /// The part of it that containers get addresses from.
    pub ip_range: Option<IpNetwork>,
    /// The bridge's own address.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given, by host name.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// Says how a service is attached to one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceNetwork {
    /// Further names on this network, besides those of the service and the container.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ipv4_address: Option<Ipv4Addr>,
    /// A fixed IPv6 address.
    #[serde(default)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Link-local addresses that the interface gets besides.
    #[serde(default)]
    pub link_local_ips: Vec<IpAddr>,
    /// A fixed hardware address.
    pub mac_address: Option<MacAddress>,
    /// The interface's name inside; `ethN` where `None`.
    pub interface_name: Option<InterfaceName>,
    /// How much it may receive and send there.
    #[serde(default, skip_serializing_if = "Bandwidth::is_none")]
    pub bandwidth: Bandwidth,
    /// Interfaces are numbered by descending priority, then by name of the network.
    pub priority: i32,
    /// The network with the highest one gives the default route.
    pub gw_priority: i32,
}

/// Says where a service's network namespace comes from, where that is not a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A new namespace with only `lo`.
    None,
    /// The host's.
    Host,
    /// That of another service's container.
    Service(String),
    /// That of a container, by name or id.
    Container(String),
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}
