//! What polycubed knows and answers, endpoint by endpoint.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use ipnetwork::Ipv4Network;
use serde_json::{Map, Value, json};

use super::http::{Request, Response};
use super::wiring::{self, Entry};

const ROOT: &str = "/polycube/v1/";

/// One port of a cube.
struct Port {
    /// The interface in the cube's namespace, where it is connected to a cube.
    link: String,
    ip: Option<Ipv4Network>,
    peer: Option<String>,
    /// Whether the peer is an interface of the host's, which stands in the cube now.
    has_netdev: bool,
}

/// One cube.
struct Cube {
    service: String,
    netns: Option<OwnedFd>,
    ports: BTreeMap<String, Port>,
    routes: Vec<(Ipv4Network, Ipv4Addr)>,
    /// Of a nat cube: the port it is attached to.
    parent: Option<String>,
    masquerades: bool,
    entries: Vec<Entry>,
}

/// All of them.
pub(super) struct Cubes {
    host: OwnedFd,
    cubes: BTreeMap<String, Cube>,
    /// Names interfaces and numbers entries.
    next: u64,
    /// Whether a nat cube is told of with its rules, and counts its entries anew when one goes, as the real one.
    pub(super) lists_entries: bool,
    /// Requests that the contract promises nothing of.
    pub(super) violations: Vec<String>,
}

type Answered = Result<Response, Response>;

fn error(status: u16, tag: &str, info: &str) -> Response {
    let error = json!({"error-type": "application", "error-tag": tag, "error-info": info});
    Response::json(status, json!({"ietf-restconf:errors": {"error": [error]}}))
}

fn thrown(words: impl Into<String>) -> Response {
    Response::plain(500, &words.into())
}

fn bad(words: impl Into<String>) -> Response {
    Response::plain(400, &words.into())
}

fn missing() -> Response {
    error(409, "data-missing", "")
}

fn unescape(element: &str) -> String {
    let bytes = element.as_bytes();
    let mut text = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = element.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                text.push(byte);
                at += 3;
            }
            (byte, _) => {
                text.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads a body whose keys must be among `known`.
fn object(body: &str, known: &[&str]) -> Result<Map<String, Value>, Response> {
    let object: Map<String, Value> = serde_json::from_str(body).map_err(|_| error(400, "malformed-message", body))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(error(400, "bad-element", key)),
        None => Ok(object),
    }
}

fn parsed<T: std::str::FromStr>(object: &Map<String, Value>, key: &str) -> Result<Option<T>, Response> {
    let Some(value) = object.get(key) else { return Ok(None) };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().map(Some).map_err(|_| error(400, "invalid-value", key))
}

fn needed<T: std::str::FromStr>(object: &Map<String, Value>, key: &str) -> Result<T, Response> {
    parsed(object, key)?.ok_or_else(|| error(400, "missing-attribute", key))
}

impl Cubes {
    pub(super) fn new(host: OwnedFd) -> Self {
        Self { host, cubes: BTreeMap::new(), next: 1, lists_entries: true, violations: Vec::new() }
    }

    pub(super) fn host(&self) -> OwnedFd {
        self.host.try_clone().expect("a descriptor")
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.cubes.iter().map(|(name, cube)| format!("{} {name}", cube.service)).collect()
    }

