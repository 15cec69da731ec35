use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::diagnostic::{Finding, suggest};
use super::super::load::Loader;
use super::super::model::{Ipam, IpamPool, Network, NetworkMode, Service, ServiceNetwork};
use super::super::yaml::{Node, Value};
use super::reader::Reader;
use crate::spec::{InterfaceName, MacAddress, is_host_name};

/// The most bytes that a network's full name may have.
const LONGEST_NAME: usize = 200;
const DRIVERS: [&str; 7] = ["bridge", "macvlan", "ipvlan", "cni", "polycube", "host", "none"];

/// Builds one network.
pub(super) fn network(reader: &mut Reader<'_>) -> Network {
    if let Some(node) = reader.get("name")
        && let Some(Err(error)) = node.as_str().map(str::parse::<crate::spec::ObjectName>)
    {
        reader.fault(node, "name", error.to_string(), None);
    }
    // The name is also a file's, with an ending.
    if let Some(node) = reader.get("name").filter(|node| node.as_str().is_some_and(|name| name.len() > LONGEST_NAME)) {
        let message = format!("the network's name is longer than {LONGEST_NAME} bytes, with the project's before it");
        reader.fault(node, "name", message, None);
    }
    if let Some(node) = reader.get("driver")
        && let Some(driver) = node.as_str()
        && !driver.is_empty()
        && !DRIVERS.contains(&driver)
    {
        let help = super::super::diagnostic::suggest(driver, DRIVERS);
        reader.fault(node, "driver", format!("unknown network driver `{driver}`"), help.as_deref());
    }
    let enable_ipv6 = reader.flag("enable_ipv6");
    let without_ipv4 = reader.get("enable_ipv4").is_some_and(|node| node.value == Value::Bool(false));
    if let Some(node) = reader.get("enable_ipv4").filter(|_| without_ipv4 && !enable_ipv6) {
        let help = "add `enable_ipv6: true`";
        reader.fault(node, "enable_ipv4", "without IPv4 and IPv6 the network has no addresses".to_owned(), Some(help));
    }
    check_options(reader);
    Network {
        name: reader.string("name").unwrap_or_default(),
        driver: reader.string("driver").filter(|driver| !driver.is_empty()),
        driver_opts: reader.pairs("driver_opts"),
        internal: reader.flag("internal"),
        enable_ipv6,
        without_ipv4,
        external: reader.flag("external"),
        labels: reader.pairs("labels"),
        ipam: reader.below("ipam").map(|mut below| ipam(&mut below, !without_ipv4, enable_ipv6)).unwrap_or_default(),
    }
}

/// Docker's options of bridges that ours act on.
const BRIDGE_OPTIONS: [&str; 5] = [
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.driver.mtu",
];
/// Docker's options of networks whose containers share an interface of the host.
const MACVLAN_OPTIONS: [&str; 3] = ["parent", "macvlan_mode", "com.docker.network.driver.mtu"];
const IPVLAN_OPTIONS: [&str; 4] = ["parent", "ipvlan_mode", "ipvlan_flag", "com.docker.network.driver.mtu"];
/// These say who reaches whom.
const GATEWAY_MODES: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];

fn check_options(reader: &mut Reader<'_>) {
    let driver = reader.text("driver").unwrap_or_default();
    if matches!(driver, "cni" | "polycube") {
        return;
    }
    let bridge = matches!(driver, "" | "bridge");
    let known: &[&str] = match driver {
        "" | "bridge" => &BRIDGE_OPTIONS,
        "macvlan" => &MACVLAN_OPTIONS,
        "ipvlan" => &IPVLAN_OPTIONS,
        _ => &[],
    };
    for (key, entry) in reader.get("driver_opts").and_then(Node::as_map).into_iter().flatten() {
        let path = format!("driver_opts.{key}");
        if known.contains(&key.as_str()) {
            let text = entry.node.value.scalar_text().unwrap_or_default();
            if let Some((wrong, help)) = option_fault(key, &text) {
                reader.fault(&entry.node, &path, wrong, Some(help));
            }
            continue;
        }
        if bridge && GATEWAY_MODES.contains(&key.as_str()) {
            if entry.node.as_str() != Some("nat") {
                let message = format!("`{key}` is not there yet, and without it more could be reached than asked for");
                reader.fault(&entry.node, &path, message, Some("`nat` is what there is"));
            }
            continue;
        }
        let message = format!("the option `{key}` is none that this network has, and is left out");
        reader.warn(&entry.node, &path, message, suggest(key, known.iter().copied()).as_deref());
    }
}

