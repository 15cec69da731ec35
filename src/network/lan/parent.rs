//! The interface of the host that a network's containers share: chosen, made where it is to be ours, taken away again.

use rtnetlink::packet_route::link::InfoKind;

use super::settings::{LanSettings, ParentName, Sharing};
use crate::network::NetworkError;
use crate::network::bridge::alias;
use crate::network::config::{DriverKind, NetworkConfig};
use crate::network::link::{LinkView, Links};
use crate::network::record::{LanRecord, NetworkRecord, OwnParent};
use crate::network::subnets::choose_subnets;
use crate::spec::{InterfaceName, SpecError};

/// Chooses what the configuration leaves open: parent, subnet, gateway.
///
/// The subnet of a network on the host's own LAN is one that the host has a route to; so only other networks of ours are in the
/// way of one that was asked for.
pub(in crate::network) async fn allocate(
    links: &Links,
    config: &NetworkConfig,
    id: &str,
    others: &[NetworkRecord],
) -> Result<LanRecord, NetworkError> {
    let settings = LanSettings::check(config)?;
    let kind = kind_of(settings.sharing);
    links.probe_kind(kind, format!("make the network {} with the driver {}", config.name, config.driver)).await?;
    let (parent, own) = choose_parent(links, &settings, config, id, others).await?;
    check_sharing(&settings, config, &parent, others)?;
    let of_network = |other: &NetworkRecord| {
        let whose = format!("which is of the network {}", other.config.name);
        other.subnets().iter().map(|subnet| (subnet.subnet, whose.clone())).collect::<Vec<_>>()
    };
    let taken: Vec<_> = others.iter().flat_map(of_network).collect();
    let routes: Vec<_> = links.routes().await?.into_iter().map(|route| route.to).collect();
    let subnets = choose_subnets(&settings.base.pools, &taken, &routes, &config.name)?;
    Ok(LanRecord { parent, own, subnets })
}

fn kind_of(sharing: Sharing) -> InfoKind {
    match sharing {
        Sharing::Macvlan(_) => InfoKind::MacVlan,
        Sharing::Ipvlan(..) => InfoKind::IpVlan,
    }
}

async fn choose_parent(
    links: &Links,
    settings: &LanSettings,
    config: &NetworkConfig,
    id: &str,
    others: &[NetworkRecord],
) -> Result<(InterfaceName, Option<OwnParent>), NetworkError> {
    let wrong = |reason: String| NetworkError::Config { network: config.name.clone(), reason };
    let ParentName::Interface { name, vlan } = &settings.parent else {
        let text = format!("dm-{}", id.get(..12).unwrap_or(id));
        let name = text.parse().map_err(|error: SpecError| wrong(error.to_string()))?;
        return Ok((name, Some(OwnParent::Isolated)));
    };
    // A VLAN that another network of ours made is shared, and goes with the last of them.
    let shared = others.iter().filter_map(|other| other.lan.as_ref()).find(|lan| lan.parent == *name);
    if let Some(own) = shared.and_then(|lan| lan.own.clone()) {
        return Ok((name.clone(), Some(own)));
    }
    if links.find(name.as_str()).await?.is_some() {
        return Ok((name.clone(), None));
    }
    let Some((base, id)) = vlan else {
        return Err(wrong(format!(
            "the host has no interface `{name}` to be its parent; `ip link` shows what there is"
        )));
    };
    if links.find(base.as_str()).await?.is_none() {
        let reason = format!(
            "the host has neither an interface `{name}` nor a `{base}` to make it of; `ip link` shows what there is"
        );
        return Err(wrong(reason));
    }
    Ok((name.clone(), Some(OwnParent::Vlan { base: base.clone(), id: *id })))
}

