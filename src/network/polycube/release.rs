//! DEL and GC, and what undoes a failed ADD: everything in reverse, what is gone already is fine, and one error does not keep
//! the rest from going.

use std::os::fd::{AsFd, BorrowedFd};

use super::PolycubeError;
use super::add::{ensure_nat, lan_port, to_router};
use super::conf::Uplink;
use super::container::open_netns;
use super::cubes::{self, Service};
use super::kernel;
use super::names::{WAN, bridge_port, host_veth};
use super::plugin::Session;
use super::record::{AttachmentState, NetworkState, Phase, attachment_key};
use super::rest::peers;
use super::{forwarding, host_rules, ipam, uplink};
use crate::namespaces::network::in_namespace;
use crate::network::cni::{Operation, ValidAttachment};

/// Takes the call's container off.
pub(super) fn del(session: &mut Session<'_>) -> Result<(), PolycubeError> {
    probe(session)?;
    let key = attachment_key(&session.call.container_id, &session.call.ifname);
    let lock = session.records.lock(&session.conf.hash)?;
    let mut state = session.load()?;
    // The namespace may be gone, and its interface with it.
    let netns = open_netns(&session.call.netns).ok();
    let known = state.attachments.contains_key(&key) || has_made(session);
    let inside = netns.as_ref().filter(|_| known).map(AsFd::as_fd);
    let done = release(session, &mut state, &key, inside);
    let tidied = uplink::tidy(&session.records, &session.conf, lock);
    tell_of_delay(session);
    done.and(tidied)
}

/// Finds and removes attachments that the runtime no longer has, and finishes what a DEL had to leave.
pub(super) fn gc(session: &mut Session<'_>) -> Result<(), PolycubeError> {
    probe(session)?;
    let lock = session.records.lock(&session.conf.hash)?;
    let mut state = session.load()?;
    let is_valid = |attachment: &AttachmentState| {
        let named = ValidAttachment { container_id: attachment.container.clone(), ifname: attachment.ifname.clone() };
        attachment.phase != Phase::Leaving && session.request.valid_attachments.contains(&named)
    };
    let stale: Vec<String> =
        state.attachments.iter().filter(|(_, attachment)| !is_valid(attachment)).map(|(key, _)| key.clone()).collect();
    let mut first = Ok(());
    let had_none = state.attachments.is_empty();
    for key in stale {
        let done = release(session, &mut state, &key, None);
        first = first.and(done);
    }
    // What a kill left between the last attachment and the network.
    if had_none && session.is_reachable {
        first = first.and(tear_down_unused(session, &mut state));
    }
    let tidied = uplink::tidy(&session.records, &session.conf, lock);
    tell_of_delay(session);
    first.and(tidied)
}

/// Asks whether polycubed is there; that it is not is no reason to keep what is not its own.
fn probe(session: &mut Session<'_>) -> Result<(), PolycubeError> {
    match session.daemon.probe() {
        Err(error) if error.is_unreachable() => {
            session.is_reachable = false;
            Ok(())
        }
        other => other,
    }
}

fn tell_of_delay(session: &mut Session<'_>) {
    if !session.is_reachable {
        let url = &session.conf.url;
        session.warnings.push(format!(
            "polycubed at {url} does not answer: address and interface are released, its cubes are left for GC or the next ADD"
        ));
    }
}

/// Says whether the runtime's result names an interface that we made: with the record lost it is how we know it.
fn has_made(session: &Session<'_>) -> bool {
    let near = host_veth(&session.conf.network, &session.call.container_id, &session.call.ifname);
    let previous = session.request.previous.as_ref();
    previous.is_some_and(|result| result.interfaces.iter().any(|interface| interface.name == near))
}

/// Removes what DELs left for polycubed while it was away.
pub(super) fn finish_leaving(session: &mut Session<'_>, state: &mut NetworkState) -> Result<(), PolycubeError> {
    let leaving = state.attachments.iter().filter(|(_, attachment)| attachment.phase == Phase::Leaving);
    for key in leaving.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
        unplug(session, state, &key)?;
        state.attachments.remove(&key);
        session.save(state)?;
    }
    Ok(())
}

