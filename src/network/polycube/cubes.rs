//! Cubes, ports, links and rules: looked at first, and changed only where they are not as they should be.

use ipnetwork::Ipv4Network;
use serde_json::{Value, json};

use super::PolycubeError;
use super::names::path_element;
use super::rest::{Polycubed, peers};

/// Names the three services that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Bridge,
    Router,
    Nat,
}

impl Service {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "simplebridge",
            Self::Router => "router",
            Self::Nat => "nat",
        }
    }

    /// Returns the path of a cube.
    pub(super) fn path(self, cube: &str) -> String {
        format!("{}/{}/", self.as_str(), path_element(cube))
    }

    fn port_path(self, cube: &str, port: &str) -> String {
        format!("{}ports/{}/", self.path(cube), path_element(port))
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn conflict(object: String, found: impl Into<String>, wanted: impl Into<String>) -> PolycubeError {
    let found: String = found.into();
    let found = if found.is_empty() { "nothing".to_owned() } else { found };
    PolycubeError::Conflict { object, found, wanted: wanted.into() }
}

/// Makes sure that a cube is there; `false` where it was before. Names are of all services: whose it is, is looked at.
pub(super) fn ensure_cube(daemon: &Polycubed, service: Service, name: &str) -> Result<bool, PolycubeError> {
    let is_ours = |cube: &Value| match text(cube, "service-name") {
        found if found == service.as_str() => Ok(false),
        found => Err(conflict(format!("the cube {name}"), found, service.as_str())),
    };
    if let Some(cube) = daemon.get(&service.path(name))? {
        // Whoever says nothing of the service has answered for this one.
        return if cube.get("service-name").is_some() { is_ours(&cube) } else { Ok(false) };
    }
    let answer = daemon.post(&service.path(name), &json!({}))?;
    if answer.is_good() {
        return Ok(true);
    }
    if !answer.is_existing() {
        return Err(answer.refusal());
    }
    is_ours(&cube(daemon, name)?)
}

/// Reads a cube whose service is not known; null where there is none.
fn cube(daemon: &Polycubed, name: &str) -> Result<Value, PolycubeError> {
    let found = daemon.get(&format!("cubes/{}", path_element(name)))?.unwrap_or_default();
    // By itself, or as in the list of all: under its service, in an array.
    let listed = found.as_object().into_iter().flatten().find_map(|(service, cubes)| {
        let mut cube = cubes.as_array()?.iter().find(|cube| text(cube, "name") == name)?.clone();
        cube.as_object_mut()?.entry("service-name").or_insert_with(|| json!(service));
        Some(cube)
    });
    Ok(if found.get("service-name").is_some() { found } else { listed.unwrap_or(found) })
}

/// Deletes a cube.
pub(super) fn delete_cube(daemon: &Polycubed, service: Service, name: &str) -> Result<(), PolycubeError> {
    daemon.delete(&service.path(name))
}

/// Reads a port.
pub(super) fn port(
    daemon: &Polycubed,
    service: Service,
    cube: &str,
    port: &str,
) -> Result<Option<Value>, PolycubeError> {
    daemon.get(&service.port_path(cube, port))
}

/// Deletes a port.
pub(super) fn delete_port(daemon: &Polycubed, service: Service, cube: &str, port: &str) -> Result<(), PolycubeError> {
    daemon.delete(&service.port_path(cube, port))
}

/// Lists the ports of a cube; `None` where there is no such cube.
pub(super) fn ports(daemon: &Polycubed, service: Service, cube: &str) -> Result<Option<Vec<String>>, PolycubeError> {
    let Some(found) = daemon.get(&service.path(cube))? else { return Ok(None) };
    let listed = match found.get("ports") {
        Some(ports) => ports.clone(),
        // What a service tells of its cube may leave out what the list of cubes has.
        None => self::cube(daemon, cube)?.get("ports").cloned().unwrap_or_default(),
    };
    let names = listed.as_array().cloned().unwrap_or_default();
    Ok(Some(names.iter().map(|port| port.as_str().unwrap_or_else(|| text(port, "name")).to_owned()).collect()))
}

/// Makes sure that a port is there, with this address if one is given.
pub(super) fn ensure_port(
    daemon: &Polycubed,
    service: Service,
    cube: &str,
    name: &str,
    address: Option<Ipv4Network>,
) -> Result<Value, PolycubeError> {
    let body = address.map_or_else(|| json!({}), |address| json!({"ip": address.to_string()}));
    let found = match port(daemon, service, cube, name)? {
        Some(found) => found,
        None => {
            let answer = daemon.post(&service.port_path(cube, name), &body)?;
            if answer.is_good() {
                return Ok(body);
            }
            if !answer.is_existing() {
                return Err(answer.refusal());
            }
            port(daemon, service, cube, name)?.ok_or_else(|| answer.refusal())?
        }
    };
    match address {
        Some(address) if text(&found, "ip").parse::<Ipv4Network>().ok() != Some(address) => {
            Err(conflict(format!("the port {cube}:{name}"), text(&found, "ip"), address.to_string()))
        }
        _ => Ok(found),
    }
}

/// Makes sure that two ports are each other's peers. One that names nobody, or names ours alone, is connected; one that names
/// somebody else is somebody's.
pub(super) fn ensure_link(
    daemon: &Polycubed,
    one: (Service, &str, &str),
    other: (Service, &str, &str),
) -> Result<(), PolycubeError> {
    let name = |(_, cube, port): (Service, &str, &str)| format!("{cube}:{port}");
    let peer = |(service, cube, name): (Service, &str, &str)| {
        let found = port(daemon, service, cube, name)?.unwrap_or_default();
        Ok::<_, PolycubeError>(text(&found, "peer").to_owned())
    };
    let (first, second) = (name(one), name(other));
    // Whether each end names the other; one that names somebody else is an error.
    let look = || {
        let found = (peer(one)?, peer(other)?);
        for (object, found, wanted) in [(&first, &found.0, &second), (&second, &found.1, &first)] {
            if !found.is_empty() && found != wanted {
                return Err(conflict(format!("the port {object}"), found.as_str(), wanted.as_str()));
            }
        }
        Ok((!found.0.is_empty(), !found.1.is_empty()))
    };
    match look()? {
        (true, true) => return Ok(()),
        (false, false) => {}
        // Half of a link carries nothing and is in the way of the whole: the end that names the other has to forget it.
        (true, false) => daemon.undo("disconnect", &peers(&first, &second))?,
        (false, true) => daemon.undo("disconnect", &peers(&second, &first))?,
    }
    let answer = daemon.post("connect", &peers(&first, &second))?;
    if answer.is_good() || (answer.says("already has a peer") && look()? == (true, true)) {
        return Ok(());
    }
    Err(answer.refusal())
}

/// Makes sure that a port is connected to an interface of the host's.
pub(super) fn ensure_peer(
    daemon: &Polycubed,
    (service, cube, name): (Service, &str, &str),
    interface: &str,
) -> Result<(), PolycubeError> {
    let found = port(daemon, service, cube, name)?.unwrap_or_default();
    match text(&found, "peer") {
        found if found == interface => Ok(()),
        "" => daemon.post_good("connect", &peers(&format!("{cube}:{name}"), interface)).map(drop),
        found => Err(conflict(format!("the port {cube}:{name}"), found, interface)),
    }
}

/// Reads which interface or port a port is connected to; empty where to none.
pub(super) fn peer_of(daemon: &Polycubed, service: Service, cube: &str, name: &str) -> Result<String, PolycubeError> {
    Ok(text(&port(daemon, service, cube, name)?.unwrap_or_default(), "peer").to_owned())
}

/// Makes sure that a container's port is there, connected to its host interface. A port of this name belongs to this attachment
/// alone, so one with another peer is left over.
pub(super) fn ensure_plugged(daemon: &Polycubed, bridge: &str, name: &str, veth: &str) -> Result<(), PolycubeError> {
    if let Some(found) = port(daemon, Service::Bridge, bridge, name)? {
        if text(&found, "peer") == veth {
            return Ok(());
        }
        delete_port(daemon, Service::Bridge, bridge, name)?;
    }
    daemon.post_good(&Service::Bridge.port_path(bridge, name), &json!({"peer": veth})).map(drop)
}

/// Makes sure that a router has this default route, and no other.
pub(super) fn ensure_default_route(
    daemon: &Polycubed,
    router: &str,
    via: std::net::Ipv4Addr,
) -> Result<(), PolycubeError> {
    const EVERYWHERE: &str = "0.0.0.0/0";
    let table = format!("{}route/", Service::Router.path(router));
    let path = |via: &str| format!("{table}{}/{}/", path_element(EVERYWHERE), path_element(via));
    let found = daemon.get(&table)?.unwrap_or_default();
    let found = found.get("route").cloned().unwrap_or(found);
    let defaults = found.as_array().cloned().unwrap_or_default();
    let hops = defaults.iter().filter(|route| text(route, "network") == EVERYWHERE).map(|route| text(route, "nexthop"));
    let mut is_there = false;
    for hop in hops {
        match hop {
            "local" | "" => {}
            hop if hop == via.to_string() => is_there = true,
            stale => daemon.delete(&path(stale))?,
        }
    }
    if is_there {
        return Ok(());
    }
    let answer = daemon.post(&path(&via.to_string()), &json!({}))?;
    if answer.is_good() || answer.is_existing() { Ok(()) } else { Err(answer.refusal()) }
}

/// Makes sure that a nat cube is attached to a port.
pub(super) fn ensure_attached(daemon: &Polycubed, nat: &str, router: &str, name: &str) -> Result<(), PolycubeError> {
    let place = format!("{router}:{name}");
    if is_attached(daemon, nat, router, name)? {
        return Ok(());
    }
    let answer = daemon.post("attach", &json!({"cube": nat, "port": place}))?;
    // That it is attached elsewhere would have been seen, and said: what shows no place is attached to this one.
    if answer.is_good() || answer.says("already attached") {
        return Ok(());
    }
    Err(answer.refusal())
}

/// Says whether a nat cube is attached to a port; one that is attached elsewhere is somebody's.
fn is_attached(daemon: &Polycubed, nat: &str, router: &str, name: &str) -> Result<bool, PolycubeError> {
    let place = format!("{router}:{name}");
    let found = port(daemon, Service::Router, router, name)?.unwrap_or_default();
    let cubes = found.get("tcubes").and_then(Value::as_array).cloned().unwrap_or_default();
    if cubes.iter().any(|cube| cube.as_str() == Some(nat) || text(cube, "name") == nat) {
        return Ok(true);
    }
    match text(&cube(daemon, nat)?, "parent") {
        "" => Ok(false),
        parent if parent == place => Ok(true),
        parent => Err(conflict(format!("the cube {nat}"), format!("attached to {parent}"), place)),
    }
}

/// Detaches a nat cube; that it is attached nowhere is fine.
pub(super) fn detach(daemon: &Polycubed, nat: &str, router: &str, name: &str) -> Result<(), PolycubeError> {
    if port(daemon, Service::Router, router, name)?.is_none() || daemon.get(&Service::Nat.path(nat))?.is_none() {
        return Ok(());
    }
    if !is_attached(daemon, nat, router, name).unwrap_or(false) {
        return Ok(());
    }
    daemon.undo("detach", &json!({"cube": nat, "port": format!("{router}:{name}")}))
}

/// Says whether a nat cube masquerades.
pub(super) fn masquerades(daemon: &Polycubed, nat: &str) -> Result<bool, PolycubeError> {
    let found = daemon.get(&format!("{}rule/masquerade/", Service::Nat.path(nat)))?.unwrap_or_default();
    Ok(found.get("enabled").and_then(Value::as_bool) == Some(true))
}

/// Makes sure that a nat cube masquerades. polycubed answers 201 even where it cannot; only `true` in the body says that it does.
pub(super) fn ensure_masquerade(daemon: &Polycubed, nat: &str) -> Result<(), PolycubeError> {
    if masquerades(daemon, nat)? {
        return Ok(());
    }
    let path = format!("{}rule/masquerade/enable/", Service::Nat.path(nat));
    let answer = daemon.post_good(&path, &json!({}))?;
    match answer.get("result").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(PolycubeError::NoMasquerade(nat.to_owned())),
    }
}
