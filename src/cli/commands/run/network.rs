//! Options of `run` about networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::cli::args::{RunOptions, UsageError, shown};
use crate::cli::cni;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::engine::NetworkWish;
use crate::engine::foreground::{DEFAULT_NETWORK, PASSING};
use crate::network::cni::{CniError, OPTION_LIST, OPTION_PATH, load_list};
use crate::network::{DriverKind, NetworkConfig, NetworkError, PortMapping, Protocol};
use crate::spec::{HostAddress, NetworkNamespace};

/// More ports than this in one option are a mistake: each costs a rule.
const MOST_PORTS: u16 = 1024;

/// Is what a container is to have of networks.
#[derive(Debug, PartialEq)]
pub(super) struct Networks {
    pub(super) namespace: NetworkNamespace,
    pub(super) wishes: Vec<NetworkWish>,
}

/// Reads `--network`, `--publish` and `--ip`.
pub(super) fn networks(options: &RunOptions) -> Result<Networks, UsageError> {
    let ports: Vec<PortMapping> =
        options.publish.iter().map(|text| ports(text)).collect::<Result<Vec<_>, _>>()?.concat();
    let ipv4 = options.ip.as_deref().map(address).transpose()?;
    let mode = options.network.as_deref().unwrap_or(DEFAULT_NETWORK);
    let namespace = match mode {
        "none" => NetworkNamespace::Private,
        "host" => NetworkNamespace::Host,
        _ if mode.starts_with("container:") || mode.starts_with("service:") => {
            return Err(super::request::wrong(format!("`--network {}` is not there yet", shown(mode)))
                .hint("in a compose file: `network_mode: service:NAME`"));
        }
        "" => return Err(super::request::wrong("`--network` names no network")),
        network => {
            let ifname =
                "eth0".parse().map_err(|error: crate::spec::SpecError| super::request::wrong(error.to_string()))?;
            let network = if network == "default" { DEFAULT_NETWORK } else { network }.to_owned();
            let wish = NetworkWish {
                network,
                ifname,
                aliases: Vec::new(),
                links: BTreeMap::new(),
                ipv4,
                mac: None,
                default_route: true,
                ports,
            };
            return Ok(Networks { namespace: NetworkNamespace::Private, wishes: vec![wish] });
        }
    };
    if !ports.is_empty() || ipv4.is_some() {
        let option = if ports.is_empty() { "--ip" } else { "--publish" };
        return Err(super::request::wrong(format!("`{option}` has no meaning with `--network {mode}`")));
    }
    Ok(Networks { namespace, wishes: Vec::new() })
}

