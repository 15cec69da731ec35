//! The host's rules for veth uplinks: source NAT of the router's address, published ports, and a way through FORWARD.
//!
//! They are the firewall's, made by its back end beside those of our bridges: to the host an uplink is one more interface with a
//! subnet behind it, that of the router's address. So they come back after a flush, too.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::PolycubeError;
use super::conf::Conf;
use super::record::{NetworkState, Records};
use crate::network::NetworkError;
use crate::network::cni::PortMap;
use crate::network::firewall::Firewall;
use crate::network::state::StateDir;

/// Is what the firewall has to know of an uplink.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::network) struct UplinkRules {
    /// The host's end of the pair.
    pub(in crate::network) link: String,
    /// The router's address: all that comes from there has it, and published ports lie there.
    pub(in crate::network) router: Ipv4Addr,
    /// Published ports that packets can be led from.
    pub(in crate::network) ports: Vec<PortMap>,
}

/// Lists the uplinks that are on record below a run directory.
pub(in crate::network) fn uplinks(run_dir: &Path) -> Result<Vec<UplinkRules>, NetworkError> {
    let networks = Records::below(run_dir).others("").map_err(|error| NetworkError::Config {
        network: "polycube".to_owned(),
        reason: format!("its records cannot be read: {error}"),
    })?;
    Ok(networks.iter().filter_map(rules_of).collect())
}

/// Returns where the host reaches the published ports of a network: its router's address.
pub(in crate::network) fn published_at(run_dir: &Path, network: &str) -> Option<Ipv4Addr> {
    let networks = Records::below(run_dir).others("").ok()?;
    let state = networks.into_iter().find(|state| state.network == network)?;
    state.uplink.map(|uplink| uplink.router.ip())
}

fn rules_of(state: &NetworkState) -> Option<UplinkRules> {
    let uplink = state.uplink.as_ref()?;
    // The kernel leads no packet of 127.0.0.0/8 out of lo; sockets of the engine's carry those.
    let is_led = |port: &PortMap| match port.host_ip {
        Some(IpAddr::V4(address)) => !address.is_loopback(),
        Some(IpAddr::V6(address)) => address.is_unspecified(),
        None => true,
    };
    let ports = state.live().flat_map(|attachment| &attachment.ports).map(|entry| entry.port.clone()).filter(is_led);
    Some(UplinkRules { link: uplink.host_link.clone(), router: uplink.router.ip(), ports: ports.collect() })
}

/// Makes the host's rules follow the records, which have been written.
pub(super) fn apply(run_dir: &Path, conf: &Conf) -> Result<(), PolycubeError> {
    let state = StateDir::open(run_dir)?;
    let firewall = Firewall::new(conf.firewall.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| PolycubeError::File {
        operation: "start a runtime for",
        path: run_dir.to_owned(),
        source,
    })?;
    Ok(runtime.block_on(firewall.reconcile(&state, true))?)
}
