//! The kernel's side: pairs, addresses and routes, here and inside a container, asked for and waited for.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::{IpNetwork, Ipv4Network};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::PolycubeError;
use crate::namespaces::network::in_namespace;
use crate::network::NetworkError;
use crate::network::connection::with_links;
use crate::network::link::{Links, collect, errno, failed};
use crate::spec::MacAddress;

/// Is a link as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    pub(super) index: u32,
    pub(super) mac: Option<String>,
    /// The index of the pair's other end, in that end's namespace.
    pub(super) peer: Option<u32>,
    pub(super) mtu: Option<u32>,
    pub(super) is_up: bool,
    pub(super) addresses: Vec<Ipv4Network>,
}

/// Is a veth pair that is to be made: the first end here, the second here or inside a namespace.
#[derive(Debug)]
pub(super) struct Cable<'a> {
    pub(super) near: &'a str,
    pub(super) far: &'a str,
    pub(super) far_mac: Option<MacAddress>,
    pub(super) netns: Option<BorrowedFd<'a>>,
    pub(super) mtu: Option<u32>,
}

/// Is one route of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) to: Ipv4Network,
    pub(super) via: Option<Ipv4Addr>,
}

/// Does `work` with a netlink connection of the calling thread's namespace.
fn ask<T, F: Future<Output = Result<T, NetworkError>>>(work: impl FnOnce(Links) -> F) -> Result<T, PolycubeError> {
    Ok(with_links(work)??)
}

/// Looks at a link; `None` where there is none of this name.
pub(super) fn look_up(name: &str) -> Result<Option<LinkState>, PolycubeError> {
    ask(|links| async move { state_of(&links, name).await })
}

/// As [`look_up`], inside a namespace.
pub(super) fn look_up_inside(netns: BorrowedFd<'_>, name: &str) -> Result<Option<LinkState>, PolycubeError> {
    in_namespace(netns, || look_up(name))?
}

async fn state_of(links: &Links, name: &str) -> Result<Option<LinkState>, NetworkError> {
    let stream = links.handle.link().get().match_name(name.to_owned()).execute();
    let message = match collect(stream).await {
        Ok(messages) => messages.into_iter().next(),
        Err(source) if source.raw_os_error() == Some(libc::ENODEV) => None,
        Err(source) => return Err(failed(format!("look up the interface {name}"), source)),
    };
    let Some(message) = message else { return Ok(None) };
    let mut state = view(message);
    let addresses = links.addresses(state.index).await?;
    state.addresses = addresses.into_iter().filter_map(network_v4).collect();
    Ok(Some(state))
}

fn view(message: LinkMessage) -> LinkState {
    let mut state = LinkState {
        index: message.header.index,
        mac: None,
        peer: None,
        mtu: None,
        is_up: message.header.flags.contains(LinkFlags::Up),
        addresses: Vec::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => {
                let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                state.mac = Some(digits.join(":"));
            }
            LinkAttribute::Link(index) => state.peer = Some(index),
            LinkAttribute::Mtu(mtu) => state.mtu = Some(mtu),
            _ => {}
        }
    }
    state
}

/// Makes a pair, the near end up.
///
/// # Errors
/// EEXIST where a name is taken, on either side.
pub(super) fn add_cable(cable: &Cable<'_>) -> Result<io::Result<()>, PolycubeError> {
    let made = with_links(|links| async move {
        let mut far = LinkUnspec::new_with_name(cable.far);
        let mut near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth).name(cable.near).up();
        if let Some(mac) = cable.far_mac {
            far = far.address(mac.octets().to_vec());
        }
        if let Some(netns) = cable.netns {
            far = far.setns_by_fd(netns.as_raw_fd());
        }
        if let Some(mtu) = cable.mtu {
            far = far.mtu(mtu);
            near = near.mtu(mtu);
        }
        let message = near.set_info_data(InfoData::Veth(InfoVeth::Peer(far.build()))).build();
        links.handle.link().add(message).execute().await.map_err(errno)
    })?;
    Ok(made)
}

/// Gives a link an address, if it does not have it yet, and raises it.
pub(super) fn configure(name: &str, address: Ipv4Network) -> Result<(), PolycubeError> {
    ask(|links| async move {
        let gone = || failed(format!("set up the interface {name}"), io::Error::from_raw_os_error(libc::ENODEV));
        let state = state_of(&links, name).await?.ok_or_else(gone)?;
        let link = links.find(name).await?.ok_or_else(gone)?;
        if !state.addresses.contains(&address) {
            links.add_address(&link, address.into()).await?;
        }
        if state.is_up { Ok(()) } else { links.raise(&link).await }
    })
}

