//! ADD: from a namespace to an attachment, each step recorded before it is taken, all of it undone where one fails.

use std::os::fd::{AsFd, BorrowedFd};

use ipnetwork::Ipv4Network;

use super::PolycubeError;
use super::conf::CubeName;
use super::container::{already_there, is_own, open_netns, plug_in};
use super::cubes::{self, Service};
use super::ipam::{self, Given};
use super::kernel;
use super::names::{LAN, TO_ROUTER, WAN, bridge_port, host_veth};
use super::plugin::Session;
use super::record::{AttachmentState, NetworkState, Phase, PublishedEntry, attachment_key};
use super::{forwarding, release, uplink};
use crate::network::cni::{AttachResult, Interface, Operation};

/// Attaches the call's container.
pub(super) fn add(session: &mut Session<'_>) -> Result<AttachResult, PolycubeError> {
    let netns = open_netns(&session.call.netns)?;
    if is_own(netns.as_fd())? {
        return Err(PolycubeError::Environment("CNI_NETNS is the host's own namespace".to_owned()));
    }
    session.daemon.probe()?;
    let (container, ifname) = (session.call.container_id.clone(), session.call.ifname.clone());
    let key = attachment_key(&container, &ifname);
    uplink::check(&session.conf, &session.load()?)?;
    let exists = kernel::look_up_inside(netns.as_fd(), &ifname)?.is_some();
    let lock = session.records.lock(&session.conf.hash)?;
    let mut state = session.load()?;
    match state.attachments.get(&key).map(|attachment| attachment.phase) {
        // A kill left a part; what is in the container is of that part, too.
        Some(Phase::Adding) => release::release(session, &mut state, &key, Some(netns.as_fd()))?,
        Some(Phase::Leaving) => release::release(session, &mut state, &key, None)?,
        Some(Phase::Attached) if !exists => release::release(session, &mut state, &key, None)?,
        Some(Phase::Attached) => return Err(already_there(&ifname)),
        None if exists => return Err(already_there(&ifname)),
        None => {}
    }
    let attachment = AttachmentState { phase: Phase::Adding, container, ifname, address: None, ports: Vec::new() };
    state.attachments.insert(key.clone(), attachment);
    session.save(&state)?;
    let made = build(session, &mut state, &key, netns.as_fd());
    let done = made.and_then(|result| {
        if let Some(attachment) = state.attachments.get_mut(&key) {
            attachment.phase = Phase::Attached;
        }
        session.save(&state).map(|()| result)
    });
    if let Err(error) = &done {
        session.is_reachable &= !error.is_unreachable();
        let undone = release::release(session, &mut state, &key, Some(netns.as_fd()));
        session.warnings.extend(undone.err().map(|second| format!("undo: {second}")));
    }
    if done.is_err() {
        let tidied = uplink::tidy(&session.records, &session.conf, lock);
        session.warnings.extend(tidied.err().map(|second| format!("undo: {second}")));
    }
    done
}

/// Takes the steps in their order.
fn build(
    session: &mut Session<'_>,
    state: &mut NetworkState,
    key: &str,
    netns: BorrowedFd<'_>,
) -> Result<AttachResult, PolycubeError> {
    release::finish_leaving(session, state)?;
    let lan = ipam::lan_address(&session.records, &session.conf, state)?;
    make_network(session, state, lan)?;
    replug(session, state, key)?;
    let (container, ifname) = (session.call.container_id.clone(), session.call.ifname.clone());
    let call = session.call_as(Operation::Add, &container, &ifname);
    let given = ipam::add(&session.conf, &call, session.request, state, lan)?;
    if let Some(attachment) = state.attachments.get_mut(key) {
        attachment.address = Some(given.address.ip());
    }
    session.save(state)?;
    let near = host_veth(&session.conf.network, &container, &ifname);
    plug_in(netns, &near, &ifname, &given, session.conf.mac, session.conf.mtu)?;
    let near_mac = kernel::look_up(&near)?.and_then(|link| link.mac);
    let inner = kernel::look_up_inside(netns, &ifname)?;
    let port = bridge_port(&session.conf.network, &container, &ifname);
    cubes::ensure_plugged(&session.daemon, &session.conf.bridge.name, &port, &near)?;
    publish(session, state, key, &given)?;
    let mut result = session.request.previous.clone().unwrap_or_default();
    let mtu = inner.as_ref().and_then(|link| link.mtu);
    result.interfaces.push(Interface { name: near, mac: near_mac, mtu, ..Interface::default() });
    result.interfaces.push(Interface {
        name: ifname,
        mac: inner.and_then(|link| link.mac),
        mtu,
        sandbox: Some(session.call.netns.clone()),
        ..Interface::default()
    });
    let index = result.interfaces.len() - 1;
    let before = result.dns.clone();
    ipam::into_result(&given, index, &mut result);
    if result.dns == crate::network::cni::Dns::default() {
        result.dns = before;
    }
    Ok(result)
}

