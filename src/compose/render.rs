//! What `config` prints: the whole project in its canonical form, as YAML or JSON. The schema's table says how each value is
//! written; what is empty or has its zero value is left out, as in Compose.

use std::time::Duration;

use serde_json::{Map as Object, Value as Json};

use super::load::Merged;
use super::schema::{Kind, ROOT, Table};
use super::yaml::{Map, Node, Value};
use crate::spec::parse_duration;

/// Is the canonical form of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(Json);

impl From<Json> for Document {
    /// Takes a part of a project.
    fn from(value: Json) -> Self {
        Self(value)
    }
}

impl Document {
    /// Returns it as a value.
    pub fn value(&self) -> &Json {
        &self.0
    }

    /// Writes JSON with an indent of two. As with Compose, extensions below the top level are only in the YAML form.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.json()).unwrap_or_default()
    }

    /// Returns the value that [`Document::to_json`] writes.
    pub fn json(&self) -> Json {
        let mut json = self.0.clone();
        for key in ["services", "networks", "volumes", "secrets", "configs", "models"] {
            if let Some(Json::Object(objects)) = json.get_mut(key) {
                objects.values_mut().for_each(strip_extensions);
            }
        }
        json
    }

    /// Writes YAML.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(&self.0).unwrap_or_default()
    }
}

