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
    if answer.is_good() {
        entry.id = answer.json().get("id").and_then(Value::as_u64);
        return Ok(());
    }
    // Where nothing can be listed, what a kill lost the number of goes with the nat cube.
    if present.is_none() && answer.is_existing() { Ok(()) } else { Err(answer.refusal()) }
}

/// Removes an attachment's entries, by number where that is known.
pub(super) fn remove(
    daemon: &Polycubed,
    nat: &str,
    published: &[PublishedEntry],
    container: Option<Ipv4Addr>,
) -> Result<(), PolycubeError> {
    if published.is_empty() {
        return Ok(());
    }
    let present = entries(daemon, nat)?;
    for entry in published {
        // A number alone may be another entry's by now; it counts where entries cannot be listed.
        let found = match (&present, container) {
            (Some(present), Some(address)) => find(present, &mapping(entry, address)),
            _ => entry.id,
        };
        if let Some(id) = found {
            daemon.delete(&format!("{}rule/port-forwarding/entry/{id}/", Service::Nat.path(nat)))?;
        }
    }
    Ok(())
}

/// Reads the entries that there are; `None` where there is no nat cube, or none that lists them.
fn entries(daemon: &Polycubed, nat: &str) -> Result<Option<Vec<Value>>, PolycubeError> {
    let cube = Service::Nat.path(nat);
    for path in [format!("{cube}rule/port-forwarding/"), format!("{cube}rule/port-forwarding/entry/"), cube.clone()] {
        // A whole cube may come without its rules.
        let rules = daemon.get(&path)?.filter(|rules| path != cube || rules.get("rule").is_some());
        if let Some(rules) = rules {
            let mut found = Vec::new();
            gather(&rules, &mut found);
            return Ok(Some(found));
        }
    }
    Ok(None)
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