/// Says what is wrong with the value of an option that a driver of ours acts on, and what to write.
fn option_fault(key: &str, text: &str) -> Option<(String, &'static str)> {
    let (_, short) = key.rsplit_once('.').unwrap_or(("", key));
    let (good, what, help) = match short {
        "name" => (
            text.parse::<InterfaceName>().is_ok_and(|name| name.is_plain()),
            "a bridge's name",
            "1 to 15 letters, digits, `-`, `_` and `.`",
        ),
        "mtu" => {
            (text.parse().is_ok_and(|mtu: u32| (68..=65535).contains(&mtu)), "an MTU", "a number from 68 to 65535")
        }
        "parent" => (
            text.is_empty() || text != "lo" && text.parse::<InterfaceName>().is_ok(),
            "an interface that can be a parent",
            "one of the host's: eth0; or eth0.20 for a VLAN of it",
        ),
        "macvlan_mode" => (
            matches!(text, "bridge" | "private" | "vepa" | "passthru"),
            "a mode of macvlan",
            "bridge, private, vepa, passthru",
        ),
        "ipvlan_mode" => (matches!(text, "l2" | "l3" | "l3s"), "a mode of ipvlan", "l2, l3, l3s"),
        "ipvlan_flag" => (matches!(text, "bridge" | "private" | "vepa"), "a flag of ipvlan", "bridge, private, vepa"),
        "host_binding_ipv4" => (text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address", "for example 127.0.0.1"),
        _ => (matches!(text, "true" | "false" | "1" | "0"), "true or false", "write \"true\" or \"false\""),
    };
    (!good).then(|| (format!("`{text}` is not {what}"), help))
}

/// Finds networks of the file whose subnets overlap: no host can have both.
pub(super) fn check_overlaps(tree: &Node, networks: &BTreeMap<String, Network>, loader: &mut Loader) {
    let mut seen: Vec<(&str, IpNetwork)> = Vec::new();
    for (name, network) in networks.iter().filter(|(_, network)| !network.external) {
        for (index, subnet) in network.ipam.config.iter().enumerate().filter_map(|(at, pool)| Some((at, pool.subnet?)))
        {
            let other = seen.iter().find(|(of, other)| of != name && overlap(*other, subnet));
            if let Some((of, other)) = other {
                let message = format!("the subnet {subnet} overlaps {other}, which is of the network `{of}`");
                let path = format!("networks.{name}.ipam.config[{index}].subnet");
                let place = tree
                    .get("networks")
                    .and_then(|all| all.get(name)?.get("ipam")?.get("config")?.as_seq()?.get(index)?.get("subnet"));
                let finding = Finding::error(message).path(path);
                loader.report.push(match place {
                    Some(node) => finding.at(node.span),
                    None => finding,
                });
            }
            seen.push((name, subnet));
        }
    }
}

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}

fn ipam(reader: &mut Reader<'_>, ipv4: bool, ipv6: bool) -> Ipam {
    if let Some(node) = reader.get("driver")
        && let Some(driver) = node.as_str()
        && !matches!(driver, "" | "default")
    {
        reader.fault(node, "driver", format!("unknown ipam driver `{driver}`"), Some("there is `default`"));
    }
    let mut config: Vec<IpamPool> = Vec::new();
    for (index, node) in reader.items("config").iter().enumerate() {
        let path = format!("{}.config[{index}]", reader.path);
        let mut below = Reader { node, path, report: reader.report };
        let pool = pool(&mut below, ipv4, ipv6);
        let other = config.iter().find_map(|other| {
            let (a, b) = (other.subnet?, pool.subnet?);
            overlap(a, b).then_some(a)
        });
        if let (Some(other), Some(subnet)) = (other, pool.subnet) {
            below.fault(node, "subnet", format!("the subnet {subnet} overlaps {other}"), None);
        }
        config.push(pool);
    }
    Ipam { config }
}

