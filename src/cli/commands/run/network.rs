//! Options of `run` about networks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::publish;
use super::request::wrong;
use crate::cli::args::{RunOptions, UsageError, shown};
use crate::cli::cni;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::engine::NetworkWish;
use crate::engine::foreground::{DEFAULT_NETWORK, PASSING};
use crate::network::cni::{CniError, OPTION_LIST, OPTION_PATH, load_list};
use crate::network::{Attachment, DriverKind, NetworkConfig, NetworkError, PortMapping};
use crate::spec::{MacAddress, NamespaceSource, ObjectName, SpecError, is_host_name};

/// Is what a container is to have of networks.
#[derive(Debug, PartialEq)]
pub(super) struct Networks {
    pub(super) namespace: NamespaceSource,
    /// The container whose network it is.
    pub(super) shared_with: Option<String>,
    pub(super) wishes: Vec<NetworkWish>,
}

/// Is what one `--network` says.
#[derive(Debug, Default)]
struct Place {
    network: String,
    aliases: Vec<String>,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    mac: Option<MacAddress>,
    gateway_priority: i32,
}

/// Reads `--network`, `--publish` and what is said of the first network: `--ip`, `--ip6`, `--mac-address`, `--network-alias`, `--link`.
pub(super) fn networks(options: &RunOptions) -> Result<Networks, UsageError> {
    let ports: Vec<PortMapping> =
        options.publish.iter().map(|text| publish::ports(text)).collect::<Result<Vec<_>, _>>()?.concat();
    let mut modes = options.network.clone();
    if modes.is_empty() {
        modes.push(DEFAULT_NETWORK.to_owned());
    }
    if let Some((namespace, shared_with)) = namespace(&modes)? {
        return match refused(options) {
            Some(option) => {
                Err(wrong(format!("`{option}` has no meaning with `--network {}`", shown(&modes.join(" ")))))
            }
            None => Ok(Networks { namespace, shared_with, wishes: Vec::new() }),
        };
    }
    let mut places: Vec<Place> = modes.iter().map(|text| place(text)).collect::<Result<_, _>>()?;
    for (index, place) in places.iter().enumerate() {
        if places.iter().take(index).any(|other| other.network == place.network) {
            return Err(wrong(format!("`--network {}` is given twice", shown(&place.network))));
        }
    }
    let links = links(&options.link)?;
    first_place(&mut places, options)?;
    // As Docker chooses: the highest priority, and of equal ones the first by name.
    let gateway = places.iter().min_by_key(|place| (Reverse(place.gateway_priority), &place.network));
    let gateway = gateway.map(|place| place.network.clone());
    let wish = |(index, place): (usize, Place)| {
        let default_route = Some(&place.network) == gateway.as_ref();
        Ok(NetworkWish {
            default_route,
            ifname: format!("eth{index}").parse().map_err(|error: SpecError| wrong(error.to_string()))?,
            aliases: place.aliases,
            links: if index == 0 { links.clone() } else { BTreeMap::new() },
            ipv4: place.ipv4,
            ipv6: place.ipv6,
            link_local: Vec::new(),
            mac: place.mac,
            bandwidth: crate::spec::Bandwidth::default(),
            ports: if default_route { ports.clone() } else { Vec::new() },
            network: place.network,
        })
    };
    let wishes = places.into_iter().enumerate().map(wish).collect::<Result<_, UsageError>>()?;
    Ok(Networks { namespace: NamespaceSource::Private, shared_with: None, wishes })
}

/// Finds out whether there is to be no network, the host's, or another container's.
fn namespace(modes: &[String]) -> Result<Option<(NamespaceSource, Option<String>)>, UsageError> {
    let whose = |mode: &str| mode.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned);
    if let Some(mode) = modes.iter().find(|mode| mode.starts_with("service:") || *mode == "container:") {
        return Err(wrong(format!("`--network {}` names no container", shown(mode))).hint("container:NAME"));
    }
    match modes.iter().find(|mode| matches!(mode.as_str(), "none" | "host") || whose(mode).is_some()) {
        Some(mode) if modes.len() > 1 => Err(wrong(format!("`--network {}` stands alone", shown(mode)))),
        Some(mode) if mode == "host" => Ok(Some((NamespaceSource::Host, None))),
        // Which container that is, is looked up at the start.
        Some(mode) => Ok(Some((NamespaceSource::Private, whose(mode)))),
        None => Ok(None),
    }
}