/// Finds the CNI configurations that networks are named by, where there is no network of such a name. A PATH is one, too: then the
/// network has the name that stands in the file.
pub(super) fn configurations(wishes: &mut [NetworkWish], settings: &Settings) -> Result<Vec<NetworkConfig>, CliError> {
    let mut found = Vec::new();
    for wish in wishes.iter_mut().filter(|wish| wish.network != DEFAULT_NETWORK) {
        settings.directories.create()?;
        let networks = crate::network::Networks::open(settings.directories.run())?;
        // One that another run has made goes with the last of them.
        if networks.find(&wish.network).is_ok_and(|known| !known.config.labels.contains_key(PASSING)) {
            continue;
        }
        let here = std::env::current_dir()
            .map_err(|source| CliError::Read { file: "the working directory".to_owned(), source })?;
        let path = match cni::find(&wish.network, &here, settings) {
            Ok(path) => path,
            // Then it is a network, or none.
            Err(CliError::Network(NetworkError::Cni(error))) if is_elsewhere(&error, &networks, &wish.network) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if wish.network.contains('/') {
            wish.network = load_list(&path).map_err(NetworkError::from)?.name;
        }
        let mut options = BTreeMap::from([(OPTION_LIST.to_owned(), path.display().to_string())]);
        options.extend(settings.cni_path.iter().map(|path| (OPTION_PATH.to_owned(), path.clone())));
        let (name, driver) = (wish.network.clone(), DriverKind::Cni);
        found.push(NetworkConfig { name, driver, options, ..NetworkConfig::default() });
    }
    Ok(found)
}

/// Says whether a name that no configuration has may still be a network's. A file that cannot be read may be the one that is meant.
fn is_elsewhere(error: &CniError, networks: &crate::network::Networks, name: &str) -> bool {
    match error {
        CniError::NoList { unread, .. } => unread.is_empty() || networks.find(name).is_ok(),
        CniError::Value(_) => true,
        _ => false,
    }
}

fn address(text: &str) -> Result<Ipv4Addr, UsageError> {
    text.parse().map_err(|_| super::request::wrong(format!("`--ip {}` is not an IPv4 address", shown(text))))
}

/// Reads `NAME:ADDRESS`, or `NAME:host-gateway`.
pub(super) fn extra_hosts(list: &[String]) -> Result<Vec<(String, HostAddress)>, UsageError> {
    list.iter()
        .map(|text| {
            let parts = text.split_once(['=', ':']).filter(|(name, _)| !name.is_empty());
            let bare = |ip: &str| match ip {
                "host-gateway" => Some(HostAddress::HostGateway),
                ip => ip.trim_start_matches('[').trim_end_matches(']').parse().ok().map(HostAddress::Ip),
            };
            let entry = parts.and_then(|(name, ip)| Some((name.to_owned(), bare(ip)?)));
            let sound = entry.filter(|(name, _)| !name.contains(|c: char| c.is_whitespace() || c.is_control()));
            sound.ok_or_else(|| {
                super::request::wrong(format!("`--add-host {}` is not NAME:ADDRESS or NAME:host-gateway", shown(text)))
            })
        })
        .collect()
}

/// Reads `[ADDRESS:][HOST-PORT:]PORT[/PROTOCOL]`, ports also as ranges.
fn ports(text: &str) -> Result<Vec<PortMapping>, UsageError> {
    let bad = |reason: &str| {
        super::request::wrong(format!("`--publish {}`: {reason}", shown(text)))
            .hint("--publish 8080:80, 127.0.0.1:8080:80/tcp, 3000-3005:3000-3005, 53/udp")
    };
    let (rest, protocol) = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err(bad("the protocol is not tcp or udp")),
    };
    let (rest, inside) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, outside) = match rest.rsplit_once(':') {
        Some((ip, outside)) => (ip, outside),
        None => ("", rest),
    };
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    let host_ip: Option<IpAddr> = match ip {
        "" => None,
        ip => Some(ip.parse().map_err(|_| bad("it does not begin with an address"))?),
    };
    let ports = "ports are numbers from 1 to 65535";
    let (first, last) = range(inside).ok_or_else(|| bad(ports))?;
    let outside = if outside.is_empty() { None } else { Some(range(outside).ok_or_else(|| bad(ports))?) };
    if last - first >= MOST_PORTS {
        return Err(bad("it names more than 1024 ports"));
    }
    // One port of the container may go to any one of a range of the host.
    let any_of = outside.filter(|(low, high)| first == last && low < high).map(|(_, high)| high);
    if any_of.is_none() && outside.is_some_and(|(low, high)| high - low != last - first) {
        return Err(bad("the two ranges differ in length"));
    }
    let mapping = |container_port: u16| PortMapping {
        host_ip,
        host_port: outside.map(|(low, _)| low + (container_port - first)),
        host_port_to: any_of,
        container_port,
        protocol,
    };
    Ok((first..=last).map(mapping).collect())
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_ports(text: &str) -> String {
        let one = |p: &PortMapping| {
            let ip = p.host_ip.map(|ip| format!("{ip}|")).unwrap_or_default();
            format!("{ip}{}>{}/{}", p.host_port.unwrap_or(0), p.container_port, p.protocol)
        };
        ports(text).map_or_else(|error| error.message, |list| list.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ports_are_docker_s() {
        for (text, wanted) in [
            ("80", "0>80/tcp"),
            ("8080:80/udp", "8080>80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080>80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|0>80/tcp"),
            ("[::1]:80:81/tcp", "::1|80>81/tcp"),
            ("80-81:90-91", "80>90/tcp 81>91/tcp"),
        ] {
            assert_eq!(shown_ports(text), wanted, "{text}");
        }
        for bad in ["", "0", "x", "1:2:3:4", "80/sctp", "70000", "80-82:90-91", "9-8", "1-65535", "+80", "-1"] {
            assert!(ports(bad).is_err(), "{bad}: {}", shown_ports(bad));
        }
    }

    #[test]
    fn networks_are_the_default_none_host_or_a_name() {
        let of = |network: Option<&str>| {
            networks(&RunOptions { network: network.map(str::to_owned), ..RunOptions::default() })
        };
        assert_eq!(of(None).unwrap().wishes[0].network, "bridge");
        assert_eq!(of(Some("p_front")).unwrap().wishes[0].network, "p_front");
        assert_eq!(of(Some("none")).unwrap(), Networks { namespace: NetworkNamespace::Private, wishes: Vec::new() });
        assert_eq!(of(Some("host")).unwrap().namespace, NetworkNamespace::Host);
        assert!(of(Some("container:x")).is_err());
        let options = RunOptions { network: Some("host".into()), publish: vec!["80".into()], ..RunOptions::default() };
        assert!(networks(&options).is_err());
    }

    #[test]
    fn hosts_are_names_with_addresses() {
        let list = |text: &str| extra_hosts(&[text.to_owned()]);
        assert_eq!(list("db:10.0.0.1").unwrap()[0], ("db".to_owned(), HostAddress::Ip("10.0.0.1".parse().unwrap())));
        assert_eq!(list("db:::1").unwrap()[0].1, HostAddress::Ip("::1".parse().unwrap()));
        assert_eq!(list("db=host-gateway").unwrap()[0].1, HostAddress::HostGateway);
        assert!(list("db").is_err() && list("a b:1.2.3.4").is_err() && list(":1.2.3.4").is_err());
    }
}