/// Keys of the user's own (labels, options, variables) may begin with `x-` and stay: those that are extensions stand beside
/// the keys of the schema, so only the mappings of the schema are looked into.
fn strip_extensions(json: &mut Json) {
    match json {
        Json::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-"));
            for (key, value) in map.iter_mut().filter(|(key, _)| !FREE_KEYS.contains(&key.as_str())) {
                match (key.as_str(), value) {
                    ("networks" | "depends_on" | "models", Json::Object(named)) => {
                        named.values_mut().for_each(strip_extensions);
                    }
                    (_, value) => strip_extensions(value),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(strip_extensions),
        _ => {}
    }
}

/// Keys whose mappings have the user's own keys.
const FREE_KEYS: [&str; 14] = [
    "environment",
    "labels",
    "annotations",
    "options",
    "driver_opts",
    "args",
    "sysctls",
    "storage_opt",
    "ulimits",
    "aux_addresses",
    "additional_contexts",
    "ssh",
    "extra_hosts",
    "runtime_flags",
];

/// Makes the canonical form.
pub(super) fn document(merged: &Merged) -> Document {
    let mut root = Object::new();
    root.insert("name".into(), merged.name.clone().into());
    let services = merged.tree.get("services").and_then(Node::as_map);
    root.insert("services".into(), services.map_or_else(|| Json::Object(Object::new()), services_of));
    for (key, entry) in merged.tree.as_map().into_iter().flatten() {
        match key.as_str() {
            "name" | "services" | "version" | "include" => {}
            "networks" | "volumes" | "secrets" | "configs" | "models" => {
                let objects = used_objects(&entry.node, key, services);
                if !objects.is_empty() {
                    root.insert(key.clone(), Json::Object(objects));
                }
            }
            _ => {
                root.insert(key.clone(), plain(&entry.node));
            }
        }
    }
    Document(Json::Object(root))
}

fn services_of(map: &Map) -> Json {
    let kind = child(&ROOT, "services").and_then(|kind| child(kind, ""));
    let mut out = Object::new();
    for (name, entry) in map {
        let Some(Json::Object(mut service)) = kind.and_then(|kind| value(&entry.node, kind)) else { continue };
        for key in ["command", "entrypoint"] {
            service.entry(key).or_insert(Json::Null);
        }
        if let Some(volumes) = service.get_mut("healthcheck").and_then(|node| node.get_mut("test"))
            && let Json::String(text) = volumes
        {
            *volumes = serde_json::json!(["CMD-SHELL", text]);
        }
        if let Some(Json::Array(hosts)) = service.get_mut("extra_hosts") {
            sort_hosts(hosts);
        }
        if let Some(Json::Object(build)) = service.get_mut("build") {
            print_build(build);
        }
        if let Some(Json::Object(deploy)) = service.get_mut("deploy") {
            for key in ["placement", "resources"] {
                deploy.entry(key).or_insert_with(|| Json::Object(Object::new()));
            }
        }
        out.insert(name.clone(), Json::Object(service));
    }
    Json::Object(out)
}

/// Hosts by name; the addresses of one stay in their order.
fn sort_hosts(hosts: &mut [Json]) {
    let name = |host: &Json| host.as_str().and_then(|text| text.split('=').next()).unwrap_or_default().to_owned();
    hosts.sort_by_key(name);
}

/// `ssh` is printed as a list, attestations as strings.
fn print_build(build: &mut Object<String, Json>) {
    if let Some(Json::Object(keys)) = build.get("ssh") {
        let line =
            |(id, path): (&String, &Json)| path.as_str().map_or_else(|| id.clone(), |path| format!("{id}={path}"));
        let lines: Vec<Json> = keys.iter().map(line).map(Json::String).collect();
        build.insert("ssh".into(), Json::Array(lines));
    }
    for key in ["provenance", "sbom"] {
        if let Some(Json::Bool(value)) = build.get(key) {
            let text = value.to_string();
            build.insert(key.into(), text.into());
        }
    }
    if let Some(Json::Array(hosts)) = build.get_mut("extra_hosts") {
        sort_hosts(hosts);
    }
}

/// The objects of a group that some service uses; the others have no effect.
fn used_objects(node: &Node, group: &str, services: Option<&Map>) -> Object<String, Json> {
    let Some(kind) = child(&ROOT, group).and_then(|kind| child(kind, "")) else { return Object::new() };
    let used = |name: &str| services.into_iter().flatten().any(|(_, entry)| uses(&entry.node, group, name));
    let mut out = Object::new();
    for (name, entry) in node.as_map().into_iter().flatten().filter(|(name, _)| used(name)) {
        let mut object = value(&entry.node, kind).unwrap_or_else(|| Json::Object(Object::new()));
        if group == "networks"
            && let Json::Object(map) = &mut object
        {
            map.entry("ipam").or_insert_with(|| Json::Object(Object::new()));
        }
        out.insert(name.clone(), object);
    }
    out
}

fn uses(service: &Node, group: &str, name: &str) -> bool {
    let in_build = group == "secrets" && service.get("build").is_some_and(|build| uses(build, group, name));
    in_build || names(service.get(group), name)
}

fn names(list: Option<&Node>, name: &str) -> bool {
    match list.map(|node| &node.value) {
        Some(Value::Map(map)) => map.contains_key(name),
        Some(Value::Seq(items)) => items.iter().any(|item| item.get("source").and_then(Node::as_str) == Some(name)),
        _ => false,
    }
}

/// The type of a key's value.
fn child(kind: &'static Kind, key: &str) -> Option<&'static Kind> {
    match kind {
        Kind::Object(table) => table.field(key).map(|field| field.kind),
        Kind::Named(_, kind) => Some(kind),
        _ => None,
    }
}

/// Writes a value of a type; `None` where it is empty.
fn value(node: &Node, kind: &'static Kind) -> Option<Json> {
    match (kind, &node.value) {
        (_, Value::Null) => None,
        (Kind::Dict(_) | Kind::Pairs | Kind::Labels, Value::Map(map)) if map.is_empty() => None,
        (Kind::OrNull(kind) | Kind::Short(.., kind), Value::Map(_) | Value::Seq(_)) => value(node, kind),
        (Kind::OrNull(kind), _) => value(node, kind),
        (Kind::Either(one, other), found) => {
            value(node, if matches!(found, Value::Map(_) | Value::Seq(_)) { other } else { one })
        }
        (Kind::Object(table), Value::Map(map)) => Some(object(map, table)),
        (Kind::Dict(item) | Kind::Named(_, item) | Kind::Names(_, item), Value::Map(map)) => Some(Json::Object(
            map.iter().map(|(key, entry)| (key.clone(), value(&entry.node, item).unwrap_or(Json::Null))).collect(),
        )),
        (Kind::List(item) | Kind::OneOrMore(item) | Kind::ShortList(.., item), Value::Seq(items)) => {
            Some(items.iter().map(|node| value(node, item).unwrap_or(Json::Null)).collect())
        }
        (Kind::Mode(true), Value::Int(bits)) => Some(format!("{bits:04o}").into()),
        (Kind::Bytes(_), found) => found.scalar_text().map(Json::String),
        (Kind::Duration, Value::Str(text)) => {
            Some(parse_duration(text).map_or_else(|_| text.clone(), duration_text).into())
        }
        _ => Some(plain(node)),
    }
}

fn object(map: &Map, table: &'static Table) -> Json {
    let mut out = Object::new();
    for (key, entry) in map {
        let Some(field) = table.field(key) else {
            out.insert(key.clone(), plain(&entry.node));
            continue;
        };
        match value(&entry.node, field.kind) {
            Some(json) if field.print_zero || !is_zero(&json) => {
                out.insert(key.clone(), json);
            }
            _ => {}
        }
    }
    Json::Object(out)
}

fn is_zero(json: &Json) -> bool {
    match json {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(_) | Json::Bool(true) => false,
    }
}

fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Str(value) => value.as_str().into(),
        Value::Seq(items) => items.iter().map(plain).collect(),
        Value::Map(map) => map.iter().map(|(key, entry)| (key.clone(), plain(&entry.node))).collect(),
    }
}

/// Writes a duration as Go does: `1m30s`, `1h0m0s`, `1.5s`, `100ms`.
pub(super) fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128, name: &str| {
        let text = format!("{}.{:0width$}", nanos / unit, nanos % unit, width = unit.ilog10() as usize);
        format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let rest =
                Duration::from_secs(duration.as_secs() % 60) + Duration::from_nanos(duration.subsec_nanos().into());
            let seconds = format!("{}.{:09}", rest.as_secs(), rest.subsec_nanos());
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (text, wanted) in [
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1500ms", "1.5s"),
            ("100ms", "100ms"),
            ("0", "0s"),
            ("2500us", "2.5ms"),
        ] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), wanted);
        }
    }
}