/// Names an option that is about a network, where there is none.
fn refused(options: &RunOptions) -> Option<&'static str> {
    let given = [
        ("--publish", !options.publish.is_empty()),
        ("--ip", options.ip.is_some()),
        ("--ip6", options.ip6.is_some()),
        ("--mac-address", options.mac_address.is_some()),
        ("--network-alias", !options.network_alias.is_empty()),
        ("--link", !options.link.is_empty()),
    ];
    given.iter().find(|(_, given)| *given).map(|(option, _)| *option)
}

/// `NAME`, or `name=NAME,alias=…,ip=…,ip6=…,mac-address=…,gw-priority=…`.
fn place(text: &str) -> Result<Place, UsageError> {
    let bad = |reason: String| wrong(format!("`--network {}`: {reason}", shown(text)));
    let mut place = Place::default();
    let is_long =
        text.split_once('=').is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    if !is_long {
        place.network = text.to_owned();
    }
    for pair in text.split(',').filter(|_| is_long) {
        let (key, value) = pair.split_once('=').ok_or_else(|| bad(format!("`{}` is not KEY=VALUE", shown(pair))))?;
        match key {
            "name" => place.network = value.to_owned(),
            "alias" => place.aliases.push(alias(value)?),
            "ip" => place.ipv4 = Some(address("--ip", "IPv4", value)?),
            "ip6" => place.ipv6 = Some(address("--ip6", "IPv6", value)?),
            "mac-address" => place.mac = Some(mac(value)?),
            "gw-priority" => {
                place.gateway_priority =
                    value.parse().map_err(|_| bad(format!("gw-priority is a number, not `{}`", shown(value))))?;
            }
            _ => {
                let known = "known are name, alias, ip, ip6, mac-address and gw-priority";
                return Err(bad(format!("there is no `{}`", shown(key))).hint(known));
            }
        }
    }
    if place.network == "default" {
        place.network = DEFAULT_NETWORK.to_owned();
    }
    if place.network.is_empty() { Err(wrong("`--network` names no network")) } else { Ok(place) }
}

/// Options of their own are about the first network; nothing may be said twice.
fn first_place(places: &mut [Place], options: &RunOptions) -> Result<(), UsageError> {
    let Some(first) = places.first_mut() else { return Ok(()) };
    let twice = |option: &str| wrong(format!("`{option}` and the first `--network` both say it: give one of them"));
    if let Some(text) = &options.ip {
        let said = first.ipv4.replace(address("--ip", "IPv4", text)?);
        said.map_or(Ok(()), |_| Err(twice("--ip")))?;
    }
    if let Some(text) = &options.ip6 {
        let said = first.ipv6.replace(address("--ip6", "IPv6", text)?);
        said.map_or(Ok(()), |_| Err(twice("--ip6")))?;
    }
    if let Some(text) = &options.mac_address {
        let said = first.mac.replace(mac(text)?);
        said.map_or(Ok(()), |_| Err(twice("--mac-address")))?;
    }
    if !options.network_alias.is_empty() && !first.aliases.is_empty() {
        return Err(twice("--network-alias"));
    }
    for text in &options.network_alias {
        first.aliases.push(alias(text)?);
    }
    Ok(())
}

/// `CONTAINER[:NAME]`: the name that the container alone knows, and whose it is.
fn links(list: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    let link = |text: &String| {
        let (theirs, own) = text.split_once(':').unwrap_or((text, text));
        let sound = is_host_name(own, 253) && theirs.parse::<ObjectName>().is_ok();
        let bad = || wrong(format!("`--link {}` is not CONTAINER or CONTAINER:NAME", shown(text)));
        sound.then(|| (own.to_owned(), theirs.to_owned())).ok_or_else(bad)
    };
    list.iter().map(link).collect()
}

fn alias(text: &str) -> Result<String, UsageError> {
    let bad = || wrong(format!("`--network-alias {}` is not a host name", shown(text)));
    is_host_name(text, 253).then(|| text.to_owned()).ok_or_else(bad)
}

