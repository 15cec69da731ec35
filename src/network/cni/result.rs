//! What ADD gives, in the form of every version of the specification: SPEC.md section 5, and that of 0.2.0 and 0.4.0.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::version::SpecVersion;

/// Is what an attachment has become. This is the form of 1.1.0; [`to_json`](Self::to_json) writes all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachResult {
    /// All interfaces that were made, also those on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// The routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name servers that the network knows.
    #[serde(default)]
    pub dns: Dns,
}

/// Is one interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its largest packet, in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace it stands in; none or empty: the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// A socket that belongs to it (1.1.0).
    #[serde(rename = "socketPath", default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The PCI device behind it (1.1.0).
    #[serde(rename = "pciID", default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

impl Interface {
    /// Says whether it stands in a container.
    pub fn is_inside(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| !sandbox.is_empty())
    }
}

/// Is one address of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address with its prefix.
    pub address: IpNetwork,
    /// The gateway of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of `interfaces` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// Is one route of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub dst: IpNetwork,
    /// The next hop; that of the address where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The largest packet on the way, in bytes (1.1.0, as all below).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The TCP segment size to announce, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Lower is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

impl Route {
    /// Makes a route without the fields of 1.1.0.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Says how names are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The domain of short names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The domains that are searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Is an address with its routes as 0.1.0 and 0.2.0 write it.
#[derive(Deserialize)]
struct OldIp {
    ip: IpNetwork,
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
}

/// Is a result as 0.1.0 and 0.2.0 write it.
#[derive(Deserialize)]
struct OldResult {
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
    #[serde(default)]
    dns: Dns,
}

/// Says what is wrong with a result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It is not what the version says.
    #[error("not a result of CNI {version}")]
    Shape {
        /// The version.
        version: SpecVersion,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// It names a version that we do not speak.
    #[error(transparent)]
    Version(#[from] super::UnknownVersion),
    /// An address is of an interface that is not there.
    #[error("the address {address} is of interface {index}, and there are {count}")]
    Interface {
        /// The address.
        address: IpNetwork,
        /// The interface that it names.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

impl AttachResult {
    /// Reads a result. One without `cniVersion` is of the version that was asked for.
    ///
    /// # Errors
    /// [`ResultError`].
    pub fn from_json(value: Value, asked: SpecVersion) -> Result<Self, ResultError> {
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            Some("") | None => asked,
            Some(text) => text.parse()?,
        };
        let value = without_nulls(value);
        let shape = |source| ResultError::Shape { version, source };
        let result = if version < SpecVersion::V0_3_0 {
            serde_json::from_value::<OldResult>(value).map_err(shape)?.into()
        } else {
            serde_json::from_value::<Self>(value).map_err(shape)?
        };
        result.check()?;
        Ok(result)
    }

    /// Writes the result as this version has it; what it has no word for is left out.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), json!(version));
        if version < SpecVersion::V0_3_0 {
            for (key, is_ours) in [("ip4", IpNetwork::is_ipv4 as fn(&IpNetwork) -> bool), ("ip6", IpNetwork::is_ipv6)] {
                if let Some(ip) = self.ips.iter().find(|ip| is_ours(&ip.address)) {
                    let routes: Vec<Route> =
                        self.routes.iter().filter(|route| is_ours(&route.dst)).map(plain).collect();
                    let mut old = json!({ "ip": ip.address, "routes": routes });
                    if let Some(gateway) = ip.gateway {
                        old["gateway"] = json!(gateway);
                    }
                    object.insert(key.to_owned(), old);
                }
            }
            object.insert("dns".to_owned(), json!(self.dns));
            return Value::Object(object);
        }
        let newest = version >= SpecVersion::V1_1_0;
        let interfaces: Vec<Value> =
            self.interfaces.iter().map(|interface| interface_json(interface, newest)).collect();
        let ips: Vec<Value> = self.ips.iter().map(|ip| ip_json(ip, version)).collect();
        let routes: Vec<Value> =
            self.routes.iter().map(|route| if newest { json!(route) } else { json!(plain(route)) }).collect();
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                object.insert(key.to_owned(), Value::Array(list));
            }
        }
        object.insert("dns".to_owned(), json!(self.dns));
        Value::Object(object)
    }

    /// Returns the addresses of the interface of this name inside the container: those that name it, and those that name none.
    pub fn addresses_of<'a>(&'a self, ifname: &'a str) -> impl Iterator<Item = &'a IpConfig> {
        self.ips.iter().filter(move |ip| match ip.interface.and_then(|index| self.interfaces.get(index)) {
            Some(interface) => interface.name == ifname && interface.is_inside(),
            None => true,
        })
    }

    /// Returns the interface of this name inside the container.
    pub fn interface(&self, ifname: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == ifname && interface.is_inside())
    }

    fn check(&self) -> Result<(), ResultError> {
        let count = self.interfaces.len();
        let beyond = self.ips.iter().find_map(|ip| {
            // A delegated plugin has no interfaces to name.
            let index = ip.interface.filter(|index| count > 0 && *index >= count)?;
            Some(ResultError::Interface { address: ip.address, index, count })
        });
        beyond.map_or(Ok(()), Err)
    }
}

impl From<OldResult> for AttachResult {
    fn from(old: OldResult) -> Self {
        let mut result = Self { dns: old.dns, ..Self::default() };
        for ip in [old.ip4, old.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { address: ip.ip, gateway: ip.gateway, interface: None });
            result.routes.extend(ip.routes);
        }
        result
    }
}

fn plain(route: &Route) -> Route {
    Route::new(route.dst, route.gw)
}

fn interface_json(interface: &Interface, newest: bool) -> Value {
    if newest {
        return json!(interface);
    }
    json!(Interface { mtu: None, socket_path: None, pci_id: None, ..interface.clone() })
}

fn ip_json(ip: &IpConfig, version: SpecVersion) -> Value {
    let mut value = json!(ip);
    if version < SpecVersion::V1_0_0 {
        value["version"] = json!(if ip.address.is_ipv4() { "4" } else { "6" });
    }
    value
}

/// Drops members that are null: what some plugins write for what they leave out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
