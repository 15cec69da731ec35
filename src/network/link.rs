//! The kernel's links, addresses and routes, by requests of rtnetlink(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::pin;

use ipnetwork::IpNetwork;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio_stream::{Stream, StreamExt};

use super::NetworkError;
use super::devices::as_asked;
use crate::spec::MacAddress;

/// Asks one network namespace's kernel side for links, addresses and routes.
#[derive(Clone, Debug)]
pub(super) struct Links {
    pub(super) handle: Handle,
}

/// Is what the kernel tells of one link.
#[derive(Clone, Debug)]
pub(super) struct LinkView {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_bridge: bool,
    pub(super) up: bool,
    /// Packets pass it: it is up, and so is what it is connected to.
    pub(super) running: bool,
    /// Its hardware address.
    pub(super) address: Vec<u8>,
    pub(super) group: u32,
    pub(super) alias: String,
    pub(super) master: Option<u32>,
    pub(super) mtu: u32,
}

/// Is one route of the host: where to, and through which link.
#[derive(Clone, Debug)]
pub(super) struct HostRoute {
    pub(super) to: IpNetwork,
    pub(super) link: Option<u32>,
}

/// Is a veth pair that is to be born: one end here, the other inside a namespace.
#[derive(Debug)]
pub(super) struct VethPair<'a> {
    pub(super) host_name: &'a str,
    pub(super) bridge: u32,
    pub(super) group: u32,
    pub(super) netns: BorrowedFd<'a>,
    pub(super) inner_name: &'a str,
    pub(super) inner_mac: MacAddress,
    pub(super) mtu: Option<u32>,
}

impl Links {
    /// Looks a link up by name.
    pub(super) async fn find(&self, name: &str) -> Result<Option<LinkView>, NetworkError> {
        let operation = || format!("look up the interface {name}");
        let stream = self.handle.link().get().match_name(name.to_owned()).execute();
        match collect(stream).await {
            Ok(messages) => Ok(messages.into_iter().next().map(view)),
            Err(source) if source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(source) => Err(failed(operation(), source)),
        }
    }

    /// Lists all links.
    pub(super) async fn list(&self) -> Result<Vec<LinkView>, NetworkError> {
        let stream = self.handle.link().get().execute();
        let messages = collect(stream).await.map_err(|source| failed("list interfaces", source))?;
        Ok(messages.into_iter().map(view).collect())
    }

    /// Lists the addresses of one link, without those of IPv6 that are good on the link alone: the kernel makes these itself.
    pub(super) async fn addresses(&self, index: u32) -> Result<Vec<IpNetwork>, NetworkError> {
        let stream = self.handle.address().get().set_link_index_filter(index).execute();
        let messages = collect(stream).await.map_err(|source| failed("list addresses", source))?;
        // Of IPv6 there is no local address beside the one of the subnet, unless there is a peer.
        let address_of = |attributes: &[AddressAttribute]| {
            let local = attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            local.or_else(|| {
                attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            })
        };
        Ok(messages
            .iter()
            .filter(|message| message.header.index == index)
            .filter_map(|message| {
                let address = address_of(&message.attributes)?;
                IpNetwork::new(address, message.header.prefix_len).ok()
            })
            .filter(|address| !matches!(address.ip(), IpAddr::V6(address) if address.is_unicast_link_local()))
            .collect())
    }

    /// Lists the addresses of one link that have no end, of any scope, as they can be given again.
    pub(super) async fn permanent_addresses(&self, index: u32) -> Result<Vec<AddressMessage>, NetworkError> {
        let stream = self.handle.address().get().set_link_index_filter(index).execute();
        let messages = collect(stream).await.map_err(|source| failed("list addresses", source))?;
        let permanent = |message: &AddressMessage| {
            message.header.index == index && message.header.flags.contains(AddressHeaderFlags::Permanent)
        };
        Ok(messages.into_iter().filter(permanent).map(as_asked).collect())
    }

    /// Gives a link an address that [`Links::permanent_addresses`] read.
    pub(super) async fn give_back(&self, address: AddressMessage, link: &str) -> Result<(), NetworkError> {
        let unset = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut request = self.handle.address().add(address.header.index, unset, 0).replace();
        *request.message_mut() = address;
        request.execute().await.map_err(|error| failed(format!("give {link} its addresses again"), errno(error)))
    }