fn pool(reader: &mut Reader<'_>, ipv4: bool, ipv6: bool) -> IpamPool {
    let subnet = subnet(reader, "subnet");
    let ip_range = subnet_of(reader, "ip_range");
    let gateway: Option<IpAddr> = reader.parse_as("gateway", "an IP address");
    if let (Some(subnet), Some(node)) = (subnet, reader.get("subnet"))
        && subnet.is_ipv6()
        && !ipv6
    {
        reader.fault(
            node,
            "subnet",
            format!("{subnet} is an IPv6 subnet, and IPv6 is off"),
            Some("add `enable_ipv6: true` to the network"),
        );
    }
    if let (Some(subnet), Some(node)) = (subnet, reader.get("subnet"))
        && subnet.is_ipv4()
        && !ipv4
    {
        let message = format!("{subnet} is an IPv4 subnet, and IPv4 is off");
        reader.fault(node, "subnet", message, Some("leave `enable_ipv4` out"));
    }
    if let (Some(subnet), Some(range), Some(node)) = (subnet, ip_range, reader.get("ip_range"))
        && !(same_family(subnet, range.network())
            && subnet.contains(range.network())
            && range.prefix() >= subnet.prefix())
    {
        reader.fault(node, "ip_range", format!("{range} is not part of the subnet {subnet}"), None);
    }
    if let (Some(subnet), Some(gateway), Some(node)) = (subnet, gateway, reader.get("gateway"))
        && let Some(reason) = unusable(subnet, gateway)
    {
        reader.fault(node, "gateway", format!("the gateway {gateway} {reason}"), None);
    }
    let mut aux_addresses = BTreeMap::new();
    if let Some(mut below) = reader.below("aux_addresses") {
        for name in
            below.pairs("").into_keys().chain(below.node.as_map().into_iter().flat_map(|map| map.keys().cloned()))
        {
            let Some(address) = below.parse_as::<IpAddr>(&name, "an IP address") else { continue };
            if let (Some(subnet), Some(node)) = (subnet, below.get(&name))
                && !subnet.contains(address)
            {
                let message = format!("the address {address} lies outside the subnet {subnet}");
                below.fault(node, &name, message, None);
            }
            aux_addresses.insert(name, address);
        }
    }
    IpamPool { subnet, ip_range, gateway, aux_addresses }
}

fn same_family(subnet: IpNetwork, address: IpAddr) -> bool {
    subnet.is_ipv4() == address.is_ipv4()
}

/// Reads a subnet; one with host bits is refused, as it may be a typing error.
fn subnet(reader: &mut Reader<'_>, key: &str) -> Option<IpNetwork> {
    let parsed = subnet_of(reader, key)?;
    let node = reader.get(key)?;
    let longest = if parsed.is_ipv4() { 30 } else { 126 };
    if parsed.prefix() > longest {
        let message = format!("the subnet {parsed} is too small: it has no room for a gateway and a container");
        reader.fault(node, key, message, Some(&format!("use /{longest} or a shorter prefix")));
        return None;
    }
    if parsed.ip() != parsed.network() {
        let right = format!("{}/{}", parsed.network(), parsed.prefix());
        reader.fault(node, key, format!("the subnet {parsed} has host bits set"), Some(&format!("write {right}")));
        return None;
    }
    Some(parsed)
}

fn subnet_of(reader: &mut Reader<'_>, key: &str) -> Option<IpNetwork> {
    let node = reader.get(key)?;
    let text = node.as_str()?;
    match text.parse::<IpNetwork>() {
        Ok(subnet) if text.contains('/') => Some(subnet),
        _ => {
            let help = "write an address and a prefix length: 10.1.0.0/24";
            reader.fault(node, key, format!("`{text}` is not a subnet"), Some(help));
            None
        }
    }
}

