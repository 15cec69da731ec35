//! The requests of rtnetlink(7) for interfaces that share a parent, and for parents of ours.

use std::io;
use std::os::fd::RawFd;

use rtnetlink::packet_route::link::{InfoKind, IpVlanFlags, LinkMessage};
use rtnetlink::{LinkDummy, LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVlan};

use super::settings::Sharing;
use crate::network::NetworkError;
use crate::network::link::{Links, errno, failed};
use crate::spec::MacAddress;

/// Is a container's interface that is to be born inside its namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest<'a> {
    pub(super) name: &'a str,
    /// The parent's index, on the host.
    pub(super) parent: u32,
    pub(super) sharing: Sharing,
    pub(super) mac: Option<MacAddress>,
    pub(super) mtu: Option<u32>,
    pub(super) netns: RawFd,
}

/// Makes the message for a container's interface.
fn guest_message(guest: &Guest<'_>) -> LinkMessage {
    match guest.sharing {
        Sharing::Macvlan(mode) => finish(LinkMacVlan::new(guest.name, guest.parent, mode), guest),
        Sharing::Ipvlan(mode, flags) => {
            let builder = LinkIpVlan::new(guest.name, guest.parent, mode);
            // Kernels before 4.15 know no flags; the usual needs none.
            finish(if flags == IpVlanFlags::empty() { builder } else { builder.flag(flags) }, guest)
        }
    }
}

fn finish<T>(builder: LinkMessageBuilder<T>, guest: &Guest<'_>) -> LinkMessage {
    let mut builder = builder.setns_by_fd(guest.netns);
    if let Some(mac) = guest.mac {
        builder = builder.address(mac.octets().to_vec());
    }
    if let Some(mtu) = guest.mtu {
        builder = builder.mtu(mtu);
    }
    builder.build()
}

/// Names what a kernel needs for a kind of interface: the module, and what it is called in the kernel's configuration.
fn needs(kind: &InfoKind) -> (&'static str, &'static str) {
    match kind {
        InfoKind::MacVlan => ("macvlan", "CONFIG_MACVLAN"),
        InfoKind::IpVlan => ("ipvlan", "CONFIG_IPVLAN"),
        InfoKind::Vlan => ("8021q", "CONFIG_VLAN_8021Q"),
        _ => ("veth", "CONFIG_VETH"),
    }
}

/// Turns the kernel's answer into an error that says what the kernel lacks, where that is it.
fn answer(kind: &InfoKind, operation: String, source: io::Error) -> NetworkError {
    if !is_unsupported(&source) {
        return failed(operation, source);
    }
    let (module, config) = needs(kind);
    NetworkError::Unsupported { operation, module, config }
}

