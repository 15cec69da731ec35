//! Values that the compose-spec gives to keys that are not there.

use std::collections::BTreeMap;
use std::path::Path;

use super::yaml::{Entry, Map, Node, Value};

/// Fills one service.
pub(super) fn fill(service: &mut Node, dir: &Path, environment: &BTreeMap<String, String>) {
    let Some(map) = service.as_map_mut() else { return };
    for (key, entry) in map.iter_mut() {
        let node = &mut entry.node;
        match key.as_str() {
            "depends_on" => each_value(node, |item| set(item, "required", Value::Bool(true))),
            "ports" => each_item(node, |item| {
                set(item, "mode", Value::Str("ingress".into()));
                set(item, "protocol", Value::Str("tcp".into()));
            }),
            "build" => build(node, dir, environment),
            "gpus" => each_item(node, device_request),
            "deploy" => {
                let requests = node.as_map_mut().and_then(|deploy| {
                    let resources = deploy.get_mut("resources")?.node.as_map_mut()?;
                    let reservations = resources.get_mut("reservations")?.node.as_map_mut()?;
                    Some(&mut reservations.get_mut("devices")?.node)
                });
                if let Some(requests) = requests {
                    each_item(requests, device_request);
                }
            }
            _ => {}
        }
    }
}

fn build(node: &mut Node, dir: &Path, environment: &BTreeMap<String, String>) {
    set(node, "context", Value::Str(dir.to_string_lossy().into_owned()));
    if node.get("dockerfile_inline").is_none() {
        set(node, "dockerfile", Value::Str("Dockerfile".into()));
    }
    let args = node.as_map_mut().and_then(|map| map.get_mut("args")).and_then(|entry| entry.node.as_map_mut());
    if let Some(args) = args {
        args.retain(|key, entry| {
            if let (Value::Null, Some(value)) = (&entry.node.value, environment.get(key)) {
                entry.node.value = Value::Str(value.clone());
            }
            !entry.node.is_null()
        });
    }
}

/// Without a number and without names, all devices are meant.
fn device_request(node: &mut Node) {
    if node.get("device_ids").is_none() {
        set(node, "count", Value::Int(-1));
    }
}

fn set(node: &mut Node, key: &str, value: Value) {
    let span = node.span;
    if let Some(map) = node.as_map_mut() {
        map.entry(key.to_owned()).or_insert_with(|| Entry { key: span, node: Node::new(value, span) });
    }
}

fn each_item(node: &mut Node, work: impl Fn(&mut Node)) {
    if let Value::Seq(items) = &mut node.value {
        items.iter_mut().for_each(work);
    }
}

fn each_value(node: &mut Node, work: impl Fn(&mut Node)) {
    let values = node.as_map_mut().into_iter().flat_map(Map::values_mut);
    values.for_each(|entry| work(&mut entry.node));
}