/// Says why a container or gateway cannot have an address.
fn unusable(subnet: IpNetwork, address: IpAddr) -> Option<String> {
    if !same_family(subnet, address) || !subnet.contains(address) {
        return Some(format!("lies outside the subnet {subnet}"));
    }
    if address == subnet.network() {
        return Some(format!("is the address of the network {subnet} itself"));
    }
    if subnet.is_ipv4() && address == subnet.broadcast() {
        return Some(format!("is the broadcast address of {subnet}"));
    }
    None
}

/// Builds a service's attachment to one network.
pub(super) fn service_network(reader: &mut Reader<'_>) -> ServiceNetwork {
    let priority = |number: Option<i64>| number.map_or(0, |n| n.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
    ServiceNetwork {
        aliases: aliases(reader),
        ipv4_address: reader.parse_as("ipv4_address", "an IPv4 address"),
        ipv6_address: reader.parse_as::<Ipv6Addr>("ipv6_address", "an IPv6 address"),
        link_local_ips: link_local(reader),
        mac_address: reader.parse::<MacAddress>("mac_address"),
        interface_name: reader.parse("interface_name"),
        bandwidth: super::places::bandwidth(reader),
        priority: priority(reader.int("priority")),
        gw_priority: priority(reader.int("gw_priority")),
    }
}

/// Reads addresses that are good on their link alone: 169.254.0.0/16 and fe80::/10.
fn link_local(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for node in reader.items("link_local_ips") {
        let text = node.as_str().unwrap_or_default();
        let is_good = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        match text.parse::<IpAddr>().ok().filter(is_good) {
            Some(address) => found.push(address),
            None => {
                let help = "they are 169.254.0.0/16 and fe80::/10";
                reader.fault(node, "link_local_ips", format!("`{text}` is not a link-local address"), Some(help));
            }
        }
    }
    found
}

fn aliases(reader: &mut Reader<'_>) -> Vec<String> {
    for node in reader.items("aliases") {
        let text = node.as_str().unwrap_or_default();
        if !is_host_name(text, 253) {
            reader.fault(node, "aliases", format!("`{text}` is not a host name"), None);
        }
    }
    reader.texts("aliases")
}

/// Builds `network_mode`. `bridge` and `default` mean the default network here.
pub(super) fn network_mode(reader: &mut Reader<'_>) -> Option<NetworkMode> {
    let node = reader.get("network_mode")?;
    let text = node.as_str()?;
    let (word, name) = text.split_once(':').map_or((text, None), |(word, name)| (word, Some(name)));
    match (word, name) {
        ("none", None) => return Some(NetworkMode::None),
        ("host", None) => return Some(NetworkMode::Host),
        ("service", Some(name)) if !name.is_empty() => return Some(NetworkMode::Service(name.to_owned())),
        ("container", Some(name)) if !name.is_empty() => return Some(NetworkMode::Container(name.to_owned())),
        ("bridge" | "default", None) => {
            let help = "leave `network_mode` out: the service is then on the project's own bridge";
            reader.fault(node, "network_mode", format!("there is no engine-wide network `{text}` here"), Some(help));
        }
        _ => {
            let help =
                "it is one of none, host, service:NAME and container:NAME; a network's name goes under `networks`";
            reader.fault(node, "network_mode", format!("`{text}` is not a network mode"), Some(help));
        }
    }
    None
}

/// Settings that have no meaning where the network is somebody else's or none at all. What Docker refuses is an error;
/// what it forgets is a warning.
pub(super) fn check_mode(reader: &mut Reader<'_>, mode: Option<&NetworkMode>) {
    let (refused, left_out): (&[&str], &[&str]) = match mode {
        None => return,
        Some(NetworkMode::None) => (&[], &["ports", "mac_address", "links"]),
        // That of ports is told with the reference checks.
        Some(NetworkMode::Host) => (&["mac_address", "links"], &[]),
        Some(NetworkMode::Service(_) | NetworkMode::Container(_)) => {
            let refused = &["hostname", "extra_hosts", "ports", "expose", "mac_address", "links", "dns"];
            (refused, &["domainname", "dns_search", "dns_opt"])
        }
    };
    let given = |node: &&Node| {
        node.as_seq().is_none_or(|items| !items.is_empty()) && node.as_str().is_none_or(|text| !text.is_empty())
    };
    let mode = mode.map(ToString::to_string).unwrap_or_default();
    for (key, is_error) in refused.iter().map(|key| (*key, true)).chain(left_out.iter().map(|key| (*key, false))) {
        let Some(node) = reader.get(key).filter(given) else { continue };
        if is_error {
            let message = format!("`{key}` and `network_mode: {mode}` exclude one another");
            let shared = matches!(mode.split_once(':'), Some(("service" | "container", _)));
            let help = shared.then_some("set it at the container whose network is shared");
            reader.fault(node, key, message, help);
        } else {
            let message = format!("`{key}` means nothing with `network_mode: {mode}` and is left out");
            reader.warn(node, key, message, None);
        }
    }
}

/// Fixed addresses must lie in a subnet of the network, and no two services may have the same.
pub(super) fn check_addresses(
    tree: &Node,
    networks: &BTreeMap<String, Network>,
    services: &BTreeMap<String, Service>,
    loader: &mut Loader,
) {
    let mut taken: BTreeMap<(&str, IpAddr), &str> = BTreeMap::new();
    for (name, service) in services {
        for (key, attachment) in &service.networks {
            // Plugins know their addresses themselves.
            let is_ours = |network: &&Network| {
                !network.external && !matches!(network.driver.as_deref(), Some("cni" | "polycube"))
            };
            let Some(network) = networks.get(key).filter(is_ours) else { continue };
            let wanted = [
                ("ipv4_address", attachment.ipv4_address.map(IpAddr::V4)),
                ("ipv6_address", attachment.ipv6_address.map(IpAddr::V6)),
            ];
            for (field, address) in wanted {
                let Some(address) = address else { continue };
                let reason = address_fault(network, address).or_else(|| {
                    taken.insert((key, address), name).map(|other| format!("belongs to service `{other}` already"))
                });
                let Some(reason) = reason else { continue };
                let place = tree.get("services").and_then(|s| s.get(name)?.get("networks")?.get(key)?.get(field));
                let path = format!("services.{name}.networks.{key}.{field}");
                let finding = Finding::error(format!("the address {address} {reason}")).path(path);
                loader.report.push(match place {
                    Some(node) => finding.at(node.span),
                    None => finding,
                });
            }
        }
    }
}

fn address_fault(network: &Network, address: IpAddr) -> Option<String> {
    if address.is_ipv6() && !network.enable_ipv6 {
        return Some("needs a network with `enable_ipv6: true` and a subnet of its own".into());
    }
    if address.is_ipv4() && network.without_ipv4 {
        return Some("needs a network with IPv4, and `enable_ipv4` is false".into());
    }
    let is_of_family = |pool: &&IpamPool| pool.subnet.is_some_and(|subnet| same_family(subnet, address));
    let pools: Vec<&IpamPool> = network.ipam.config.iter().filter(is_of_family).collect();
    if pools.is_empty() {
        let subnet = if address.is_ipv6() { "'fd00:10:1::/64'" } else { "10.1.0.0/24" };
        return Some(format!("needs a network with a subnet of its own (`ipam: {{config: [{{subnet: {subnet}}}]}}`)"));
    }
    if let Some((host, _)) = pools.iter().flat_map(|pool| &pool.aux_addresses).find(|(_, aux)| **aux == address) {
        return Some(format!("is reserved for `{host}` by `aux_addresses`"));
    }
    let home = pools.iter().find(|pool| pool.subnet.is_some_and(|s| same_family(s, address) && s.contains(address)));
    let Some(subnet) = home.and_then(|pool| pool.subnet) else {
        let all: Vec<String> = pools.iter().filter_map(|pool| pool.subnet).map(|subnet| subnet.to_string()).collect();
        return Some(format!("lies outside the network's subnet {}", all.join(", ")));
    };
    unusable(subnet, address).or_else(|| {
        let gateway = home.and_then(|pool| pool.gateway);
        let implicit = gateway.is_none().then(|| subnet.iter().nth(1)).flatten();
        (gateway.or(implicit) == Some(address)).then(|| "is the gateway's".to_owned())
    })
}