    /// Lists the routes of all tables, without default routes, multicast, loopback and link-local ones of IPv6.
    pub(super) async fn routes(&self) -> Result<Vec<HostRoute>, NetworkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            routes.extend(self.route_messages(family).await?.iter().filter_map(host_route));
        }
        Ok(routes)
    }

    async fn route_messages(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, NetworkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let stream = self.handle.route().get(message).execute();
        match collect(stream).await {
            // A kernel without IPv6 has no routes of it.
            Err(source) if family == AddressFamily::Inet6 && source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Ok(Vec::new())
            }
            other => other.map_err(|source| failed("list routes", source)),
        }
    }

    /// Returns the largest packet that the link of the default route takes, of IPv4 or else of IPv6; `None` where there is no
    /// such route.
    pub(super) async fn uplink_mtu(&self) -> Result<Option<u32>, NetworkError> {
        let mut found = None;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            if found.is_none() {
                found = self.route_messages(family).await?.iter().filter_map(default_route).min();
            }
        }
        let Some((_, index)) = found else { return Ok(None) };
        let links = self.list().await?;
        Ok(links.iter().find(|link| link.index == index).map(|link| link.mtu).filter(|mtu| (68..=65535).contains(mtu)))
    }

    /// Makes a bridge, raised, with an Ethernet address that its ports do not change.
    pub(super) async fn add_bridge(
        &self,
        name: &str,
        mac: Option<MacAddress>,
        mtu: Option<u32>,
    ) -> Result<(), NetworkError> {
        let mut builder = LinkBridge::new(name);
        if let Some(mac) = mac {
            builder = builder.address(mac.octets().to_vec());
        }
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        let request = self.handle.link().add(builder.build()).execute();
        request.await.map_err(|error| failed(format!("make the bridge {name}"), errno(error)))
    }

    /// Writes a text into the link's alias, where `ip link` shows it.
    pub(super) async fn set_alias(&self, link: &LinkView, alias: &str) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(link.index).alias(alias).build();
        self.change(message, || format!("set the alias of {}", link.name)).await
    }

    /// Raises a link.
    pub(super) async fn raise(&self, link: &LinkView) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        self.change(message, || format!("raise the interface {}", link.name)).await
    }

    /// Makes a link a port of a bridge.
    pub(super) async fn plug_into(&self, link: &LinkView, bridge: &LinkView) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(link.index).controller(bridge.index).build();
        self.change(message, || format!("make {} a port of {}", link.name, bridge.name)).await
    }

    /// Makes a link again a port of what it was a port of.
    pub(super) async fn plug_back(&self, link: &LinkView) -> Result<(), NetworkError> {
        let Some(master) = link.master else { return Ok(()) };
        let message = LinkUnspec::new_with_index(link.index).controller(master).build();
        self.change(message, || format!("make {} a port again", link.name)).await
    }

    /// Describes the move of a link into a namespace, under a name and a number that it is to have there.
    pub(super) fn moving(&self, index: u32, name: &str, becomes: u32, netns: BorrowedFd<'_>) -> LinkMessage {
        LinkUnspec::new_with_index(index)
            .name(name)
            .setns_by_fd(netns.as_raw_fd())
            .append_extra_attribute(LinkAttribute::NewIfIndex(becomes.cast_signed()))
            .build()
    }

    /// Sets the link's hardware address.
    pub(super) async fn set_address(&self, link: &LinkView, address: Vec<u8>) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(link.index).address(address).build();
        self.change(message, || format!("set the hardware address of {}", link.name)).await
    }

    /// Makes the link's port unable to reach other such ports of the same bridge.
    pub(super) async fn isolate_port(&self, link: &LinkView) -> Result<(), NetworkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::default()
            .index(link.index)
            .set_port_kind(InfoPortKind::Bridge)
            .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)]))
            .build();
        self.change(message, || format!("isolate the bridge port {}", link.name)).await
    }

    /// Puts a link into a group, with which it is to go; one that is gone already, with the namespace of its other end, is fine.
    pub(super) async fn set_group(&self, link: &LinkView, group: u32) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(link.index).link_group(group).build();
        tolerate_absence(self.handle.link().change(message).execute().await)
            .map_err(|source| failed(format!("set the group of {}", link.name), source))
    }

    /// Makes a veth pair: one request gives birth to both ends, the inner one inside the namespace under its final name,
    /// and enslaves and raises the host's.
    pub(super) async fn add_veth(&self, pair: &VethPair<'_>) -> io::Result<()> {
        let mut inner = LinkUnspec::new_with_name(pair.inner_name)
            .address(pair.inner_mac.octets().to_vec())
            .setns_by_fd(pair.netns.as_raw_fd());
        let mut outer = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(pair.host_name)
            .controller(pair.bridge)
            .link_group(pair.group)
            .up();
        if let Some(mtu) = pair.mtu {
            inner = inner.mtu(mtu);
            outer = outer.mtu(mtu);
        }
        let message = outer.set_info_data(InfoData::Veth(InfoVeth::Peer(inner.build()))).build();
        self.handle.link().add(message).execute().await.map_err(errno)
    }

    /// Gives a link an address. One of IPv6 is good at once: that nobody else has it is known from the records, so no second
    /// is spent on asking for duplicates (RFC 4862, 5.4).
    pub(super) async fn add_address(&self, link: &LinkView, address: IpNetwork) -> Result<(), NetworkError> {
        let mut request = self.handle.address().add(link.index, address.ip(), address.prefix());
        if address.is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(|error| failed(format!("give {address} to {}", link.name), errno(error)))
    }

    /// Makes the default route of the gateway's family.
    pub(super) async fn add_default_route(&self, gateway: IpAddr) -> Result<(), NetworkError> {
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
        };
        let request = self.handle.route().add(message).replace().execute();
        request.await.map_err(|error| failed(format!("route everything through {gateway}"), errno(error)))
    }

    /// Makes a default route of the family of `any` that leads through the link and to no gateway.
    pub(super) async fn add_link_route(&self, link: &LinkView, any: IpAddr) -> Result<(), NetworkError> {
        let message = match any {
            IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().output_interface(link.index).build(),
            IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().output_interface(link.index).build(),
        };
        let request = self.handle.route().add(message).replace().execute();
        request.await.map_err(|error| failed(format!("route everything through {}", link.name), errno(error)))
    }

    /// Deletes a link; one that is gone already is fine.
    pub(super) async fn delete(&self, link: &LinkView) -> Result<(), NetworkError> {
        tolerate_absence(self.handle.link().del(link.index).execute().await)
            .map_err(|source| failed(format!("delete the interface {}", link.name), source))
    }

    /// Deletes all links of a group in one request, which waits for one grace period and not for one a link.
    pub(super) async fn delete_group(&self, group: u32) -> Result<(), NetworkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::default().link_group(group).build();
        let request = rtnetlink::LinkDelRequest::new_with_message(self.handle.clone(), message);
        tolerate_absence(request.execute().await)
            .map_err(|source| failed(format!("delete the interfaces of group {group:#x}"), source))
    }

    pub(super) async fn change(
        &self,
        message: LinkMessage,
        operation: impl FnOnce() -> String,
    ) -> Result<(), NetworkError> {
        let request = self.handle.link().change(message).execute();
        request.await.map_err(|error| failed(operation(), errno(error)))
    }
}

