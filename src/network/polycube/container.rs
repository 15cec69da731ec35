//! The container's end: the pair, its address and its routes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::PolycubeError;
use super::ipam::Given;
use super::kernel::{self, Cable, LinkState};
use crate::namespaces::network::in_namespace;
use crate::network::NetworkError;
use crate::spec::MacAddress;

/// Opens a call's namespace.
pub(super) fn open_netns(path: &str) -> Result<OwnedFd, PolycubeError> {
    let opened = File::open(path).map(OwnedFd::from);
    opened.map_err(|error| PolycubeError::Environment(format!("cannot open CNI_NETNS `{path}`: {error}")))
}

/// Says whether two descriptors are of one namespace: the host's own is no container's.
pub(super) fn is_own(netns: BorrowedFd<'_>) -> Result<bool, PolycubeError> {
    let own = crate::namespaces::network::open_current()?;
    let identity = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    match (identity(netns), identity(own.as_fd())) {
        (Ok(one), Ok(other)) => Ok(one == other),
        _ => Ok(false),
    }
}

/// Makes the pair and sets up the inner end. The near end's name belongs to this attachment alone, so one that is there is left over.
pub(super) fn plug_in(
    netns: BorrowedFd<'_>,
    near: &str,
    ifname: &str,
    given: &Given,
    mac: Option<MacAddress>,
    mtu: Option<u32>,
) -> Result<(), PolycubeError> {
    kernel::delete(near)?;
    // An address that passes to the next container keeps its Ethernet address, so no neighbour's ARP cache is wrong.
    let far_mac = Some(mac.unwrap_or_else(|| MacAddress::of(given.address.ip())));
    let cable = Cable { near, far: ifname, far_mac, netns: Some(netns), mtu };
    kernel::add_cable(&cable)?.map_err(|source| match source.raw_os_error() {
        Some(libc::EEXIST) => already_there(ifname),
        _ => NetworkError::Netlink { operation: format!("make the veth pair {near} and {ifname}"), source }.into(),
    })?;
    in_namespace(netns, || {
        crate::namespaces::network::raise_loopback_here()?;
        kernel::configure(ifname, given.address)?;
        kernel::add_routes(ifname, &given.routes)
    })?
}

/// Says that the container has such an interface.
pub(super) fn already_there(ifname: &str) -> PolycubeError {
    PolycubeError::Environment(format!("CNI_IFNAME: the container has an interface {ifname} already"))
}

/// Compares the container's end with what it should be; says the first difference.
pub(super) fn difference(
    netns: BorrowedFd<'_>,
    near: &str,
    ifname: &str,
    given: &Given,
    mac: Option<&str>,
) -> Result<Option<String>, PolycubeError> {
    let Some(inner) = kernel::look_up_inside(netns, ifname)? else {
        return Ok(Some(format!("the container has no interface {ifname}")));
    };
    if let Some(words) = address_difference(&inner, ifname, given, mac) {
        return Ok(Some(words));
    }
    let present = in_namespace(netns, || kernel::routes_of(inner.index))??;
    if let Some(missing) = given.routes.iter().find(|hop| !present.contains(hop)) {
        return Ok(Some(format!("{ifname} has lost its route to {}", missing.to)));
    }
    // polycubed may have taken the near end elsewhere; then its port tells of it.
    match (kernel::look_up(near)?, inner.peer) {
        (Some(outer), Some(peer)) if outer.index != peer => {
            Ok(Some(format!("{near} is not the other end of {ifname}")))
        }
        (_, None) => Ok(Some(format!("{ifname} is no end of a pair"))),
        _ => Ok(None),
    }
}

fn address_difference(inner: &LinkState, ifname: &str, given: &Given, mac: Option<&str>) -> Option<String> {
    if !inner.is_up {
        return Some(format!("{ifname} is down"));
    }
    if !inner.addresses.contains(&given.address) {
        return Some(format!("{ifname} has lost its address {}", given.address));
    }
    match (mac, &inner.mac) {
        (Some(wanted), Some(found)) if !wanted.eq_ignore_ascii_case(found) => {
            Some(format!("{ifname} has the hardware address {found}, not {wanted}"))
        }
        _ => None,
    }
}