/// Makes sure of what all attachments of the network share: bridge, router, uplink, nat.
fn make_network(session: &Session<'_>, state: &mut NetworkState, lan: Ipv4Network) -> Result<(), PolycubeError> {
    let Session { daemon, conf, .. } = session;
    ensure_cube(session, state, Service::Bridge, &conf.bridge)?;
    cubes::ensure_port(daemon, Service::Bridge, &conf.bridge.name, &to_router(session), None)?;
    ensure_cube(session, state, Service::Router, &conf.router)?;
    let lan_port = lan_port(session);
    cubes::ensure_port(daemon, Service::Router, &conf.router.name, &lan_port, Some(lan))?;
    let near = (Service::Router, conf.router.name.as_str(), lan_port.as_str());
    let to_router = to_router(session);
    cubes::ensure_link(daemon, near, (Service::Bridge, &conf.bridge.name, &to_router))?;
    if has_foreign_uplink(session, state)? {
        return Ok(());
    }
    uplink::ensure(daemon, &session.records, conf, state, &session.run_dir)?;
    if !conf.masquerade && conf.ports.is_empty() {
        return Ok(());
    }
    ensure_nat(session, state)
}

/// Makes sure of the nat cube with the entries of all attachments that are whole. While it is made the record says that it may lack
/// some.
pub(super) fn ensure_nat(session: &Session<'_>, state: &mut NetworkState) -> Result<(), PolycubeError> {
    let Session { daemon, conf, .. } = session;
    let (nat, router) = (conf.nat.name.as_str(), conf.router.name.as_str());
    let publishes = |state: &NetworkState| state.live().any(|attachment| !attachment.ports.is_empty());
    if state.nat_is_doubtful && !state.foreign.contains(&conf.nat.name) {
        cubes::detach(daemon, nat, router, WAN)?;
        cubes::delete_cube(daemon, Service::Nat, nat)?;
    } else if publishes(state) && daemon.get(&Service::Nat.path(nat))?.is_none() {
        state.nat_is_doubtful = true;
        session.save(state)?;
    }
    ensure_cube(session, state, Service::Nat, &conf.nat)?;
    cubes::ensure_attached(daemon, nat, router, WAN)?;
    if conf.masquerade {
        cubes::ensure_masquerade(daemon, nat)?;
    }
    if !state.nat_is_doubtful {
        return Ok(());
    }
    for attachment in state.attachments.values_mut().filter(|attachment| attachment.phase == Phase::Attached) {
        let Some(address) = attachment.address else { continue };
        for entry in &mut attachment.ports {
            forwarding::ensure(daemon, nat, entry, address)?;
        }
    }
    state.nat_is_doubtful = false;
    session.save(state)
}

/// Says whether the router was there before us, with an uplink of its own.
fn has_foreign_uplink(session: &Session<'_>, state: &NetworkState) -> Result<bool, PolycubeError> {
    let router = &session.conf.router.name;
    if !state.foreign.contains(router) || state.uplink.is_some() || state.netdev.is_some() {
        return Ok(false);
    }
    Ok(!cubes::peer_of(&session.daemon, Service::Router, router, WAN)?.is_empty())
}