    pub(super) fn port_names(&self, cube: &str) -> Vec<String> {
        self.cubes.get(cube).map(|cube| cube.ports.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn entries(&self) -> usize {
        self.cubes.values().map(|cube| cube.entries.len()).sum()
    }

    /// Gives all interfaces back and forgets everything.
    pub(super) fn lose_all(&mut self) {
        for name in self.cubes.keys().cloned().collect::<Vec<_>>() {
            self.remove_cube(&name);
        }
    }

    /// Answers one request, and notes it where the contract does not have it.
    pub(super) fn answer(&mut self, request: &Request) -> Response {
        let answer = self.answer_any(request);
        let unknown = answer.status == 405 || (answer.status == 404 && !answer.body.contains("No cube found"));
        let path = request.path.split('?').next().unwrap_or_default();
        let of_service =
            ["simplebridge/", "router/", "nat/"].iter().any(|service| path.contains(&format!("{ROOT}{service}")));
        let wrong = [
            ("no such request", unknown),
            ("no slash at the end", of_service && !path.ends_with('/')),
            ("a slash too many", path.contains("//")),
            ("a body where none belongs", request.method != "POST" && !request.body.is_empty()),
            ("no body", request.method == "POST" && !request.body.starts_with('{')),
            ("no JSON", request.method == "POST" && request.content_type.as_deref() != Some("application/json")),
        ];
        for (words, _) in wrong.iter().filter(|(_, is_so)| *is_so) {
            self.violations.push(format!("{} {}: {words}", request.method, request.path));
        }
        answer
    }

    fn answer_any(&mut self, request: &Request) -> Response {
        let path = request.path.split('?').next().unwrap_or_default();
        let Some(below) = path.strip_prefix(ROOT) else {
            return Response::plain(404, "Could not find a matching route");
        };
        let parts: Vec<String> = below.split('/').filter(|part| !part.is_empty()).map(unescape).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let answered = match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["version"]) => Ok(Response::json(200, json!({"polycubed": {"version": "stand-in"}}))),
            ("GET", ["cubes"]) => Ok(Response::json(200, self.all_cubes())),
            ("GET", ["cubes", name]) => self.cube_object(name).map(|cube| Response::json(200, cube)),
            ("POST", ["connect"]) => self.connect(&request.body),
            ("POST", ["disconnect"]) => self.disconnect(&request.body),
            ("POST", ["attach"]) => self.attach(&request.body),
            ("POST", ["detach"]) => self.detach(&request.body),
            (method, [service @ ("simplebridge" | "router" | "nat"), name, rest @ ..]) => {
                self.of_cube(method, service, name, rest, &request.body)
            }
            (_, [name, ..]) => self.elsewhere(name, below, request.has_referer),
            _ => Err(Response::plain(404, "Could not find a matching route")),
        };
        answered.unwrap_or_else(|refused| refused)
    }

    /// Sends a client that named a cube without its service to the right place.
    fn elsewhere(&self, name: &str, below: &str, has_referer: bool) -> Answered {
        match self.cubes.get(name) {
            Some(cube) if !has_referer => Ok(Response::redirect(&format!("{ROOT}{}/{below}", cube.service))),
            _ => Err(Response::plain(404, &format!("No cube found named {name}"))),
        }
    }

    fn of_cube(&mut self, method: &str, service: &str, name: &str, rest: &[&str], body: &str) -> Answered {
        let is_there = self.cubes.get(name).is_some_and(|cube| cube.service == service);
        match (method, rest) {
            ("POST" | "PUT", []) => return self.create(service, name, body),
            ("DELETE", []) if is_there => {
                self.remove_cube(name);
                return Ok(Response::empty(200));
            }
            _ if !is_there => return Err(missing()),
            _ => {}
        }
        match (method, rest) {
            ("GET", []) => self.cube_object(name).map(|cube| Response::json(200, self.with_rules(name, cube))),
            (_, ["ports", port]) if service != "nat" => self.of_port(method, name, port, body),
            ("GET", ["route"]) if service == "router" => Ok(Response::json(200, self.routes(name))),
            (_, ["route", network, hop]) if service == "router" => self.of_route(method, name, network, hop),
            (_, ["rule", rest @ ..]) if service == "nat" => self.of_rule(method, name, rest, body),
            _ => Err(Response::plain(404, "Could not find a matching route")),
        }
    }

    fn create(&mut self, service: &str, name: &str, body: &str) -> Answered {
        let object = object(body, &["name", "service-name", "type", "loglevel", "shadow", "span"])?;
        if object.get("service-name").is_some_and(|given| given.as_str() != Some(service)) {
            return Err(error(400, "invalid-value", "service-name"));
        }
        if self.cubes.contains_key(name) {
            return Err(error(409, "data-exists", name));
        }
        let netns = (service != "nat").then(wiring::fresh);
        match (&netns, service) {
            (Some(netns), "simplebridge") => wiring::make_bridge(netns).map_err(thrown)?,
            (Some(netns), _) => wiring::make_router(netns).map_err(thrown)?,
            (None, _) => {}
        }
        let cube = Cube {
            service: service.to_owned(),
            netns,
            ports: BTreeMap::new(),
            routes: Vec::new(),
            parent: None,
            masquerades: false,
            entries: Vec::new(),
        };
        self.cubes.insert(name.to_owned(), cube);
        Ok(Response::empty(201))
    }

