//! What a runtime tells plugins of one attachment beside the configuration: CONVENTIONS.md, "Capabilities".

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::network::config::Protocol;

/// Is `runtimeConfig`: what one attachment wants. Each member is a capability, and reaches the plugins that declare it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    /// Ports of the host that lead to ports of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mappings: Option<Vec<PortMap>>,
    /// Chosen addresses, with or without a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ips: Option<Vec<String>>,
    /// A chosen hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// How the container resolves names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<RuntimeDns>,
    /// How much the interface may carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Names of the container on the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<String>>,
    /// Capabilities without a type of ours, `ipRanges` for one.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Is one published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMap {
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The host's address; all where `None`.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// Says how names are resolved, with this capability's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeDns {
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// The domains that are searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Says how much an interface may carry: rates in bits per second, bursts in bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Into the container.
    #[serde(default)]
    pub ingress_rate: u64,
    /// What may come at once.
    #[serde(default)]
    pub ingress_burst: u64,
    /// Out of the container.
    #[serde(default)]
    pub egress_rate: u64,
    /// What may leave at once.
    #[serde(default)]
    pub egress_burst: u64,
}

impl RuntimeConfig {
    /// Returns the members as JSON, by name of the capability.
    pub fn members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        }
    }

    /// Returns the members that a plugin declares.
    pub fn for_plugin(&self, declared: &BTreeSet<&str>) -> Map<String, Value> {
        self.members().into_iter().filter(|(name, _)| declared.contains(name.as_str())).collect()
    }
}
