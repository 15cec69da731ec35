//! Gives a merged tree its meaning: profiles, variables of `env_file`, the default network, names, dependencies that follow from other keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::LoadRequest;
use super::diagnostic::{Finding, suggest};
use super::load::{Loader, Merged};
use super::source::Span;
use super::yaml::{Entry, Map, Node, Value};

/// Normalises in place; returns the services that no active profile asks for, with their profiles.
pub(super) fn normalize(
    merged: &mut Merged,
    request: &LoadRequest,
    loader: &mut Loader,
) -> BTreeMap<String, Vec<String>> {
    let inactive = drop_inactive(merged, request, loader);
    if request.skip.normalization {
        return inactive;
    }
    let (environment, dir) = (merged.environment.clone(), merged.dir.clone());
    let owners = container_names(&merged.tree, &merged.name);
    for service in services(&mut merged.tree) {
        read_variables(service, "env_file", "environment", &environment, loader);
        take_from_environment(service, &environment);
        read_variables(service, "label_file", "labels", &environment, loader);
        implicit_dependencies(service, &owners);
        default_network(service);
        super::defaults::fill(service, &dir, &environment);
    }
    drop_optional_dependencies(&mut merged.tree, &inactive);
    for group in ["networks", "volumes", "secrets", "configs"] {
        name_objects(&mut merged.tree, group, &merged.name, loader);
    }
    inactive
}

/// The services of a tree.
pub(super) fn services(tree: &mut Node) -> impl Iterator<Item = &mut Node> {
    let map = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(|entry| entry.node.as_map_mut());
    map.into_iter().flat_map(|map| map.values_mut()).map(|entry| &mut entry.node)
}

/// The words of a list of strings.
pub(super) fn words<'n>(node: &'n Node, key: &str) -> Vec<&'n str> {
    node.get(key).and_then(Node::as_seq).unwrap_or_default().iter().filter_map(Node::as_str).collect()
}

fn drop_inactive(merged: &mut Merged, request: &LoadRequest, loader: &mut Loader) -> BTreeMap<String, Vec<String>> {
    let from_variable = merged.environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
    let mut active: BTreeSet<String> =
        from_variable.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    active.extend(request.profiles.iter().cloned());
    let Some(map) =
        merged.tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(|entry| entry.node.as_map_mut())
    else {
        return BTreeMap::new();
    };
    let known: BTreeSet<String> =
        map.values().flat_map(|entry| words(&entry.node, "profiles")).map(str::to_owned).collect();
    for name in request.profiles.iter().filter(|name| *name != "*" && !known.contains(*name)) {
        let help = suggest(name, known.iter().map(String::as_str));
        loader.report.push(Finding::error(format!("no service has the profile `{name}`")).maybe_help(help));
    }
    for name in &request.selected {
        active.extend(map.get(name).into_iter().flat_map(|entry| words(&entry.node, "profiles")).map(str::to_owned));
    }
    let mut inactive = BTreeMap::new();
    map.retain(|name, entry| {
        let own = words(&entry.node, "profiles");
        let keep = own.is_empty() || active.contains("*") || own.iter().any(|profile| active.contains(*profile));
        if !keep {
            inactive.insert(name.clone(), own.iter().map(|profile| (*profile).to_owned()).collect());
        }
        keep
    });
    inactive
}