    fn remove_cube(&mut self, name: &str) {
        for port in self.port_names(name) {
            self.remove_port(name, &port);
        }
        if let Some(cube) = self.cubes.remove(name)
            && let Some((router, port)) = cube.parent.as_deref().and_then(|parent| parent.split_once(':'))
        {
            let _ = self.translate(router, port);
        }
    }

    fn remove_port(&mut self, cube: &str, port: &str) {
        self.unlink(cube, port);
        let place = format!("{cube}:{port}");
        for nat in self.cubes.values_mut().filter(|nat| nat.parent.as_deref() == Some(&place)) {
            nat.parent = None;
        }
        if let Some(cube) = self.cubes.get_mut(cube) {
            cube.ports.remove(port);
        }
    }

    fn all_cubes(&self) -> Value {
        let mut all = Map::new();
        for (name, cube) in &self.cubes {
            let list = all.entry(cube.service.clone()).or_insert_with(|| json!([]));
            let object = self.cube_object(name).unwrap_or_default();
            list.as_array_mut().expect("a list").push(object);
        }
        Value::Object(all)
    }

    fn cube_object(&self, name: &str) -> Result<Value, Response> {
        let cube = self.cubes.get(name).ok_or_else(|| bad("Cube does not exist"))?;
        let ports: Vec<Value> = cube.ports.keys().filter_map(|port| self.port_object(name, port)).collect();
        let mut object = json!({
            "name": name, "uuid": "0", "service-name": cube.service, "type": "TC", "loglevel": "INFO",
            "ports": ports, "shadow": false, "span": false,
        });
        if let Some(parent) = &cube.parent {
            object["parent"] = json!(parent);
        }
        Ok(object)
    }

    /// A nat cube is told of with its rules.
    fn with_rules(&self, name: &str, mut object: Value) -> Value {
        let cube = &self.cubes[name];
        if cube.service == "nat" && self.lists_entries {
            let entries: Vec<Value> = cube.entries.iter().map(entry_object).collect();
            object["rule"] =
                json!({"masquerade": {"enabled": cube.masquerades}, "port-forwarding": {"entry": entries}});
        }
        object
    }

    fn port_object(&self, cube: &str, name: &str) -> Option<Value> {
        let port = self.cubes.get(cube)?.ports.get(name)?;
        let place = format!("{cube}:{name}");
        let attached = self.cubes.iter().filter(|(_, nat)| nat.parent.as_deref() == Some(&place));
        let tcubes: Vec<&String> = attached.map(|(nat, _)| nat).collect();
        let up = port.peer.as_ref().is_some_and(|peer| port.has_netdev || self.names_back(peer, &place));
        let mut object = json!({"name": name, "uuid": "0", "status": if up { "UP" } else { "DOWN" }});
        if let Some(peer) = &port.peer {
            object["peer"] = json!(peer);
        }
        if let Some(ip) = &port.ip {
            object["ip"] = json!(ip.to_string());
        }
        if !tcubes.is_empty() {
            object["tcubes"] = json!(tcubes);
        }
        Some(object)
    }

    fn names_back(&self, peer: &str, place: &str) -> bool {
        let other = peer.split_once(':').and_then(|(cube, port)| self.cubes.get(cube)?.ports.get(port));
        other.is_some_and(|other| other.peer.as_deref() == Some(place))
    }

    fn of_port(&mut self, method: &str, cube: &str, name: &str, body: &str) -> Answered {
        let is_there = self.cubes[cube].ports.contains_key(name);
        match method {
            "GET" if is_there => Ok(Response::json(200, self.port_object(cube, name).unwrap_or_default())),
            "DELETE" if is_there => {
                self.remove_port(cube, name);
                Ok(Response::empty(204))
            }
            "POST" if is_there => Err(thrown(format!("Port {name} already exists"))),
            "POST" => self.add_port(cube, name, body),
            "GET" | "DELETE" => Err(missing()),
            _ => Err(Response::plain(405, "Method not allowed")),
        }
    }

