//! What a configuration says, checked once before anything is touched.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use serde::Deserialize;
use serde_json::Value;

use super::PolycubeError;
use super::names::network_hash;
use crate::network::cni::{Dns, PluginRequest, PortMap};
use crate::network::{FirewallChoice, FirewallOptions};
use crate::spec::{InterfaceName, MacAddress};

const URL: &str = "http://127.0.0.1:9000";
/// Leaves the choice of a name to us.
const AUTO: &str = "auto";

/// Is the configuration as written; keys of the protocol are read by [`PluginRequest`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    url: Option<String>,
    bridge: Option<String>,
    router: Option<String>,
    nat: Option<String>,
    uplink: Option<WrittenUplink>,
    ip_masq: Option<bool>,
    mtu: Option<u32>,
    timeout_ms: Option<u64>,
    ipam: Option<Value>,
    subnet: Option<Ipv4Network>,
    gateway: Option<Ipv4Addr>,
    is_default_gateway: Option<bool>,
    dns: Option<Dns>,
    firewall: Option<FirewallChoice>,
    iptables: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct WrittenUplink {
    mode: Option<String>,
    dev: Option<String>,
    gateway: Option<String>,
    #[serde(default)]
    force: bool,
}

/// Is a checked configuration.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) network: String,
    /// Stands for the network in names.
    pub(super) hash: String,
    pub(super) url: String,
    /// How long one request may take.
    pub(super) limit: Duration,
    pub(super) bridge: CubeName,
    pub(super) router: CubeName,
    pub(super) nat: CubeName,
    pub(super) uplink: Uplink,
    pub(super) masquerade: bool,
    pub(super) mtu: Option<u32>,
    /// The plugin that gives addresses; ours where `None`.
    pub(super) ipam: Option<String>,
    pub(super) subnet: Option<Ipv4Network>,
    /// The router's address on the bridge's side, where the configuration tells it.
    pub(super) lan: Option<Ipv4Network>,
    /// Whether the container gets a default route where the addresses come without any route.
    pub(super) default_route: bool,
    pub(super) dns: Option<Dns>,
    pub(super) ports: Vec<PortMap>,
    pub(super) mac: Option<MacAddress>,
    /// Who makes the host's rules.
    pub(super) firewall: FirewallOptions,
    /// The address that was asked for, where we give addresses.
    pub(super) wanted: Option<Ipv4Addr>,
}

/// Is a cube's name, and whether people chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CubeName {
    pub(super) name: String,
    /// Whether it follows from the network's name: then the cube is ours whatever happened.
    pub(super) is_auto: bool,
}

/// Says how the router reaches the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Uplink {
    /// A veth pair into the host, which forwards.
    Veth {
        /// The host's address on it; chosen where `None`.
        gateway: Option<Ipv4Addr>,
    },
    /// An interface of the host, which the router takes over.
    Netdev {
        /// Its name.
        dev: InterfaceName,
        /// The next hop.
        gateway: Ipv4Addr,
        /// Whether it may be the one that carries the host's default route.
        force: bool,
    },
}

fn wrong(reason: impl Into<String>) -> PolycubeError {
    PolycubeError::Configuration(reason.into())
}

impl Conf {
    /// Checks a configuration; touches nothing.
    pub(super) fn check(request: &PluginRequest) -> Result<Self, PolycubeError> {
        let written: Written = serde_json::from_value(Value::Object(request.config.clone()))
            .map_err(|error| wrong(format!("the configuration: {error}")))?;
        let hash = network_hash(&request.name);
        let cube = |given: Option<String>, kind: &str| match given.as_deref() {
            None | Some(AUTO | "") => Ok(CubeName { name: format!("{kind}-{hash}"), is_auto: true }),
            Some(name) => checked_cube(name),
        };
        if let Some(mtu) = written.mtu.filter(|mtu| *mtu < 68) {
            return Err(wrong(format!("mtu: {mtu} is less than 68, IPv4's least (RFC 791)")));
        }
        let ipam = written.ipam.as_ref().and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
        let subnet = written.subnet.map(|subnet| checked_subnet(subnet, written.gateway)).transpose()?;
        Ok(Self {
            bridge: cube(written.bridge, "br")?,
            router: cube(written.router, "r")?,
            nat: cube(written.nat, "nat")?,
            url: written.url.filter(|url| !url.is_empty()).unwrap_or_else(|| URL.to_owned()),
            limit: Duration::from_millis(written.timeout_ms.filter(|limit| *limit > 0).unwrap_or(2000)),
            uplink: checked_uplink(written.uplink.unwrap_or_default())?,
            masquerade: written.ip_masq.unwrap_or(true),
            mtu: written.mtu,
            lan: lan(subnet, written.gateway, written.ipam.as_ref())?,
            ipam: ipam.filter(|name| !name.is_empty()).map(str::to_owned),
            subnet,
            default_route: written.is_default_gateway.unwrap_or(true),
            dns: written.dns,
            firewall: FirewallOptions { choice: written.firewall.unwrap_or_default(), iptables: written.iptables },
            ports: checked_ports(request.runtime.port_mappings.as_deref().unwrap_or_default())?,
            mac: request.runtime.mac.as_deref().filter(|mac| !mac.is_empty()).map(checked_mac).transpose()?,
            wanted: wanted_address(request)?,
            network: request.name.clone(),
            hash,
        })
    }
}

