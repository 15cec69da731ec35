//! From `linux.netDevices`: which devices of the host's go into the container's network namespace, and how they are called there.

use std::collections::BTreeMap;

use oci_spec::runtime::Linux;

use super::planner::refused;
use super::{ContainerError, from_namespaces};
use crate::namespaces::Namespace;
use crate::spec::{NetDeviceMove, NewDeviceName};

/// Lists the devices, by their names on the host.
///
/// # Errors
/// [`ContainerError::Spec`]: no network namespace of its own, a name that is none, two devices that would have one name.
pub(super) fn net_devices(linux: &Linux) -> Result<Vec<NetDeviceMove>, ContainerError> {
    let asked: BTreeMap<_, _> = linux.net_devices().iter().flatten().collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    if !from_namespaces::own(linux).contains(Namespace::Network) || from_namespaces::is_hosts(Namespace::Network, linux)
    {
        let reason =
            "the container has no network namespace of its own: add `{\"type\": \"network\"}` to linux.namespaces";
        return Err(refused("linux.netDevices", reason));
    }
    let mut devices: Vec<NetDeviceMove> = Vec::new();
    for (name, device) in asked {
        let key = || format!("linux.netDevices.{name}");
        let becomes = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(name);
        let becomes =
            NewDeviceName::parse(becomes).map_err(|error| refused(&format!("{}.name", key()), error.to_string()));
        let device = NetDeviceMove {
            name: name.parse().map_err(|error: crate::spec::SpecError| refused(&key(), error.to_string()))?,
            becomes: becomes?,
        };
        let is_fixed = matches!(device.becomes, NewDeviceName::Fixed(_));
        if let Some(other) = devices.iter().find(|other| is_fixed && other.becomes == device.becomes) {
            let reason = format!("`{}` gets the name `{}` already", other.name, device.becomes);
            return Err(refused(&format!("{}.name", key()), reason));
        }
        devices.push(device);
    }
    Ok(devices)
}
