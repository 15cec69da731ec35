//! CHECK and STATUS: look, and touch nothing.

use std::os::fd::AsFd;

use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::Value;

use super::PolycubeError;
use super::add::{lan_port, to_router};
use super::container::{difference, open_netns};
use super::cubes::{self, Service};
use super::ipam::{self, Given};
use super::kernel::{self, Hop};
use super::names::{WAN, bridge_port, host_veth};
use super::plugin::Session;
use super::record::{Phase, attachment_key};
use crate::network::cni::{AttachResult, Operation};

/// Compares what is there with what ADD made.
pub(super) fn check(session: &Session<'_>) -> Result<(), PolycubeError> {
    let Session { call, conf, daemon, .. } = session;
    daemon.probe().map_err(|error| unavailable(&error, true))?;
    let netns = open_netns(&call.netns)?;
    let previous = session.request.previous.as_ref();
    let previous = previous.ok_or_else(|| PolycubeError::Configuration("prevResult is missing".to_owned()))?;
    let changed = |words: String| Err(PolycubeError::Changed(words));
    let state = session.load()?;
    let key = attachment_key(&call.container_id, &call.ifname);
    if !state.attachments.get(&key).is_some_and(|attachment| attachment.phase == Phase::Attached) {
        return changed(format!("{} is not attached to {}", call.container_id, conf.network));
    }
    let near = host_veth(&conf.network, &call.container_id, &call.ifname);
    check_network(session)?;
    let port = bridge_port(&conf.network, &call.container_id, &call.ifname);
    let Some(found) = cubes::port(daemon, Service::Bridge, &conf.bridge.name, &port)? else {
        return changed(format!("the bridge {} has lost the port {port}", conf.bridge.name));
    };
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("peer") != near || !text("status").eq_ignore_ascii_case("up") {
        return changed(format!("the port {port} is {} with the peer `{}`", text("status"), text("peer")));
    }
    let call_ipam = session.call_as(Operation::Check, &call.container_id, &call.ifname);
    ipam::check(conf, &call_ipam, session.request)?;
    let (given, mac) = expected(previous, &call.ifname)?;
    match difference(netns.as_fd(), &near, &call.ifname, &given, mac)? {
        Some(words) => changed(words),
        None => Ok(()),
    }
}

/// Takes what the container should have out of the result that the runtime kept.
fn expected<'a>(result: &'a AttachResult, ifname: &'a str) -> Result<(Given, Option<&'a str>), PolycubeError> {
    let found = result.ips.iter().find_map(|ip| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        let is_ours = interface.is_none_or(|interface| interface.name == ifname && interface.is_inside());
        match ip.address {
            IpNetwork::V4(address) if is_ours => Some((address, ip.gateway.and_then(kernel::ipv4))),
            _ => None,
        }
    });
    let none = || PolycubeError::Configuration(format!("prevResult has no IPv4 address of {ifname}"));
    let (address, gateway): (Ipv4Network, _) = found.ok_or_else(none)?;
    let gateway = gateway.unwrap_or(address.ip());
    let routes = result.routes.iter().filter_map(|route| match route.dst {
        // Routes by other interfaces stand here, too.
        IpNetwork::V4(to) => Some(Hop { to, via: Some(route.gw.and_then(kernel::ipv4).unwrap_or(gateway)) }),
        IpNetwork::V6(_) => None,
    });
    let routes = routes.filter(|hop| hop.via.is_none_or(|via| address.contains(via))).collect();
    let mac = result.interface(ifname).and_then(|interface| interface.mac.as_deref());
    Ok((Given { address, gateway, routes, dns: result.dns.clone() }, mac))
}

/// Compares what all attachments share.
fn check_network(session: &Session<'_>) -> Result<(), PolycubeError> {
    let Session { conf, daemon, .. } = session;
    let (bridge, router) = (conf.bridge.name.as_str(), conf.router.name.as_str());
    let (lan, to_router) = (lan_port(session), to_router(session));
    let peers = [
        (Service::Router, router, lan.as_str(), format!("{bridge}:{to_router}")),
        (Service::Bridge, bridge, to_router.as_str(), format!("{router}:{lan}")),
    ];
    for (service, cube, port, wanted) in peers {
        let found = cubes::peer_of(daemon, service, cube, port)?;
        if found != wanted {
            return Err(PolycubeError::Changed(format!("the port {cube}:{port} has the peer `{found}`, not {wanted}")));
        }
    }
    if cubes::peer_of(daemon, Service::Router, router, WAN)?.is_empty() {
        return Err(PolycubeError::Changed(format!("the router {router} has lost its uplink")));
    }
    if conf.masquerade && !cubes::masquerades(daemon, &conf.nat.name)? {
        return Err(PolycubeError::NoMasquerade(conf.nat.name.clone()));
    }
    Ok(())
}

/// Says whether an ADD could be served.
pub(super) fn status(session: &Session<'_>) -> Result<(), PolycubeError> {
    let Err(error) = session.daemon.probe() else { return Ok(()) };
    let attached = session.load()?.live().next().is_some();
    Err(unavailable(&error, attached))
}

fn unavailable(error: &PolycubeError, attached: bool) -> PolycubeError {
    PolycubeError::NotAvailable { reason: error.to_object().details, attached }
}