/// Removes one attachment, and the network where it was the last. `inside` is the container's namespace where the interface in
/// it is ours.
pub(super) fn release(
    session: &mut Session<'_>,
    state: &mut NetworkState,
    key: &str,
    inside: Option<BorrowedFd<'_>>,
) -> Result<(), PolycubeError> {
    let (container, ifname) = key.split_once('/').unwrap_or((key, ""));
    let was_published = state.attachments.get(key).is_some_and(|attachment| !attachment.ports.is_empty());
    let at_daemon = at_daemon(session, |session| unplug(session, state, key));
    let call = session.call_as(Operation::Del, container, ifname);
    let address = ipam::remove(&session.conf, &call, session.request);
    let near = host_veth(&session.conf.network, container, ifname);
    let pair = kernel::delete(&near).and_then(|()| match inside {
        Some(netns) => in_namespace(netns, || kernel::delete(ifname))?,
        None => Ok(()),
    });
    let is_done = at_daemon.is_ok() && address.is_ok() && pair.is_ok();
    if is_done && session.is_reachable {
        state.attachments.remove(key);
    } else if let Some(attachment) = state.attachments.get_mut(key) {
        attachment.phase = Phase::Leaving;
    }
    let is_known = !state.attachments.is_empty() || state.uplink.is_some() || state.netdev.is_some();
    let saved = if is_known { session.save(state) } else { Ok(()) };
    let rules = if was_published && state.uplink.is_some() {
        host_rules::apply(&session.run_dir, &session.conf)
    } else {
        Ok(())
    };
    let network = at_daemon_or_later(session, state);
    at_daemon.and(address).and(pair).and(saved).and(rules).and(network)
}