    fn add_port(&mut self, cube: &str, name: &str, body: &str) -> Answered {
        let known: &[&str] = if self.cubes[cube].service == "router" {
            &["ip", "mac", "peer", "name"]
        } else {
            &["mac", "peer", "name"]
        };
        let object = object(body, known)?;
        let (ip, peer) = (parsed::<Ipv4Network>(&object, "ip")?, parsed::<String>(&object, "peer")?);
        let link = format!("cp{}", self.next);
        self.next += 1;
        let port = Port { link, ip, peer: None, has_netdev: false };
        self.cube(cube)?.ports.insert(name.to_owned(), port);
        if let Some(peer) = peer
            && let Err(refused) = self.link(&format!("{cube}:{name}"), &peer)
        {
            self.remove_port(cube, name);
            return Err(refused);
        }
        Ok(Response::empty(201))
    }

    fn cube(&mut self, name: &str) -> Result<&mut Cube, Response> {
        self.cubes.get_mut(name).ok_or_else(|| bad(format!("Cube {name} does not exist")))
    }

    fn port(&mut self, place: &str) -> Result<&mut Port, Response> {
        let (cube, port) = place.split_once(':').ok_or_else(|| bad(format!("Port {place} is not a port")))?;
        let found = self.cube(cube)?.ports.get_mut(port);
        found.ok_or_else(|| bad(format!("Port {port} does not exist")))
    }

    fn connect(&mut self, body: &str) -> Answered {
        let object = object(body, &["peer1", "peer2"])?;
        let one: String = needed(&object, "peer1").map_err(|_| bad("Peer 1 not set"))?;
        let other: String = needed(&object, "peer2").map_err(|_| bad("Peer 2 not set"))?;
        self.link(&one, &other)?;
        Ok(Response::empty(200))
    }

    /// Connects two ports, or a port and an interface of the host's.
    fn link(&mut self, one: &str, other: &str) -> Result<(), Response> {
        if let Some(peer) = &self.port(one)?.peer {
            return Err(bad(format!("{one} already has a peer {peer}")));
        }
        if !other.contains(':') {
            return self.link_netdev(one, other);
        }
        if let Some(peer) = &self.port(other)?.peer {
            return Err(bad(format!("{other} already has a peer {peer}")));
        }
        let sides = [(one, self.port(one)?.link.clone()), (other, self.port(other)?.link.clone())];
        let netns = |place: &str| self.cubes[place.split(':').next().unwrap_or_default()].netns.as_ref();
        let (Some(near), Some(far)) = (netns(one), netns(other)) else { return Err(bad("Error setting peer")) };
        wiring::connect((near, &sides[0].1), (far, &sides[1].1)).map_err(bad)?;
        for ((place, link), peer) in sides.iter().zip([other, one]) {
            let ip: Vec<_> = self.port(place)?.ip.into_iter().collect();
            let netns = self.cubes[place.split(':').next().unwrap_or_default()].netns.as_ref().expect("looked at");
            wiring::raise(netns, link, &ip).map_err(bad)?;
            self.port(place)?.peer = Some(peer.to_owned());
        }
        Ok(())
    }

    fn link_netdev(&mut self, place: &str, netdev: &str) -> Result<(), Response> {
        let in_use =
            self.cubes.values().flat_map(|cube| cube.ports.values()).any(|port| port.peer.as_deref() == Some(netdev));
        if in_use {
            return Err(bad("Iface already in use"));
        }
        if !wiring::exists(&self.host, netdev) {
            return Err(bad(format!("Error setting peer: {netdev} does not exist")));
        }
        let own = self.port(place)?.ip;
        let cube = &self.cubes[place.split(':').next().unwrap_or_default()];
        let Some(netns) = &cube.netns else { return Err(bad("Error setting peer")) };
        let had = wiring::move_link(netdev, &self.host, netns).map_err(bad)?;
        let is_router = cube.service == "router";
        let addresses = if is_router { own.map_or(had, |ip| vec![ip]) } else { Vec::new() };
        wiring::raise(netns, netdev, &addresses).map_err(bad)?;
        let port = self.port(place)?;
        port.peer = Some(netdev.to_owned());
        port.link = netdev.to_owned();
        port.has_netdev = true;
        if is_router {
            port.ip = addresses.first().copied();
        }
        Ok(())
    }

