//! The router's way to the world: a veth pair into the host, or an interface of the host's.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnetwork::Ipv4Network;

use super::PolycubeError;
use super::conf::{Conf, Uplink};
use super::cubes::{self, Service};
use super::host_rules;
use super::kernel::{self, Cable};
use super::names::{WAN, uplink_veth};
use super::record::{NetworkState, Records, UplinkState};
use super::rest::Polycubed;
use crate::network::NetworkError;
use crate::network::forwarding::{self, Forwarding};
use crate::network::state::StateDir;
use crate::store::FileLock;

/// Where uplinks get their four addresses from: link-local ones (RFC 3927), which nobody routes. The part is clear of
/// 169.254.169.254, where clouds answer.
const POOL: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 64, 0), 18);
/// The lock under which addresses of uplinks and subnets are chosen.
pub(super) const CHOICE: &str = "choice";

/// Refuses an interface that must stay with the host; touches nothing.
pub(super) fn check(conf: &Conf, state: &NetworkState) -> Result<(), PolycubeError> {
    let Uplink::Netdev { dev, force, .. } = &conf.uplink else { return Ok(()) };
    // Where the router has it already it may not be seen here any more.
    let Some(link) = kernel::look_up(dev.as_str())? else {
        if state.netdev.as_deref() == Some(dev.as_str()) {
            return Ok(());
        }
        return Err(PolycubeError::Configuration(format!("uplink: the host has no interface {dev}")));
    };
    if !force && kernel::default_route_links()?.contains(&link.index) {
        return Err(PolycubeError::Configuration(format!(
            "uplink: {dev} carries the host's default route, and would be lost to the host; name another, use the mode \
             veth, or say `\"force\": true`"
        )));
    }
    if state.netdev.is_none() && link.addresses.is_empty() {
        let reason = format!("uplink: {dev} has no IPv4 address that the router could take over");
        return Err(PolycubeError::Configuration(reason));
    }
    Ok(())
}

/// Makes the uplink, with the router's default route. The record of it is written before anything is made.
pub(super) fn ensure(
    daemon: &Polycubed,
    records: &Records,
    conf: &Conf,
    state: &mut NetworkState,
    run_dir: &Path,
) -> Result<(), PolycubeError> {
    let router = conf.router.name.as_str();
    let gateway = match &conf.uplink {
        Uplink::Netdev { dev, gateway, .. } => {
            state.netdev = Some(dev.to_string());
            records.save(&conf.hash, state)?;
            cubes::ensure_port(daemon, Service::Router, router, WAN, None)?;
            cubes::ensure_peer(daemon, (Service::Router, router, WAN), dev.as_str())?;
            *gateway
        }
        Uplink::Veth { gateway } => {
            let uplink = chosen(records, conf, state, *gateway)?;
            make_pair(daemon, conf, &uplink)?;
            cubes::ensure_port(daemon, Service::Router, router, WAN, None)?;
            cubes::ensure_peer(daemon, (Service::Router, router, WAN), &uplink.router_link)?;
            kernel::disown(&uplink.router_link, uplink.router)?;
            // Records of the bridge networks are looked at when it is switched off again.
            forwarding::enable(&StateDir::open(run_dir)?, Forwarding::V4, &[])?;
            host_rules::apply(run_dir, conf)?;
            uplink.host.ip()
        }
    };
    cubes::ensure_default_route(daemon, router, gateway)
}

/// Returns the address under which the world sees the router.
pub(super) fn external_address(
    daemon: &Polycubed,
    conf: &Conf,
    state: &NetworkState,
) -> Result<Ipv4Addr, PolycubeError> {
    if let Some(uplink) = &state.uplink {
        return Ok(uplink.router.ip());
    }
    let port = cubes::port(daemon, Service::Router, &conf.router.name, WAN)?.unwrap_or_default();
    let address = port.get("ip").and_then(serde_json::Value::as_str).unwrap_or_default();
    let address = address.split('/').next().unwrap_or_default().parse();
    address.map_err(|_| PolycubeError::NoMasquerade(conf.nat.name.clone()))
}