fn is_unsupported(error: &io::Error) -> bool {
    // Linux answers EOPNOTSUPP; ENOTSUP is the same number there.
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

impl Links {
    /// Asks the kernel whether it has interfaces of this kind, and makes none: a request that names no parent is refused with
    /// EINVAL by whoever knows the kind. The kernel loads a module for it by itself where there is one.
    pub(super) async fn probe_kind(&self, kind: InfoKind, operation: String) -> Result<(), NetworkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind.clone()).build();
        match self.handle.link().add(message).execute().await.map_err(errno) {
            Err(source) if is_unsupported(&source) => Err(answer(&kind, operation, source)),
            _ => Ok(()),
        }
    }

    /// Makes a container's interface, born inside its namespace.
    pub(super) async fn add_guest(&self, guest: &Guest<'_>) -> io::Result<()> {
        self.handle.link().add(guest_message(guest)).execute().await.map_err(errno)
    }

    /// Makes a VLAN's interface above `base`.
    pub(super) async fn add_vlan(&self, name: &str, base: u32, id: u16) -> Result<(), NetworkError> {
        let request = self.handle.link().add(LinkVlan::new(name, base, id).build()).execute();
        request.await.map_err(|error| answer(&InfoKind::Vlan, format!("make the VLAN interface {name}"), errno(error)))
    }

    /// Makes an interface that leads nowhere: a dummy, or one end of a pair where the kernel has no dummies. Both are raised: an
    /// end whose other end is down has no carrier, and what shares it has none either.
    pub(super) async fn add_isolated(&self, name: &str, peer: &str) -> Result<(), NetworkError> {
        let operation = || format!("make the interface {name}");
        let dummy = self.handle.link().add(LinkDummy::new(name).up().build()).execute().await.map_err(errno);
        match dummy {
            Err(source) if is_unsupported(&source) => {}
            other => return other.map_err(|source| failed(operation(), source)),
        }
        let pair = self.handle.link().add(LinkVeth::new(name, peer).up().build()).execute();
        pair.await.map_err(|error| answer(&InfoKind::Veth, operation(), errno(error)))?;
        match self.find(peer).await? {
            Some(peer) => self.raise(&peer).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_core::Emitable;
    use rtnetlink::packet_route::link::{IpVlanMode, MacVlanMode};

    fn guest(sharing: Sharing) -> Guest<'static> {
        let mac = Some("02:42:0a:00:00:02".parse().unwrap());
        Guest { name: "eth0", parent: 7, sharing, mac, mtu: Some(1400), netns: 5 }
    }

    fn bytes(message: &LinkMessage) -> Vec<u8> {
        let mut buffer = vec![0; message.buffer_len()];
        message.emit(&mut buffer);
        buffer
    }

    fn contains(message: &LinkMessage, part: &[u8]) -> bool {
        bytes(message).windows(part.len()).any(|window| window == part)
    }

    /// An attribute as the kernel reads it: length, type, content (netlink(7)).
    fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + content.len()).unwrap();
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), content].concat()
    }

    #[test]
    fn a_macvlan_says_parent_namespace_and_mode() {
        let message = guest_message(&guest(Sharing::Macvlan(MacVlanMode::Private)));
        // linux/if_link.h: IFLA_ADDRESS 1, IFLA_IFNAME 3, IFLA_MTU 4, IFLA_LINK 5, IFLA_NET_NS_FD 28, IFLA_INFO_KIND 1,
        // IFLA_MACVLAN_MODE 1 with MACVLAN_MODE_PRIVATE 1.
        for part in [
            attribute(1, &[0x02, 0x42, 0x0a, 0, 0, 2]),
            attribute(3, b"eth0\0"),
            attribute(4, &1400_u32.to_ne_bytes()),
            attribute(5, &7_u32.to_ne_bytes()),
            attribute(28, &5_u32.to_ne_bytes()),
            attribute(1, b"macvlan\0"),
            attribute(1, &1_u32.to_ne_bytes()),
        ] {
            assert!(contains(&message, &part), "{part:?} in {message:?}");
        }
    }

    #[test]
    fn an_ipvlan_has_no_ethernet_address_of_its_own() {
        let sharing = Sharing::Ipvlan(IpVlanMode::L3S, IpVlanFlags::Vepa);
        let message = guest_message(&Guest { mac: None, mtu: None, ..guest(sharing) });
        // IFLA_IPVLAN_MODE 1 with IPVLAN_MODE_L3S 2, IFLA_IPVLAN_FLAGS 2 with IPVLAN_F_VEPA 2.
        for part in [attribute(1, b"ipvlan\0"), attribute(1, &2_u16.to_ne_bytes()), attribute(2, &2_u16.to_ne_bytes())]
        {
            assert!(contains(&message, &part), "{part:?} in {message:?}");
        }
        assert!(!contains(&message, &attribute(1, &[0x02, 0x42, 0x0a, 0, 0, 2])));
    }

    #[test]
    fn a_kernel_without_the_kind_is_told_by_module_and_option() {
        let error = answer(&InfoKind::IpVlan, "make it".to_owned(), io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        let text = format!("{error} {}", error.hint().unwrap());
        assert!(text.contains("modprobe ipvlan") && text.contains("CONFIG_IPVLAN"), "{text}");
        let other = answer(&InfoKind::IpVlan, "make it".to_owned(), io::Error::from_raw_os_error(libc::EBUSY));
        assert!(matches!(other, NetworkError::Netlink { .. }), "{other}");
    }
}