    fn disconnect(&mut self, body: &str) -> Answered {
        let object = object(body, &["peer1", "peer2"])?;
        let one: String = needed(&object, "peer1").map_err(|_| bad("Peer 1 not set"))?;
        let other: String = needed(&object, "peer2").map_err(|_| bad("Peer 2 not set"))?;
        if self.port(&one)?.peer.as_deref() != Some(&other) {
            return Err(bad(format!("{one} is not connected to {other}")));
        }
        let (cube, port) = one.split_once(':').expect("a port");
        self.unlink(cube, port);
        Ok(Response::empty(200))
    }

    /// Takes a port's cable away; an interface of the host's goes home with its addresses.
    fn unlink(&mut self, cube: &str, name: &str) {
        let Some(port) = self.cubes.get_mut(cube).and_then(|cube| cube.ports.get_mut(name)) else { return };
        let (link, peer, had_netdev) = (port.link.clone(), port.peer.take(), port.has_netdev);
        port.has_netdev = false;
        let Some(netns) = self.cubes[cube].netns.as_ref() else { return };
        if had_netdev {
            if let Ok(addresses) = wiring::move_link(&link, netns, &self.host) {
                let _ = wiring::raise(&self.host, &link, &addresses);
            }
        } else {
            let _ = wiring::ip(netns, &format!("link del {link}"));
        }
        if let Some(peer) = peer
            && let Some((cube, port)) = peer.split_once(':')
            && let Some(other) = self.cubes.get_mut(cube).and_then(|cube| cube.ports.get_mut(port))
        {
            other.peer = None;
        }
    }

    fn routes(&self, router: &str) -> Value {
        let cube = &self.cubes[router];
        let local = cube.ports.iter().filter_map(|(name, port)| {
            let ip = port.ip?;
            let network = format!("{}/{}", ip.network(), ip.prefix());
            Some(json!({"network": network, "nexthop": "local", "interface": name, "pathcost": 0}))
        });
        let others = cube.routes.iter().map(|(network, hop)| {
            json!({"network": network.to_string(), "nexthop": hop.to_string(), "interface": "", "pathcost": 1})
        });
        local.chain(others).collect()
    }

    fn of_route(&mut self, method: &str, router: &str, network: &str, hop: &str) -> Answered {
        let network: Ipv4Network = network.parse().map_err(|_| error(400, "invalid-value", "network"))?;
        let hop: Ipv4Addr = hop.parse().map_err(|_| error(400, "invalid-value", "nexthop"))?;
        let cube = self.cube(router)?;
        let position = cube.routes.iter().position(|route| *route == (network, hop));
        let netns = cube.netns.as_ref().expect("a router");
        match (method, position) {
            ("POST", Some(_)) => Err(thrown("Route already exists")),
            ("POST", None) => {
                let reached =
                    cube.ports.values().any(|port| port.peer.is_some() && port.ip.is_some_and(|ip| ip.contains(hop)));
                if !reached {
                    return Err(thrown(format!("Non reacheable {hop} network")));
                }
                wiring::ip(netns, &format!("route add {network} via {hop}")).map_err(thrown)?;
                cube.routes.push((network, hop));
                Ok(Response::empty(201))
            }
            ("DELETE", Some(position)) => {
                let _ = wiring::ip(netns, &format!("route del {network} via {hop}"));
                cube.routes.remove(position);
                Ok(Response::empty(204))
            }
            ("DELETE", None) => Err(missing()),
            _ => Err(Response::plain(405, "Method not allowed")),
        }
    }

    fn attach(&mut self, body: &str) -> Answered {
        let object = object(body, &["cube", "port", "position", "after", "before"])?;
        let nat: String = needed(&object, "cube")?;
        let place: String = needed(&object, "port")?;
        self.port(&place)?;
        let cube = self.cube(&nat)?;
        if cube.service != "nat" {
            return Err(bad(format!("Cube {nat} is not transparent")));
        }
        if cube.parent.is_some() {
            return Err(bad(format!("Cube {nat} is already attached")));
        }
        cube.parent = Some(place);
        Ok(Response::empty(200))
    }

    fn detach(&mut self, body: &str) -> Answered {
        let object = object(body, &["cube", "port"])?;
        let nat: String = needed(&object, "cube")?;
        let place: String = needed(&object, "port")?;
        if self.cube(&nat)?.parent.as_deref() != Some(&place) {
            return Err(bad(format!("Cube {nat} is not attached to {place}")));
        }
        self.cube(&nat)?.parent = None;
        let (router, port) = place.split_once(':').unwrap_or_default();
        self.translate(router, port)?;
        Ok(Response::empty(200))
    }

