//! Addresses: from the plugin that the configuration names, as any plugin delegates (SPEC.md section 4), or our own.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::Value;

use super::PolycubeError;
use super::conf::Conf;
use super::kernel::{self, Hop};
use super::record::{NetworkState, Records};
use super::uplink::CHOICE;
use crate::network::cni::{
    AttachResult, Dns, ErrorObject, IpConfig, Operation, Parameters, PluginRequest, SpecVersion, VersionObject,
};
use crate::network::ipam::{choose_address, choose_subnet, pools_text, refusal};

/// Is what a container gets.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) address: Ipv4Network,
    pub(super) gateway: Ipv4Addr,
    pub(super) routes: Vec<Hop>,
    pub(super) dns: Dns,
}

/// Makes sure that the network's side of the router has an address: the configuration's, or one that is chosen now and
/// written down.
pub(super) fn lan_address(
    records: &Records,
    conf: &Conf,
    state: &mut NetworkState,
) -> Result<Ipv4Network, PolycubeError> {
    if let Some(lan) = conf.lan {
        if conf.ipam.is_none() {
            state.subnet = conf.subnet;
        }
        return Ok(lan);
    }
    if let Some(plugin) = &conf.ipam {
        let reason = format!("say `subnet` and `gateway`: the router needs an address before {plugin} gives any");
        return Err(PolycubeError::Configuration(reason));
    }
    let subnet = match state.subnet {
        Some(subnet) => subnet,
        None => {
            let _lock = records.lock(CHOICE)?;
            let others = records.others(&conf.hash)?;
            let mut taken: Vec<_> = others.iter().filter_map(|other| other.subnet).map(IpNetwork::V4).collect();
            taken.extend(kernel::host_subnets()?.into_iter().map(IpNetwork::V4));
            let none = || PolycubeError::Configuration(format!("no free subnet in {}; say `subnet`", pools_text()));
            let subnet = choose_subnet(&taken).ok_or_else(none)?;
            state.subnet = Some(subnet);
            records.save(&conf.hash, state)?;
            subnet
        }
    };
    let first = Ipv4Addr::from_bits(subnet.network().to_bits() + 1);
    Ipv4Network::new(first, subnet.prefix()).map_err(|error| PolycubeError::Configuration(error.to_string()))
}

/// Gives an attachment its address.
pub(super) fn add(
    conf: &Conf,
    call: &Parameters,
    request: &PluginRequest,
    state: &NetworkState,
    lan: Ipv4Network,
) -> Result<Given, PolycubeError> {
    let mut given = match &conf.ipam {
        Some(plugin) => {
            let answer = delegate(plugin, call, request)?;
            let answer = AttachResult::from_json(answer, request.version)
                .map_err(|error| PolycubeError::IpamAnswer { plugin: plugin.clone(), reason: error.to_string() })?;
            from_result(plugin, &answer, lan)?
        }
        None => Given {
            address: own_address(conf, state, lan)?,
            gateway: lan.ip(),
            routes: Vec::new(),
            dns: Dns::default(),
        },
    };
    if given.routes.is_empty() && conf.default_route {
        let everywhere = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0);
        let everywhere = everywhere.map_err(|error| PolycubeError::Configuration(error.to_string()))?;
        given.routes.push(Hop { to: everywhere, via: Some(given.gateway) });
    }
    if let Some(dns) = &conf.dns {
        given.dns = dns.clone();
    }
    Ok(given)
}

fn from_result(plugin: &str, result: &AttachResult, lan: Ipv4Network) -> Result<Given, PolycubeError> {
    let wrong = |reason: String| PolycubeError::IpamAnswer { plugin: plugin.to_owned(), reason };
    let first: Option<(&IpConfig, Ipv4Network)> = result.ips.iter().find_map(|ip| match ip.address {
        IpNetwork::V4(address) => Some((ip, address)),
        IpNetwork::V6(_) => None,
    });
    let (ip, address) = first.ok_or_else(|| wrong("it gave no IPv4 address".to_owned()))?;
    if !lan.contains(address.ip()) {
        return Err(wrong(format!("it gave {address}, which the router at {lan} does not reach")));
    }
    let gateway = ip.gateway.and_then(kernel::ipv4).unwrap_or(lan.ip());
    let hop = |route: &crate::network::cni::Route| match route.dst {
        IpNetwork::V4(to) => Some(Hop { to, via: Some(route.gw.and_then(kernel::ipv4).unwrap_or(gateway)) }),
        IpNetwork::V6(_) => None,
    };
    Ok(Given { address, gateway, routes: result.routes.iter().filter_map(hop).collect(), dns: result.dns.clone() })
}