fn mac(text: &str) -> Result<MacAddress, UsageError> {
    text.parse().map_err(|error: SpecError| wrong(format!("`--mac-address {}`: {error}", shown(text))))
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

/// Refuses links to containers that are not on the network, as Docker does.
pub(super) fn check_links(wishes: &[NetworkWish], settings: &Settings) -> Result<(), CliError> {
    for NetworkWish { network, links, .. } in wishes.iter().filter(|wish| !wish.links.is_empty()) {
        let networks = crate::network::Networks::open(settings.directories.run())?;
        let places = networks.attachments(network).unwrap_or_default();
        for theirs in links.values() {
            let is_it = |place: &Attachment| {
                place.container_name == *theirs || (theirs.len() >= 12 && place.container.as_str().starts_with(theirs))
            };
            if !places.iter().any(is_it) {
                let message = format!("`--link {theirs}`: no such container runs on the network `{network}`");
                let there = places.iter().map(|place| place.container_name.as_str()).collect::<Vec<_>>().join(", ");
                let hint = if there.is_empty() { "nobody does".to_owned() } else { format!("there are: {there}") };
                return Err(wrong(message).hint(hint).into());
            }
        }
    }
    Ok(())
}

/// Says whether a name that no configuration has may still be a network's. A file that cannot be read may be the one that is meant.
fn is_elsewhere(error: &CniError, networks: &crate::network::Networks, name: &str) -> bool {
    match error {
        CniError::NoList { unread, .. } => unread.is_empty() || networks.find(name).is_ok(),
        CniError::Value(_) => true,
        _ => false,
    }
}

fn address<T: FromStr>(option: &str, family: &str, text: &str) -> Result<T, UsageError> {
    text.parse().map_err(|_| wrong(format!("`{option} {}` is not an {family} address", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_the_default_none_host_or_a_name() {
        let of = |network: Option<&str>| {
            networks(&RunOptions { network: network.map(str::to_owned).into_iter().collect(), ..RunOptions::default() })
        };
        assert_eq!(of(None).unwrap().wishes[0].network, "bridge");
        assert_eq!(of(Some("p_front")).unwrap().wishes[0].network, "p_front");
        assert_eq!(
            of(Some("none")).unwrap(),
            Networks { namespace: NamespaceSource::Private, shared_with: None, wishes: Vec::new() }
        );
        assert_eq!(of(Some("host")).unwrap().namespace, NamespaceSource::Host);
        assert_eq!(of(Some("container:x")).unwrap().shared_with.as_deref(), Some("x"));
        assert!(of(Some("container:")).is_err() && of(Some("service:x")).is_err());
        let options = RunOptions { network: vec!["host".into()], publish: vec!["80".into()], ..RunOptions::default() };
        assert!(networks(&options).is_err());
    }

    #[test]
    fn what_is_said_of_networks_is_docker_s() {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let of = |names: &[&str], change: fn(&mut RunOptions)| {
            let mut options = RunOptions { network: own(names), publish: own(&["80"]), ..RunOptions::default() };
            change(&mut options);
            networks(&options).map(|networks| networks.wishes)
        };
        let wishes = of(&["b", "name=a,alias=x,alias=y,ip=10.0.0.9,mac-address=02:00:00:00:00:01"], |options| {
            options.network_alias = vec!["web".to_owned()];
            options.link = vec!["p-db-1:db".to_owned(), "cache".to_owned()];
            options.ip = Some("10.1.0.9".to_owned());
        });
        let wishes = wishes.unwrap();
        let [b, a] = wishes.as_slice() else { panic!("{wishes:?}") };
        assert_eq!((b.network.as_str(), b.ifname.as_str(), &b.aliases[..]), ("b", "eth0", &own(&["web"])[..]));
        assert_eq!((b.links["db"].as_str(), b.links["cache"].as_str()), ("p-db-1", "cache"));
        assert_eq!((b.ipv4, a.ipv4), (Some([10, 1, 0, 9].into()), Some([10, 0, 0, 9].into())));
        assert_eq!((&a.aliases[..], a.mac.is_some(), a.links.len()), (&own(&["x", "y"])[..], true, 0));
        assert_eq!((a.default_route, a.ports.len(), b.default_route, b.ports.len()), (true, 1, false, 0));
        let wishes = of(&["name=a", "name=b,gw-priority=1"], |_| ()).unwrap();
        assert_eq!((wishes[0].default_route, wishes[1].default_route), (false, true));
        for names in [&["a", "a"][..], &["host", "a"], &["a", "none"], &["name=a,x=y"], &["name="], &["name=a,ip=x"]] {
            assert!(of(names, |_| ()).is_err(), "{names:?}");
        }
        assert!(of(&["name=a,ip=10.0.0.9"], |options| options.ip = Some("10.0.0.8".to_owned())).is_err());
        assert!(of(&["name=a,alias=x"], |options| options.network_alias = vec!["y".to_owned()]).is_err());
        assert!(of(&["a"], |options| options.mac_address = Some("01:00:00:00:00:01".to_owned())).is_err());
        assert!(of(&["a"], |options| options.link = vec!["a b".to_owned()]).is_err());
        assert!(of(&["none"], |options| options.publish.clear()).is_ok());
        assert!(of(&["none"], |_| ()).is_err());
    }
}