/// Reads the files under one key and puts their lines under the mapping at another.
fn read_variables(
    service: &mut Node,
    from: &str,
    into: &str,
    environment: &BTreeMap<String, String>,
    loader: &mut Loader,
) {
    let Some(map) = service.as_map_mut() else { return };
    let Some(files) = map.shift_remove(from) else { return };
    let mut found: BTreeMap<String, (String, Span)> = BTreeMap::new();
    for item in files.node.as_seq().unwrap_or_default() {
        let path = item.as_str().or_else(|| item.get("path").and_then(Node::as_str));
        let Some(path) = path else { continue };
        let required = item.get("required").is_none_or(|node| node.value != Value::Bool(false));
        let raw = item.get("format").and_then(Node::as_str) == Some("raw");
        let mut known: BTreeMap<String, String> =
            found.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        known.extend(environment.iter().map(|(key, value)| (key.clone(), value.clone())));
        let lines = loader.read_env_file(Path::new(path), required, raw, &known, Some(item.span));
        found.extend(lines.into_iter().map(|(key, value)| (key, (value, item.span))));
    }
    if found.is_empty() {
        return;
    }
    let own = map.shift_remove(into);
    let mut all: Map = found
        .into_iter()
        .map(|(key, (value, span))| (key, Entry { key: span, node: Node::new(Value::Str(value), span) }))
        .collect();
    let (key, span) = own.as_ref().map_or((files.key, files.node.span), |entry| (entry.key, entry.node.span));
    if let Some(Value::Map(own)) = own.map(|entry| entry.node.value) {
        all.extend(own);
    }
    map.insert(into.to_owned(), Entry { key, node: Node::new(Value::Map(all), span) });
}

/// A variable without a value takes the caller's.
fn take_from_environment(service: &mut Node, environment: &BTreeMap<String, String>) {
    let map = service.as_map_mut().and_then(|map| map.get_mut("environment")).and_then(|entry| entry.node.as_map_mut());
    for (key, entry) in map.into_iter().flatten() {
        if let (Value::Null, Some(value)) = (&entry.node.value, environment.get(key)) {
            entry.node.value = Value::Str(value.clone());
        }
    }
}

/// Is what containers of the project are called.
struct ContainerNames {
    /// Services by the name that `container_name` gives to their container.
    given: BTreeMap<String, String>,
    /// Services whose containers are called `<project>-<service>-<number>`.
    numbered: BTreeSet<String>,
    project: String,
}

fn container_names(tree: &Node, project: &str) -> ContainerNames {
    let mut names = ContainerNames { given: BTreeMap::new(), numbered: BTreeSet::new(), project: project.to_owned() };
    for (service, entry) in tree.get("services").and_then(Node::as_map).into_iter().flatten() {
        match entry.node.get("container_name").and_then(Node::as_str) {
            Some(name) => drop(names.given.insert(name.to_owned(), service.clone())),
            None => drop(names.numbered.insert(service.clone())),
        }
    }
    names
}

impl ContainerNames {
    /// Returns the service that a container belongs to, where it is one of this project.
    fn service_of(&self, container: &str) -> Option<&str> {
        let numbered = || {
            let rest = container.strip_prefix(self.project.as_str())?.strip_prefix('-')?;
            let (service, number) = rest.rsplit_once('-')?;
            self.numbered.get(service).filter(|_| number.parse::<u32>().is_ok_and(|number| number > 0))
        };
        self.given.get(container).or_else(numbered).map(String::as_str)
    }
}

/// Sharing a namespace or a volume with a service, or a link to it, means waiting for it.
fn implicit_dependencies(service: &mut Node, owners: &ContainerNames) {
    let mut wanted: Vec<(String, Span, bool)> = Vec::new();
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(key)
            && let Some(text) = node.as_str()
            && let Some(name) = text
                .strip_prefix("service:")
                .or_else(|| text.strip_prefix("container:").and_then(|name| owners.service_of(name)))
        {
            wanted.push((name.to_owned(), node.span, true));
        }
    }
    for (key, restart) in [("volumes_from", false), ("links", true)] {
        for node in service.get(key).and_then(Node::as_seq).unwrap_or_default() {
            let Some(text) = node.as_str().filter(|text| !text.starts_with("container:")) else { continue };
            let name = text.split(':').next().unwrap_or(text);
            wanted.push((name.to_owned(), node.span, restart));
        }
    }
    if wanted.is_empty() {
        return;
    }
    let span = service.span;
    let Some(map) = service.as_map_mut() else { return };
    let entry = |span, value| Entry { key: span, node: Node::new(value, span) };
    let depends_on = map.entry("depends_on".into()).or_insert_with(|| entry(span, Value::Map(Map::new())));
    let Some(depends_on) = depends_on.node.as_map_mut() else { return };
    for (name, span, restart) in wanted {
        let mut dependency = Map::new();
        dependency.insert("condition".into(), entry(span, Value::Str("service_started".into())));
        if restart {
            dependency.insert("restart".into(), entry(span, Value::Bool(true)));
        }
        dependency.insert("required".into(), entry(span, Value::Bool(true)));
        depends_on.entry(name).or_insert_with(|| entry(span, Value::Map(dependency)));
    }
}