/// Gives the lowest free address, or the one asked for. The record is under the network's lock, so nobody else does.
fn own_address(conf: &Conf, state: &NetworkState, lan: Ipv4Network) -> Result<Ipv4Network, PolycubeError> {
    let subnet = Ipv4Network::new(lan.network(), lan.prefix());
    let subnet = subnet.map_err(|error| PolycubeError::Configuration(error.to_string()))?;
    let (all, gateway) = (IpNetwork::V4(subnet), IpAddr::V4(lan.ip()));
    let taken: BTreeSet<IpAddr> =
        state.attachments.values().filter_map(|attachment| attachment.address).map(IpAddr::V4).collect();
    let address = match conf.wanted {
        Some(wanted) => {
            let given = IpAddr::V4(wanted);
            let reason = if taken.contains(&given) { Some("it is taken") } else { refusal(all, gateway, given) };
            if let Some(reason) = reason {
                return Err(PolycubeError::Configuration(format!("ips: {wanted} of {subnet}: {reason}")));
            }
            wanted
        }
        None => choose_address(all, all, gateway, &taken)
            .and_then(kernel::ipv4)
            .ok_or_else(|| PolycubeError::Configuration(format!("no free address in {subnet}")))?,
    };
    Ipv4Network::new(address, subnet.prefix()).map_err(|error| PolycubeError::Configuration(error.to_string()))
}

/// Gives an attachment's address back; that it has none is fine with every plugin.
pub(super) fn remove(conf: &Conf, call: &Parameters, request: &PluginRequest) -> Result<(), PolycubeError> {
    match &conf.ipam {
        Some(plugin) => delegate(plugin, call, request).map(drop),
        // The record is the lease.
        None => Ok(()),
    }
}

/// Asks the plugin whether the address is still given.
pub(super) fn check(conf: &Conf, call: &Parameters, request: &PluginRequest) -> Result<(), PolycubeError> {
    remove(conf, call, request)
}

/// Runs the plugin with our own environment and standard input, but for the version where it knows only the one before.
fn delegate(plugin: &str, call: &Parameters, request: &PluginRequest) -> Result<Value, PolycubeError> {
    let program = find(plugin, &call.path)?;
    let mut config = request.config.clone();
    if request.version > SpecVersion::V1_0_0 && !speaks(plugin, &program, request.version)? {
        config.insert("cniVersion".to_owned(), Value::from(SpecVersion::V1_0_0.as_str()));
    }
    run(plugin, &program, call, &Value::Object(config))
}

fn speaks(plugin: &str, program: &Path, version: SpecVersion) -> Result<bool, PolycubeError> {
    let call = Parameters {
        operation: Operation::Version,
        container_id: String::new(),
        netns: String::new(),
        ifname: String::new(),
        args: String::new(),
        path: String::new(),
    };
    let answer = run(plugin, program, &call, &serde_json::json!({"cniVersion": version}))?;
    let versions: VersionObject = serde_json::from_value(answer)
        .map_err(|error| PolycubeError::IpamAnswer { plugin: plugin.to_owned(), reason: error.to_string() })?;
    Ok(versions.known().contains(&version))
}

fn find(plugin: &str, path: &str) -> Result<PathBuf, PolycubeError> {
    if plugin.contains('/') || plugin.starts_with('.') {
        return Err(PolycubeError::Configuration(format!("ipam: `{}` is no plugin's name", plugin.escape_debug())));
    }
    let directories = path.split(':').filter(|directory| !directory.is_empty());
    directories
        .map(|directory| Path::new(directory).join(plugin))
        .find(|program| program.is_file())
        .ok_or_else(|| PolycubeError::Configuration(format!("ipam: there is no plugin {plugin} in CNI_PATH ({path})")))
}

fn run(plugin: &str, program: &Path, call: &Parameters, config: &Value) -> Result<Value, PolycubeError> {
    let failed = |source| PolycubeError::IpamProcess { plugin: plugin.to_owned(), source };
    let mut child = Command::new(program)
        .envs(call.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that refuses early closes its end: its own words say more than our EPIPE.
        let _ = stdin.write_all(config.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let wrong = |reason: String| PolycubeError::IpamAnswer { plugin: plugin.to_owned(), reason };
    if !output.status.success() {
        let error = serde_json::from_slice::<ErrorObject>(&output.stdout);
        let error = error.map_err(|_| wrong(format!("it ended with {} and no error object", output.status)))?;
        return Err(PolycubeError::Ipam { plugin: plugin.to_owned(), error });
    }
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).map_err(|error| wrong(format!("it printed no JSON: {error}")))
}

/// Turns what was given into the addresses and routes of a result.
pub(super) fn into_result(given: &Given, interface: usize, result: &mut AttachResult) {
    result.ips.push(IpConfig {
        address: IpNetwork::V4(given.address),
        gateway: Some(IpAddr::V4(given.gateway)),
        interface: Some(interface),
    });
    let routes = given.routes.iter();
    result
        .routes
        .extend(routes.map(|hop| crate::network::cni::Route::new(IpNetwork::V4(hop.to), hop.via.map(IpAddr::V4))));
    result.dns = given.dns.clone();
}
