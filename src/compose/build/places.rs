//! Places of services in networks: their limits, and what two of them cannot both have.

use std::collections::BTreeMap;

use super::super::diagnostic::{Finding, suggest};
use super::super::load::Loader;
use super::super::model::{Network, Service};
use super::super::yaml::Node;
use super::reader::Reader;
use crate::spec::{Bandwidth, BitRate, ByteSize, InterfaceName, MacAddress, RateLimit};

/// Options of a service's place in a network that we act on.
const PLACE_OPTIONS: [&str; 4] = [
    "com.mydocker.ingress_rate",
    "com.mydocker.ingress_burst",
    "com.mydocker.egress_rate",
    "com.mydocker.egress_burst",
];

/// Builds the limits of a service's place in a network.
pub(super) fn bandwidth(reader: &mut Reader<'_>) -> Bandwidth {
    let Some(mut options) = reader.below("driver_opts") else { return Bandwidth::default() };
    for (key, entry) in options.node.as_map().into_iter().flatten() {
        if !PLACE_OPTIONS.contains(&key.as_str()) {
            let message = format!("the option `{key}` is none that a place in a network has, and is left out");
            options.warn(&entry.node, key, message, suggest(key, PLACE_OPTIONS).as_deref());
        }
    }
    let [ingress_rate, ingress_burst, egress_rate, egress_burst] = PLACE_OPTIONS;
    Bandwidth {
        ingress: rate_limit(&mut options, ingress_rate, ingress_burst),
        egress: rate_limit(&mut options, egress_rate, egress_burst),
    }
}

fn rate_limit(options: &mut Reader<'_>, rate_key: &str, burst_key: &str) -> Option<RateLimit> {
    let burst = options.parse::<ByteSize>(burst_key);
    let rate = options.parse::<BitRate>(rate_key);
    match (rate, burst, options.get(rate_key)) {
        (Some(rate), burst, _) => Some(RateLimit { rate, burst }),
        (None, Some(_), None) => {
            let node = options.node;
            options.fault(
                node,
                burst_key,
                format!("`{burst_key}` means nothing without a rate"),
                Some(&format!("add `{rate_key}: 10mbit`")),
            );
            None
        }
        (None, _, _) => None,
    }
}

/// Only interfaces of ours can be limited, and what is received only where they have an end on the host.
pub(super) fn check_bandwidth(
    tree: &Node,
    networks: &BTreeMap<String, Network>,
    services: &BTreeMap<String, Service>,
    loader: &mut Loader,
) {
    let places = services.iter().flat_map(|(name, service)| service.networks.iter().map(move |place| (name, place)));
    for (name, (key, place)) in places.filter(|(_, (_, place))| !place.bandwidth.is_none()) {
        let Some(network) = networks.get(key).filter(|network| !network.external) else { continue };
        let driver = network.driver.as_deref().unwrap_or("bridge");
        let reason = match driver {
            "bridge" | "default" => continue,
            _ if network.is_on_lan() && place.bandwidth.ingress.is_none() => continue,
            _ if network.is_on_lan() => "what a container receives cannot be limited there, only what it sends",
            "cni" => "the plugin `bandwidth` limits there, by `capability.bandwidth` of the network",
            _ => "there is nothing to limit",
        };
        let message = format!("the network `{key}` has the driver {driver}: {reason}");
        let finding = Finding::error(message).path(format!("services.{name}.networks.{key}.driver_opts"));
        let place = tree.get("services").and_then(|all| all.get(name)?.get("networks")?.get(key)?.get("driver_opts"));
        loader.report.push(match place {
            Some(node) => finding.at(node.span),
            None => finding,
        });
    }
}

/// Nothing is published for containers that are reached at addresses of their own.
pub(super) fn check_ports_on_lan(
    tree: &Node,
    networks: &BTreeMap<String, Network>,
    services: &BTreeMap<String, Service>,
    loader: &mut Loader,
) {
    for (name, service) in services.iter().filter(|(_, service)| !service.ports.is_empty()) {
        let gateway = service.gateway_network(networks);
        let Some((key, network)) = gateway.and_then(|key| Some((key, networks.get(key)?))) else { continue };
        if !network.is_on_lan() {
            continue;
        }
        let driver = network.driver.as_deref().unwrap_or_default();
        let message = format!(
            "the ports of service `{name}` are not published: its way out is the {driver} network `{key}`, where it is reached at \
             its own address"
        );
        let finding = Finding::warning(message).path(format!("services.{name}.ports"));
        let place = tree.get("services").and_then(|services| services.get(name)?.get("ports"));
        loader.report.push(match place {
            Some(node) => finding.at(node.span),
            None => finding,
        });
    }
}

/// Interfaces of one container have different names, none of them that of the loopback; on one network no two services have the same
/// hardware address, and none that has one has several containers.
pub(super) fn check_links(tree: &Node, services: &BTreeMap<String, Service>, loader: &mut Loader) {
    let mut macs: BTreeMap<(&str, MacAddress), &str> = BTreeMap::new();
    for (name, service) in services {
        let mut names: BTreeMap<&InterfaceName, &str> = BTreeMap::new();
        for (key, place) in &service.networks {
            let taken = place.interface_name.as_ref().and_then(|ifname| {
                if ifname.as_str() == "lo" {
                    return Some("`lo` is the loopback interface, which every container has".to_owned());
                }
                let other = names.insert(ifname, key)?;
                Some(format!("the interface name `{ifname}` is taken by the network `{other}` of the same service"))
            });
            report(tree, name, key, "interface_name", taken, loader);
            let taken = place.mac_address.and_then(|mac| {
                if service.scale > 1 {
                    let count = service.scale;
                    return Some(format!(
                        "{count} containers cannot have one hardware address, {mac}, on the network `{key}`"
                    ));
                }
                let other = macs.insert((key, mac), name)?;
                Some(format!("the hardware address {mac} belongs to service `{other}` on the network `{key}` already"))
            });
            report(tree, name, key, "mac_address", taken, loader);
        }
    }
}

fn report(tree: &Node, service: &str, network: &str, field: &str, wrong: Option<String>, loader: &mut Loader) {
    let Some(message) = wrong else { return };
    let finding = Finding::error(message).path(format!("services.{service}.networks.{network}.{field}"));
    let place = tree.get("services").and_then(|all| all.get(service)?.get("networks")?.get(network)?.get(field));
    loader.report.push(match place {
        Some(node) => finding.at(node.span),
        None => finding,
    });
}