    fn of_rule(&mut self, method: &str, nat: &str, rest: &[&str], body: &str) -> Answered {
        match (method, rest) {
            ("GET", ["masquerade"]) => Ok(Response::json(200, json!({"enabled": self.cube(nat)?.masquerades}))),
            ("POST", ["masquerade", word @ ("enable" | "disable")]) => self.masquerade(nat, *word == "enable"),
            ("POST", ["port-forwarding", "append"]) => self.append(nat, body),
            ("DELETE", ["port-forwarding", "entry", id]) => {
                let cube = self.cube(nat)?;
                let position = cube.entries.iter().position(|entry| entry.id.to_string() == *id).ok_or_else(missing)?;
                cube.entries.remove(position);
                if self.lists_entries {
                    let cube = self.cube(nat)?;
                    cube.entries.iter_mut().zip(0..).for_each(|(entry, id)| entry.id = id);
                }
                self.translate_for(nat)?;
                Ok(Response::empty(204))
            }
            _ => Err(Response::plain(404, "Could not find a matching route")),
        }
    }

    /// Answers 201 whatever comes of it, as polycubed does.
    fn masquerade(&mut self, nat: &str, enable: bool) -> Answered {
        let place = self.cube(nat)?.parent.clone();
        let has_address = place.and_then(|place| self.port(&place).ok()?.ip).is_some();
        if enable && !has_address {
            return Ok(Response::json(201, json!({"result": false})));
        }
        self.cube(nat)?.masquerades = enable;
        self.translate_for(nat)?;
        Ok(Response::json(201, json!({"result": true})))
    }

    fn append(&mut self, nat: &str, body: &str) -> Answered {
        let known = ["external-ip", "external-port", "proto", "internal-ip", "internal-port"];
        let object = object(body, &known)?;
        let protocol: String = needed(&object, "proto")?;
        if !["tcp", "udp", "all"].contains(&protocol.to_lowercase().as_str()) {
            return Err(error(400, "invalid-value", "proto"));
        }
        let count = self.cube(nat)?.entries.len() as u64;
        let entry = Entry {
            id: if self.lists_entries { count } else { self.next },
            external: (needed(&object, "external-ip")?, needed(&object, "external-port")?),
            protocol,
            internal: (needed(&object, "internal-ip")?, needed(&object, "internal-port")?),
        };
        let same = |other: &Entry| other.external == entry.external && other.protocol == entry.protocol;
        let cube = self.cube(nat)?;
        if cube.entries.iter().any(same) {
            return Err(thrown("Cannot insert duplicate mapping"));
        }
        let id = entry.id;
        cube.entries.push(entry);
        self.next += 1;
        self.translate_for(nat)?;
        Ok(Response::json(201, json!({"id": id})))
    }

    fn translate_for(&mut self, nat: &str) -> Result<(), Response> {
        let Some(place) = self.cube(nat)?.parent.clone() else { return Ok(()) };
        let (router, port) = place.split_once(':').unwrap_or_default();
        self.translate(router, port)
    }

    /// Makes the namespace of a router translate what the nat cube at one of its ports says.
    fn translate(&mut self, router: &str, port: &str) -> Result<(), Response> {
        let place = format!("{router}:{port}");
        let Some(cube) = self.cubes.get(router) else { return Ok(()) };
        let (Some(netns), Some(port)) = (&cube.netns, cube.ports.get(port)) else { return Ok(()) };
        let nat = self.cubes.values().find(|nat| nat.parent.as_deref() == Some(&place));
        let entries = nat.map(|nat| nat.entries.as_slice()).unwrap_or_default();
        wiring::translate(netns, &port.link, nat.is_some_and(|nat| nat.masquerades), entries).map_err(thrown)
    }
}

fn entry_object(entry: &Entry) -> Value {
    json!({
        "id": entry.id, "external-ip": entry.external.0, "external-port": entry.external.1,
        "proto": entry.protocol, "internal-ip": entry.internal.0, "internal-port": entry.internal.1,
    })
}