/// Chooses the addresses of the pair, once for the network's life.
fn chosen(
    records: &Records,
    conf: &Conf,
    state: &mut NetworkState,
    gateway: Option<Ipv4Addr>,
) -> Result<UplinkState, PolycubeError> {
    if let Some(uplink) = &state.uplink {
        if gateway.is_some_and(|gateway| gateway != uplink.host.ip()) {
            let reason = format!("uplink.gateway: the network's uplink exists with {}", uplink.host.ip());
            return Err(PolycubeError::Configuration(reason));
        }
        return Ok(uplink.clone());
    }
    let _lock = records.lock(CHOICE)?;
    let others = records.others(&conf.hash)?;
    let taken: Vec<Ipv4Network> =
        others.iter().filter_map(|other| other.uplink.as_ref()).map(|uplink| uplink.host).collect();
    let first = match gateway {
        // The four addresses that the wanted one is of; it may be the second or the third of them.
        Some(gateway) => gateway.to_bits() & !3,
        None => free_place(&conf.hash, &[taken, kernel::host_subnets()?].concat())?,
    };
    let (one, two) = (Ipv4Addr::from_bits(first + 1), Ipv4Addr::from_bits(first + 2));
    let (host, router) = if gateway == Some(two) { (two, one) } else { (one, two) };
    if gateway.is_some_and(|gateway| gateway != host) {
        let reason =
            format!("uplink.gateway: {host} and {router} are the two addresses of this /30 that a link may have");
        return Err(PolycubeError::Configuration(reason));
    }
    let network =
        |address| Ipv4Network::new(address, 30).map_err(|error| PolycubeError::Configuration(error.to_string()));
    let (host_link, router_link) = uplink_veth(&conf.hash);
    let uplink = UplinkState { host_link, router_link, host: network(host)?, router: network(router)? };
    state.uplink = Some(uplink.clone());
    records.save(&conf.hash, state)?;
    Ok(uplink)
}

/// Finds the first of four free addresses, beginning at a place that follows from the network's name: one that comes again mostly
/// gets the same.
fn free_place(hash: &str, taken: &[Ipv4Network]) -> Result<u32, PolycubeError> {
    let (pool, prefix) = POOL;
    let count = 1_u32 << (30 - prefix);
    let start = u32::from_str_radix(hash, 16).unwrap_or_default();
    // A route for all link-local addresses, as of a zeroconf interface, leaves room for longer ones.
    let taken: Vec<_> = taken.iter().filter(|other| other.prefix() > 16).collect();
    let places = (0..count).map(|n| pool.to_bits() + (start.wrapping_add(n) % count) * 4);
    let mut free = places.filter(|place| {
        let candidate = Ipv4Network::new(Ipv4Addr::from_bits(*place), 30);
        candidate.is_ok_and(|candidate| !taken.iter().any(|other| candidate.overlaps(**other)))
    });
    free.next().ok_or_else(|| PolycubeError::Configuration(format!("no free uplink addresses in {pool}/{prefix}")))
}

/// Makes the pair, or keeps the one that is there. Where the router has its end that may be seen here or not; an end of the
/// host's without the other, and no router that has it, is what a restart of polycubed left.
fn make_pair(daemon: &Polycubed, conf: &Conf, uplink: &UplinkState) -> Result<(), PolycubeError> {
    let router = conf.router.name.as_str();
    let is_connected = cubes::peer_of(daemon, Service::Router, router, WAN)? == uplink.router_link;
    let host = kernel::look_up(&uplink.host_link)?;
    let near = kernel::look_up(&uplink.router_link)?;
    if host.is_none() || (near.is_none() && !is_connected) {
        if is_connected {
            // It speaks of an interface that is gone.
            cubes::delete_port(daemon, Service::Router, router, WAN)?;
        }
        kernel::delete(&uplink.host_link)?;
        kernel::delete(&uplink.router_link)?;
        let cable =
            Cable { near: &uplink.host_link, far: &uplink.router_link, far_mac: None, netns: None, mtu: conf.mtu };
        kernel::add_cable(&cable)?.map_err(|source| {
            PolycubeError::from(NetworkError::Netlink {
                operation: format!("make the uplink {}", uplink.host_link),
                source,
            })
        })?;
        kernel::configure(&uplink.router_link, uplink.router)?;
    } else if near.is_some() && !is_connected {
        kernel::configure(&uplink.router_link, uplink.router)?;
    }
    kernel::configure(&uplink.host_link, uplink.host)
}

/// Removes the host's part of an uplink; its rules go when the record says that it is gone.
pub(super) fn remove(conf: &Conf) -> Result<(), PolycubeError> {
    let (host, router) = uplink_veth(&conf.hash);
    kernel::delete(&host)?;
    kernel::delete(&router)
}

/// Switches forwarding off again where we switched it on and nobody of ours needs it any more.
pub(super) fn restore_forwarding(records: &Records, run_dir: &Path) -> Result<(), PolycubeError> {
    let lock = records.lock(CHOICE)?;
    let state = StateDir::open(run_dir)?;
    if records.has_uplinks()? || state.networks()?.iter().any(|network| network.bridge.is_some()) {
        return Ok(());
    }
    let restored = forwarding::restore(&state, Forwarding::V4);
    drop(lock);
    Ok(restored?)
}

/// Removes what lies there of no network; the caller gives its network's lock away.
pub(super) fn tidy(records: &Records, conf: &Conf, lock: FileLock) -> Result<(), PolycubeError> {
    records.tidy(&conf.hash)?;
    drop(lock);
    records.clear(&[CHOICE])
}