/// A cube's name stands in paths and beside a colon in the names of its ports.
fn checked_cube(name: &str) -> Result<CubeName, PolycubeError> {
    let sound = name.len() <= 32
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if sound {
        return Ok(CubeName { name: name.to_owned(), is_auto: false });
    }
    Err(wrong(format!("`{}` cannot be the name of a cube", name.escape_debug())))
}

fn checked_uplink(written: WrittenUplink) -> Result<Uplink, PolycubeError> {
    let gateway = match written.gateway.as_deref() {
        None | Some(AUTO | "") => None,
        Some(text) => Some(text.parse().map_err(|_| wrong(format!("uplink.gateway: `{text}` is no IPv4 address")))?),
    };
    match (written.mode.as_deref().unwrap_or_default(), written.dev.filter(|dev| !dev.is_empty())) {
        ("", Some(dev)) => {
            Err(wrong(format!("uplink: say `\"mode\": \"netdev\"` if the router is to take {dev} from the host")))
        }
        ("" | "veth", _) => Ok(Uplink::Veth { gateway }),
        ("netdev", None) => Err(wrong("uplink: the mode netdev needs `dev`, the interface's name")),
        ("netdev", Some(dev)) => Ok(Uplink::Netdev {
            dev: dev.parse().map_err(|error: crate::spec::SpecError| wrong(format!("uplink.dev: {error}")))?,
            gateway: gateway.ok_or_else(|| wrong("uplink: the mode netdev needs `gateway`, the next hop"))?,
            force: written.force,
        }),
        (other, _) => Err(wrong(format!("uplink.mode: `{other}` is neither veth nor netdev"))),
    }
}

fn checked_subnet(subnet: Ipv4Network, gateway: Option<Ipv4Addr>) -> Result<Ipv4Network, PolycubeError> {
    if subnet.prefix() > 30 || subnet.prefix() < 8 {
        return Err(wrong(format!("subnet: {subnet} is not between /8 and /30")));
    }
    let own = Ipv4Network::new(subnet.network(), subnet.prefix()).map_err(|error| wrong(error.to_string()))?;
    match gateway.filter(|gateway| !own.contains(*gateway)) {
        Some(gateway) => Err(wrong(format!("gateway: {gateway} is not in {own}"))),
        None => Ok(own),
    }
}

/// Finds the router's address on the bridge's side: from our own keys, or from those of host-local and static. It has to be
/// known before addresses are given, because the router comes first.
fn lan(
    subnet: Option<Ipv4Network>,
    gateway: Option<Ipv4Addr>,
    ipam: Option<&Value>,
) -> Result<Option<Ipv4Network>, PolycubeError> {
    let ipam = ipam.cloned().unwrap_or_default();
    let text = |pointer: &str| ipam.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let with_gateway = |subnet: Ipv4Network, gateway: Option<Ipv4Addr>| {
        let first = Ipv4Addr::from_bits(subnet.network().to_bits().wrapping_add(1));
        let gateway = gateway.unwrap_or(first);
        Ipv4Network::new(gateway, subnet.prefix()).map_err(|error| wrong(error.to_string()))
    };
    if let Some(subnet) = subnet {
        return with_gateway(subnet, gateway).map(Some);
    }
    let places = [
        ("/subnet", "/gateway"),
        ("/ranges/0/0/subnet", "/ranges/0/0/gateway"),
        ("/addresses/0/address", "/addresses/0/gateway"),
    ];
    for (subnet, its_gateway) in places {
        let Some(text_of_subnet) = text(subnet) else { continue };
        let parsed = text_of_subnet.parse::<Ipv4Network>().map_err(|_| {
            wrong(format!("ipam: `{text_of_subnet}` is no IPv4 subnet, and Polycube's router knows no other"))
        })?;
        let its_gateway = text(its_gateway)
            .map(|text| text.parse::<Ipv4Addr>().map_err(|_| wrong(format!("ipam: `{text}` is no IPv4 address"))));
        return with_gateway(parsed, gateway.or(its_gateway.transpose()?)).map(Some);
    }
    Ok(None)
}