/// Does polycubed's part, if polycubed is there. That it goes away meanwhile is no error: it is done later.
fn at_daemon(
    session: &mut Session<'_>,
    work: impl FnOnce(&Session<'_>) -> Result<(), PolycubeError>,
) -> Result<(), PolycubeError> {
    if !session.is_reachable {
        return Ok(());
    }
    match work(session) {
        Err(error) if error.is_unreachable() => {
            session.is_reachable = false;
            Ok(())
        }
        other => other,
    }
}

fn at_daemon_or_later(session: &mut Session<'_>, state: &mut NetworkState) -> Result<(), PolycubeError> {
    if state.live().next().is_some() {
        return Ok(());
    }
    if !session.is_reachable {
        return leave_host(session, state);
    }
    match tear_down_unused(session, state) {
        Err(error) if error.is_unreachable() => {
            session.is_reachable = false;
            Ok(())
        }
        other => other,
    }
}

/// Takes away what is the host's own of a network that nobody uses: only the cubes wait for polycubed.
fn leave_host(session: &Session<'_>, state: &mut NetworkState) -> Result<(), PolycubeError> {
    if state.uplink.is_none() {
        return Ok(());
    }
    uplink::remove(&session.conf)?;
    state.uplink = None;
    session.save(state)?;
    host_rules::apply(&session.run_dir, &session.conf)?;
    uplink::restore_forwarding(&session.records, &session.run_dir)
}

/// Removes an attachment's published ports and its port.
fn unplug(session: &Session<'_>, state: &mut NetworkState, key: &str) -> Result<(), PolycubeError> {
    let (container, ifname) = key.split_once('/').unwrap_or((key, ""));
    let entries = match state.attachments.get(key) {
        Some(known) => forwarding::remove(&session.daemon, &session.conf.nat.name, &known.ports, known.address),
        None => Ok(true),
    };
    let is_last = state.live().all(|other| (other.container.as_str(), other.ifname.as_str()) == (container, ifname));
    let entries = match entries {
        // With the last one the nat cube goes anyway.
        Ok(false) if !is_last => {
            state.nat_is_doubtful = true;
            if let Some(leaving) = state.attachments.get_mut(key) {
                leaving.ports.clear();
            }
            session.save(state).and_then(|()| ensure_nat(session, state))
        }
        other => other.map(drop),
    };
    let port = bridge_port(&session.conf.network, container, ifname);
    let plugged = cubes::delete_port(&session.daemon, Service::Bridge, &session.conf.bridge.name, &port);
    entries.and(plugged)
}

/// Removes the network where nobody is attached any more: neither by the record nor by the bridge's ports.
fn tear_down_unused(session: &mut Session<'_>, state: &mut NetworkState) -> Result<(), PolycubeError> {
    let ports = cubes::ports(&session.daemon, Service::Bridge, &session.conf.bridge.name)?.unwrap_or_default();
    let own = to_router(session);
    let bridge_is_theirs = state.foreign.contains(&session.conf.bridge.name);
    if !bridge_is_theirs && ports.iter().any(|port| *port != own) {
        return Ok(());
    }
    for attachment in state.live() {
        let near = host_veth(&session.conf.network, &attachment.container, &attachment.ifname);
        if kernel::look_up(&near)?.is_some() {
            return Ok(());
        }
    }
    let cubes = remove_cubes(session, state);
    // The router must have let go of its end first.
    let links = uplink::remove(&session.conf);
    let had_rules = state.uplink.is_some();
    cubes.and(links)?;
    if state.attachments.is_empty() {
        session.records.forget(&session.conf.hash)?;
        *state = NetworkState::of(&session.conf.network);
    } else {
        state.uplink = None;
        state.netdev = None;
        session.save(state)?;
    }
    if had_rules {
        host_rules::apply(&session.run_dir, &session.conf)?;
    }
    uplink::restore_forwarding(&session.records, &session.run_dir)
}

/// In reverse: nat detached, nat, router, bridge. Of cubes that people made only our ports go.
fn remove_cubes(session: &Session<'_>, state: &NetworkState) -> Result<(), PolycubeError> {
    let Session { daemon, conf, .. } = session;
    let is_theirs = |name: &String| state.foreign.contains(name);
    let nat = &conf.nat.name;
    let mut first = Ok(());
    let router_is_theirs = is_theirs(&conf.router.name);
    let has_uplink = !router_is_theirs || state.uplink.is_some() || state.netdev.is_some();
    if has_uplink {
        first = first.and(cubes::detach(daemon, nat, &conf.router.name, WAN));
    }
    if !is_theirs(nat) {
        first = first.and(cubes::delete_cube(daemon, Service::Nat, nat));
    }
    let dev = match &conf.uplink {
        Uplink::Netdev { dev, .. } => Some(dev.to_string()),
        Uplink::Veth { .. } => state.netdev.clone(),
    };
    if let Some(dev) = dev.filter(|_| has_uplink) {
        first = first.and(give_back(session, &dev));
    }
    let others = cubes::ports(daemon, Service::Router, &conf.router.name)?.unwrap_or_default();
    let ours = [lan_port(session), WAN.to_owned()];
    if router_is_theirs || others.iter().any(|port| !ours.contains(port)) {
        first = first.and(cubes::delete_port(daemon, Service::Router, &conf.router.name, &ours[0]));
        if router_is_theirs && has_uplink {
            first = first.and(cubes::delete_port(daemon, Service::Router, &conf.router.name, WAN));
        }
    } else {
        first = first.and(cubes::delete_cube(daemon, Service::Router, &conf.router.name));
    }
    first.and(if is_theirs(&conf.bridge.name) {
        cubes::delete_port(daemon, Service::Bridge, &conf.bridge.name, &to_router(session))
    } else {
        cubes::delete_cube(daemon, Service::Bridge, &conf.bridge.name)
    })
}

/// Gives an interface of the host's back before the router goes: it is not ours to lose.
fn give_back(session: &Session<'_>, dev: &str) -> Result<(), PolycubeError> {
    let router = &session.conf.router.name;
    if cubes::peer_of(&session.daemon, Service::Router, router, WAN)? != dev {
        return Ok(());
    }
    session.daemon.undo("disconnect", &peers(&format!("{router}:{WAN}"), dev))
}