/// A service that names no network is on `default`.
fn default_network(service: &mut Node) {
    let span = service.span;
    let Some(map) = service.as_map_mut() else { return };
    if map.contains_key("network_mode") || map.contains_key("provider") {
        return;
    }
    let none = map.get("networks").is_none_or(|entry| entry.node.as_map().is_some_and(Map::is_empty));
    if none {
        let default = Entry { key: span, node: Node::new(Value::Null, span) };
        let networks = Node::new(Value::Map([("default".to_owned(), default)].into_iter().collect()), span);
        map.insert("networks".into(), Entry { key: span, node: networks });
    }
}

/// A dependency that is only a wish goes where its service is left out by its profiles or not there at all.
fn drop_optional_dependencies(tree: &mut Node, inactive: &BTreeMap<String, Vec<String>>) {
    let present: BTreeSet<String> = tree
        .get("services")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|map| map.keys().cloned())
        .filter(|name| !inactive.contains_key(name))
        .collect();
    for service in services(tree) {
        let map = service.as_map_mut().and_then(|map| map.get_mut("depends_on")).and_then(|e| e.node.as_map_mut());
        if let Some(map) = map {
            map.retain(|name, entry| {
                let required = entry.node.get("required").is_none_or(|node| node.value != Value::Bool(false));
                required || present.contains(name)
            });
        }
    }
}

/// Gives networks, volumes, secrets and configs their names and makes the default network where a service is on it.
fn name_objects(tree: &mut Node, group: &str, project: &str, loader: &mut Loader) {
    let uses_default = group == "networks"
        && services(tree)
            .any(|service| service.get("networks").is_some_and(|networks| networks.get("default").is_some()));
    let span = tree.span;
    let Some(root) = tree.as_map_mut() else { return };
    let empty = || Node::new(Value::Map(Map::new()), span);
    if uses_default {
        let objects = root.entry(group.to_owned()).or_insert_with(|| Entry { key: span, node: empty() });
        if let Some(map) = objects.node.as_map_mut() {
            map.entry("default".into()).or_insert_with(|| Entry { key: span, node: empty() });
        }
    }
    let Some(objects) = root.get_mut(group).and_then(|entry| entry.node.as_map_mut()) else { return };
    for (key, entry) in objects.iter_mut() {
        let key_span = entry.key;
        if entry.node.is_null() {
            entry.node.value = Value::Map(Map::new());
        }
        let Some(object) = entry.node.as_map_mut() else { continue };
        name_from_external(object, group, key, loader);
        let external = object.get("external").is_some_and(|entry| entry.node.value == Value::Bool(true));
        let name = if external { key.clone() } else { format!("{project}_{key}") };
        object
            .entry("name".into())
            .or_insert_with(|| Entry { key: key_span, node: Node::new(Value::Str(name), key_span) });
    }
}

/// `external: {name: X}` is an old way to write `external: true` and `name: X`.
fn name_from_external(object: &mut Map, group: &str, key: &str, loader: &mut Loader) {
    let Some(entry) = object.get("external") else { return };
    let Value::Map(old) = &entry.node.value else { return };
    let (span, name) = (entry.node.span, old.get("name").cloned());
    let path = format!("{group}.{key}");
    loader.report.push(
        Finding::warning("`external.name` is an old form")
            .at(span)
            .path(&path)
            .help("write `external: true` and `name:`"),
    );
    if let Some(name) = name {
        if let Some(own) = object.get("name")
            && own.node != name.node
        {
            let message = format!("{path}: name and external.name conflict; only use name");
            loader.report.push(Finding::error(message).at(name.key).path(&path).related("name", own.key));
        }
        object.insert("name".into(), name);
    }
    object.insert("external".into(), Entry { key: span, node: Node::new(Value::Bool(true), span) });
}