/// Refuses a parent whose other users would be in the way: the kernel knows one kind of sharing a parent, and with passthru one
/// user.
fn check_sharing(
    settings: &LanSettings,
    config: &NetworkConfig,
    parent: &InterfaceName,
    others: &[NetworkRecord],
) -> Result<(), NetworkError> {
    let on_it = |other: &&NetworkRecord| other.lan.as_ref().is_some_and(|lan| lan.parent == *parent);
    for other in others.iter().filter(on_it) {
        let theirs = LanSettings::check(&other.config)?;
        let whose = &other.config.name;
        let reason = match (theirs.sharing, settings.sharing) {
            (theirs, ours) if theirs.is_passthru() || ours.is_passthru() => {
                format!(
                    "with macvlan_mode `passthru` an interface has one user, and {parent} is the parent of the network {whose}, too"
                )
            }
            (Sharing::Macvlan(_), Sharing::Macvlan(_)) => continue,
            (Sharing::Ipvlan(a, _), Sharing::Ipvlan(b, _)) if a == b => continue,
            (Sharing::Ipvlan(..), Sharing::Ipvlan(..)) => {
                format!("{parent} is the parent of the network {whose}, whose ipvlan_mode is another")
            }
            _ => format!(
                "{parent} is the parent of the network {whose}, whose driver is {}: an interface has guests of one kind",
                other.config.driver
            ),
        };
        return Err(NetworkError::Config { network: config.name.clone(), reason });
    }
    Ok(())
}

/// Makes the parent where it is ours and missing, and makes sure that it can be one.
pub(super) async fn make_sure(
    links: &Links,
    network: &NetworkRecord,
    lan: &LanRecord,
) -> Result<LinkView, NetworkError> {
    let name = lan.parent.as_str();
    let clash = |reason: String| NetworkError::LinkClash { name: name.to_owned(), reason };
    let link = match (links.find(name).await?, &lan.own) {
        (Some(link), _) => link,
        (None, None) => return Err(clash(format!("the parent of the network {} is gone", network.config.name))),
        (None, Some(own)) => make(links, lan, own).await?,
    };
    if let Some(own) = &lan.own {
        let is_isolated = *own == OwnParent::Isolated;
        // Others share a VLAN; what leads nowhere bears the name of its network.
        if is_isolated && link.alias.is_empty() {
            links.set_alias(&link, &alias(&network.config.name)).await?;
        }
        if !link.up {
            links.raise(&link).await?;
        }
    } else if !link.up {
        return Err(clash(format!(
            "the parent of the network {} is down: `ip link set {name} up`",
            network.config.name
        )));
    }
    let bridges: Vec<_> = links.list().await?.into_iter().filter(|other| other.is_bridge).collect();
    match bridges.iter().find(|bridge| link.master == Some(bridge.index)) {
        Some(bridge) => {
            Err(clash(format!("it is a port of the bridge {0} and can be no parent; take {0} itself", bridge.name)))
        }
        None => Ok(link),
    }
}

async fn make(links: &Links, lan: &LanRecord, own: &OwnParent) -> Result<LinkView, NetworkError> {
    let name = lan.parent.as_str();
    let gone = |name: &str| NetworkError::LinkClash { name: name.to_owned(), reason: "it is not there".to_owned() };
    match own {
        OwnParent::Isolated => links.add_isolated(name, &peer_name(name)).await?,
        OwnParent::Vlan { base, id } => {
            let base = links.find(base.as_str()).await?.ok_or_else(|| gone(base.as_str()))?;
            links.add_vlan(name, base.index, *id).await?;
        }
    }
    links.find(name).await?.ok_or_else(|| gone(name))
}

/// Names the other end, where a pair stands in for a dummy.
fn peer_name(parent: &str) -> String {
    parent.replacen("dm-", "dp-", 1)
}

/// Takes a parent of ours away, unless another network shares it.
pub(super) async fn remove(
    links: &Links,
    network: &NetworkRecord,
    others: &[NetworkRecord],
) -> Result<(), NetworkError> {
    let Some(lan) = network.lan.as_ref().filter(|lan| lan.own.is_some()) else { return Ok(()) };
    let shares = |other: &NetworkRecord| {
        other.id != network.id && other.lan.as_ref().is_some_and(|other| other.parent == lan.parent)
    };
    if others.iter().any(shares) {
        return Ok(());
    }
    match links.find(lan.parent.as_str()).await? {
        Some(link) => links.delete(&link).await,
        None => Ok(()),
    }
}

/// Says whether networks of this driver have a parent.
pub(in crate::network) fn has_parent(driver: DriverKind) -> bool {
    matches!(driver, DriverKind::Macvlan | DriverKind::Ipvlan)
}
