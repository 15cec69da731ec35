//! Published ports: entries of the nat cube that lead from the uplink's address to a container's.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::PolycubeError;
use super::cubes::Service;
use super::record::PublishedEntry;
use super::rest::Polycubed;

/// Says what the nat cube is told of a published port.
fn mapping(entry: &PublishedEntry, container: Ipv4Addr) -> Value {
    json!({
        "external-ip": entry.external.to_string(),
        "external-port": entry.port.host_port,
        "proto": entry.port.protocol.to_string(),
        "internal-ip": container.to_string(),
        "internal-port": entry.port.container_port,
    })
}

/// Makes sure that the nat cube has an entry, and notes its number. One whose number a kill lost is found among those there are.
pub(super) fn ensure(
    daemon: &Polycubed,
    nat: &str,
    entry: &mut PublishedEntry,
    container: Ipv4Addr,
) -> Result<(), PolycubeError> {
    let wanted = mapping(entry, container);
    let present = entries(daemon, nat)?;
    if let Some(id) = find(present.as_deref().unwrap_or_default(), &wanted) {
        entry.id = Some(id);
        return Ok(());
    }
    let answer = daemon.post(&format!("{}rule/port-forwarding/append/", Service::Nat.path(nat)), &wanted)?;
    if !answer.is_good() {
        return Err(answer.refusal());
    }
    entry.id = answer.json().get("id").and_then(Value::as_u64);
    Ok(())
}

/// Removes an attachment's entries; returns whether that is certain. It is not where polycubed does not list them and a kill
/// has lost a number.
pub(super) fn remove(
    daemon: &Polycubed,
    nat: &str,
    published: &[PublishedEntry],
    container: Option<Ipv4Addr>,
) -> Result<bool, PolycubeError> {
    let mut is_certain = true;
    for entry in published {
        // Looked at each time: polycubed counts anew from what is left. A number counts alone where entries cannot be listed.
        let present = entries(daemon, nat)?;
        let found = match (&present, container) {
            (Some(present), Some(address)) => find(present, &mapping(entry, address)),
            _ => {
                is_certain &= entry.id.is_some();
                entry.id
            }
        };
        if let Some(id) = found {
            daemon.delete(&format!("{}rule/port-forwarding/entry/{id}/", Service::Nat.path(nat)))?;
        }
    }
    Ok(is_certain)
}

/// Reads the entries that there are; `None` where there is no nat cube, or one that is told of without its rules.
fn entries(daemon: &Polycubed, nat: &str) -> Result<Option<Vec<Value>>, PolycubeError> {
    let cube = daemon.get(&Service::Nat.path(nat))?;
    let Some(rules) = cube.as_ref().and_then(|cube| cube.get("rule")) else { return Ok(None) };
    let mut found = Vec::new();
    gather(rules, &mut found);
    Ok(Some(found))
}

/// Collects every object below that is an entry, however it is wrapped.
fn gather(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| gather(item, found)),
        Value::Object(object) if object.contains_key("external-port") => found.push(value.clone()),
        Value::Object(object) => object.values().for_each(|item| gather(item, found)),
        _ => {}
    }
}

fn find(entries: &[Value], wanted: &Value) -> Option<u64> {
    let same = |entry: &&Value| {
        let wanted = wanted.as_object().into_iter().flatten();
        // The protocol's name may come back in capitals.
        wanted.into_iter().all(|(key, value)| match (entry.get(key), value) {
            (Some(Value::String(found)), Value::String(wanted)) => found.eq_ignore_ascii_case(wanted),
            (found, wanted) => found == Some(wanted),
        })
    };
    entries.iter().find(same)?.get("id")?.as_u64()
}