fn tolerate_absence(done: Result<(), rtnetlink::Error>) -> io::Result<()> {
    match done.map_err(errno) {
        Err(source) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

pub(super) async fn collect<T>(stream: impl Stream<Item = Result<T, rtnetlink::Error>>) -> io::Result<Vec<T>> {
    let mut stream = pin!(stream);
    let mut found = Vec::new();
    while let Some(item) = stream.next().await {
        found.push(item.map_err(errno)?);
    }
    Ok(found)
}

fn view(message: LinkMessage) -> LinkView {
    let mut view = LinkView {
        index: message.header.index,
        name: String::new(),
        is_bridge: false,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Running),
        address: Vec::new(),
        group: 0,
        alias: String::new(),
        master: None,
        mtu: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => view.name = name,
            LinkAttribute::Address(address) => view.address = address,
            LinkAttribute::IfAlias(alias) => view.alias = alias,
            LinkAttribute::Mtu(mtu) => view.mtu = mtu,
            LinkAttribute::Group(group) => view.group = group,
            LinkAttribute::Controller(index) => view.master = Some(index),
            LinkAttribute::LinkInfo(infos) => view.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
            _ => {}
        }
    }
    view
}

fn host_route(message: &RouteMessage) -> Option<HostRoute> {
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let to = IpNetwork::new(to, message.header.destination_prefix_length).ok()?;
    let on_link = matches!(to.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
    let counts = to.prefix() > 0 && !to.ip().is_multicast() && !to.ip().is_loopback() && !on_link;
    counts.then_some(HostRoute { to, link })
}

/// Returns metric and link of a default route of the main table.
fn default_route(message: &RouteMessage) -> Option<(u32, u32)> {
    let header = &message.header;
    if header.destination_prefix_length != 0 || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let number = |wanted: fn(&RouteAttribute) -> Option<u32>| message.attributes.iter().find_map(wanted);
    let metric =
        number(|attribute| if let RouteAttribute::Priority(metric) = attribute { Some(*metric) } else { None });
    let link = number(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None });
    Some((metric.unwrap_or(0), link?))
}

/// Takes the errno out of a netlink error.
pub(super) fn errno(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

pub(super) fn failed(operation: impl Into<String>, source: io::Error) -> NetworkError {
    NetworkError::Netlink { operation: operation.into(), source }
}