/// Names the router's port to this network's bridge: one that people chose may have several networks.
pub(super) fn lan_port(session: &Session<'_>) -> String {
    named(session, &session.conf.router, LAN)
}

/// Names the bridge's port to this network's router.
pub(super) fn to_router(session: &Session<'_>) -> String {
    named(session, &session.conf.bridge, TO_ROUTER)
}

fn named(session: &Session<'_>, cube: &CubeName, port: &str) -> String {
    if cube.is_auto { port.to_owned() } else { format!("{port}-{}", session.conf.hash) }
}

/// Makes sure of a cube. One that people named, and that was there before the network, is written down as theirs.
fn ensure_cube(
    session: &Session<'_>,
    state: &mut NetworkState,
    service: Service,
    cube: &CubeName,
) -> Result<(), PolycubeError> {
    let is_known = state.foreign.contains(&cube.name) || state.made.contains(&cube.name);
    if !cube.is_auto && !is_known {
        let is_there = session.daemon.get(&service.path(&cube.name))?.is_some();
        if is_there { &mut state.foreign } else { &mut state.made }.push(cube.name.clone());
        session.save(state)?;
    }
    cubes::ensure_cube(&session.daemon, service, &cube.name).map(drop)
}

/// Plugs in again what a restart of polycubed has unplugged: the network's other containers, as far as their pairs are there.
fn replug(session: &Session<'_>, state: &mut NetworkState, own: &str) -> Result<(), PolycubeError> {
    let bridge = &session.conf.bridge.name;
    let ports = cubes::ports(&session.daemon, Service::Bridge, bridge)?.unwrap_or_default();
    let mut others: Vec<_> = state.attachments.iter_mut().collect();
    others.retain(|(key, attachment)| *key != own && attachment.phase == Phase::Attached);
    for (_, attachment) in others {
        let port = bridge_port(&session.conf.network, &attachment.container, &attachment.ifname);
        let near = host_veth(&session.conf.network, &attachment.container, &attachment.ifname);
        if ports.contains(&port) || kernel::look_up(&near)?.is_none() {
            continue;
        }
        cubes::ensure_plugged(&session.daemon, bridge, &port, &near)?;
        let Some(address) = attachment.address else { continue };
        for entry in &mut attachment.ports {
            forwarding::ensure(&session.daemon, &session.conf.nat.name, entry, address)?;
        }
    }
    Ok(())
}

/// Publishes the ports; they are written down before the nat cube is told of them.
fn publish(session: &Session<'_>, state: &mut NetworkState, key: &str, given: &Given) -> Result<(), PolycubeError> {
    if session.conf.ports.is_empty() {
        return Ok(());
    }
    let external = uplink::external_address(&session.daemon, &session.conf, state)?;
    let mut entries: Vec<PublishedEntry> = Vec::new();
    for port in &session.conf.ports {
        let mut entry = PublishedEntry { port: port.clone(), external, id: None };
        note(state, key, &entries, Some(&entry));
        session.save(state)?;
        let made = forwarding::ensure(&session.daemon, &session.conf.nat.name, &mut entry, given.address.ip());
        if made.as_ref().is_err_and(|error| !error.is_unreachable()) {
            // It was refused, so there is none of ours.
            note(state, key, &entries, None);
        }
        made?;
        entries.push(entry);
    }
    note(state, key, &entries, None);
    session.save(state)?;
    if state.uplink.is_some() {
        super::host_rules::apply(&session.run_dir, &session.conf)?;
    }
    Ok(())
}

fn note(state: &mut NetworkState, key: &str, entries: &[PublishedEntry], next: Option<&PublishedEntry>) {
    if let Some(attachment) = state.attachments.get_mut(key) {
        attachment.ports = entries.iter().chain(next).cloned().collect();
    }
}