fn checked_ports(ports: &[PortMap]) -> Result<Vec<PortMap>, PolycubeError> {
    // As the plugin portmap: a port without a host's port is not published.
    let published = ports.iter().filter(|port| port.host_port != 0);
    // An address of IPv6 has nothing to do with a router that knows none.
    let published =
        published.filter(|port| !matches!(port.host_ip, Some(IpAddr::V6(address)) if !address.is_unspecified()));
    published
        .map(|port| match port.container_port {
            0 => Err(wrong(format!("portMappings: the container's port of {} is 0", port.host_port))),
            _ => Ok(port.clone()),
        })
        .collect()
}

fn checked_mac(text: &str) -> Result<MacAddress, PolycubeError> {
    text.parse().map_err(|_| wrong(format!("runtimeConfig.mac: `{text}` is no hardware address")))
}

/// Reads the address that was asked for: `runtimeConfig.ips`, then `args.cni.ips`.
fn wanted_address(request: &PluginRequest) -> Result<Option<Ipv4Addr>, PolycubeError> {
    let from_runtime = request.runtime.ips.as_ref().and_then(|ips| ips.first()).cloned();
    let args = || request.config.get("args")?.pointer("/cni/ips/0")?.as_str().map(str::to_owned);
    let Some(text) = from_runtime.or_else(args) else { return Ok(None) };
    let address = text.split('/').next().unwrap_or_default().parse();
    address.map(Some).map_err(|_| wrong(format!("ips: `{text}` is no IPv4 address")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::cni::SpecVersion;
    use serde_json::json;

    fn check(more: Value) -> Result<Conf, String> {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "polycube"});
        let (Value::Object(conf), Value::Object(more)) = (&mut conf, more) else { unreachable!() };
        conf.extend(more);
        let bytes = serde_json::to_vec(conf).unwrap();
        let request = PluginRequest::parse(&bytes, &[SpecVersion::V1_0_0]).unwrap();
        Conf::check(&request).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let conf = check(json!({"bridge": "auto"})).unwrap();
        assert_eq!(conf.uplink, Uplink::Veth { gateway: None });
        assert!(conf.masquerade && conf.default_route && conf.bridge.is_auto);
        assert_eq!((conf.url.as_str(), conf.limit), ("http://127.0.0.1:9000", Duration::from_secs(2)));
        assert_eq!(conf.bridge.name, format!("br-{}", conf.hash));
    }

    #[test]
    fn the_gateway_is_known_before_the_address() {
        let lan = |ipam: Value| check(json!({"ipam": ipam})).unwrap().lan.map(|lan| lan.to_string());
        assert_eq!(lan(json!({"type": "host-local", "subnet": "10.1.2.0/24"})).unwrap(), "10.1.2.1/24");
        assert_eq!(
            lan(json!({"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24", "gateway": "10.1.2.9"}]]})).unwrap(),
            "10.1.2.9/24"
        );
        assert_eq!(lan(json!({"type": "dhcp"})), None);
        assert_eq!(check(json!({"subnet": "10.9.0.0/16"})).unwrap().lan.unwrap().to_string(), "10.9.0.1/16");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let cases = [
            (json!({"uplink": {"mode": "netdev"}}), "dev"),
            (json!({"uplink": {"dev": "eth0"}}), "netdev"),
            (json!({"uplink": {"mode": "netdev", "dev": "eth0"}}), "gateway"),
            (json!({"uplink": {"mode": "tunnel"}}), "tunnel"),
            (json!({"uplink": {"gateway": "fd00::1"}}), "fd00::1"),
            (json!({"bridge": "a/b"}), "a/b"),
            (json!({"mtu": 10}), "mtu"),
            (json!({"ipam": {"type": "host-local", "subnet": "fd00::/64"}}), "fd00::/64"),
            (json!({"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}), "10.0.1.1"),
            (json!({"runtimeConfig": {"mac": "x"}}), "mac"),
            (json!({"url": 3}), "expected a string"),
        ];
        for (conf, word) in cases {
            let error = check(conf.clone()).unwrap_err();
            assert!(error.contains(word), "{conf}: {error}");
        }
    }
}