/// Adds routes through a link; one that is there already was first, and stays.
pub(super) fn add_routes(name: &str, hops: &[Hop]) -> Result<(), PolycubeError> {
    ask(|links| async move {
        let Some(link) = links.find(name).await? else {
            return Err(failed(format!("route through {name}"), io::Error::from_raw_os_error(libc::ENODEV)));
        };
        for hop in hops {
            let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(hop.to.network(), hop.to.prefix())
                .output_interface(link.index);
            if let Some(via) = hop.via {
                route = route.gateway(via);
            }
            match links.handle.route().add(route.build()).execute().await.map_err(errno) {
                Err(source) if source.raw_os_error() == Some(libc::EEXIST) => {}
                Err(source) => return Err(failed(format!("route {} through {name}", hop.to), source)),
                Ok(()) => {}
            }
        }
        Ok(())
    })
}

/// Makes the host forget that an address of one of its links is its own: packets to it are then sent, not kept.
///
/// The router's end of an uplink has the router's address, because the router takes it from there. Both ends of that pair may
/// lie in one namespace, and a host sends nothing to, and takes nothing from, an address that it has itself
/// (`RTN_LOCAL` in the table `local`).
///
/// # Errors
/// The errno of a netlink request.
pub fn disown(name: &str, address: Ipv4Network) -> Result<(), PolycubeError> {
    ask(|links| async move {
        let Some(link) = links.find(name).await? else { return Ok(()) };
        let local = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(u32::from(libc::RT_TABLE_LOCAL))
            .kind(RouteType::Local)
            .destination_prefix(address.ip(), 32)
            .output_interface(link.index)
            .build();
        let connected = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address.network(), address.prefix())
            .output_interface(link.index)
            .build();
        for mut message in [local, connected] {
            // Whatever scope and origin: the kernel made them.
            message.header.scope = rtnetlink::packet_route::route::RouteScope::NoWhere;
            message.header.protocol = rtnetlink::packet_route::route::RouteProtocol::Unspec;
            match links.handle.route().del(message).execute().await.map_err(errno) {
                Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(failed(format!("take {address} from the host"), source));
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Deletes a link; one that is gone is fine.
pub(super) fn delete(name: &str) -> Result<(), PolycubeError> {
    ask(|links| async move {
        match links.find(name).await? {
            Some(link) => links.delete(&link).await,
            None => Ok(()),
        }
    })
}

/// Lists the host's subnets in use: all routes but default ones.
pub(super) fn host_subnets() -> Result<Vec<Ipv4Network>, PolycubeError> {
    ask(|links| async move { Ok(links.routes().await?.into_iter().filter_map(|route| network_v4(route.to)).collect()) })
}

/// Lists the links that carry a default route, of IPv4 or IPv6, in any table.
pub(super) fn default_route_links() -> Result<Vec<u32>, PolycubeError> {
    ask(|links| async move {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let routes = collect(links.handle.route().get(message).execute()).await;
            // A kernel without IPv6 has no routes of it.
            let routes = if family == AddressFamily::Inet6 {
                routes.unwrap_or_default()
            } else {
                routes.map_err(|source| failed("list routes", source))?
            };
            let defaults = routes
                .iter()
                .filter(|route| route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast);
            found.extend(defaults.flat_map(outgoing));
        }
        Ok(found)
    })
}

fn outgoing(route: &RouteMessage) -> Vec<u32> {
    route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// Lists the routes of the calling thread's namespace that lead through one link, default ones included.
pub(super) fn routes_of(index: u32) -> Result<Vec<Hop>, PolycubeError> {
    ask(|links| async move {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let routes = collect(links.handle.route().get(message).execute()).await;
        let routes = routes.map_err(|source| failed("list routes", source))?;
        Ok(routes.iter().filter(|route| outgoing(route).contains(&index)).filter_map(hop).collect())
    })
}

fn hop(route: &RouteMessage) -> Option<Hop> {
    let mut hop = Hop { to: Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).ok()?, via: None };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                hop.to = Ipv4Network::new(*address, route.header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => hop.via = Some(*address),
            _ => {}
        }
    }
    Some(hop)
}

/// Takes IPv4 out of an address of either kind.
fn network_v4(network: IpNetwork) -> Option<Ipv4Network> {
    match network {
        IpNetwork::V4(network) => Some(network),
        IpNetwork::V6(_) => None,
    }
}

/// Returns the address if it is one of IPv4.
pub(super) fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
