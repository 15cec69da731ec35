//! A namespace in place of one that is gone, or whose interface has lost its addresses.
//!
//! The reference plugins bridge and ptp read from the container's interface, in DEL, which masquerading rules they have to take
//! away, though their result would tell them. Without a namespace, or where somebody inside has removed the address, they take
//! none away and say that all is well (containernetworking/plugins, `cmdDel`; known of 1.1.1). So they are called with a namespace
//! in which an interface of that name has those addresses.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ipnetwork::IpNetwork;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::{LinkBridge, LinkUnspec};
use serde_json::Value;

use super::list::PluginConfig;
use super::result::AttachResult;
use crate::namespaces::network::{in_namespace, open_current};
use crate::network::NetworkError;
use crate::network::connection::with_links;
use crate::network::link::{collect, errno, failed};

/// Is such a namespace; it goes with its descriptor.
#[derive(Debug)]
pub(super) struct StandIn(OwnedFd);

/// Says whether a plugin makes rules that it finds again by the container's interface alone.
pub(super) fn reads_the_interface(plugin: &PluginConfig) -> bool {
    let is_set = |key: &str| plugin.0.get(key).and_then(Value::as_bool) == Some(true);
    matches!(plugin.plugin_type(), "bridge" | "ptp") && (is_set("ipMasq") || is_set("macspoofchk"))
}

/// Says whether the namespace at this path has the interface, with all addresses that the result gives it.
pub(super) fn is_whole(netns: &str, ifname: &str, result: &AttachResult) -> bool {
    let wanted: Vec<IpNetwork> = result.addresses_of(ifname).map(|ip| ip.address).collect();
    let Ok(netns) = File::open(netns) else { return false };
    let found =
        in_namespace(netns.as_fd(), || with_links(|links| async move { addresses(&links.handle, ifname).await }));
    matches!(found, Ok(Ok(Ok(found))) if wanted.iter().all(|address| found.contains(&address.ip())))
}

impl StandIn {
    /// Makes one.
    ///
    /// # Errors
    /// unshare(2), or a netlink request.
    pub(super) fn make(ifname: &str, result: &AttachResult) -> Result<Self, NetworkError> {
        let addresses: Vec<IpNetwork> = result.addresses_of(ifname).map(|ip| ip.address).collect();
        let lost = || NetworkError::WorkerLost("make a network namespace");
        // A thread of its own ends with the namespace it has entered.
        std::thread::scope(|scope| scope.spawn(|| furnish(ifname, &addresses)).join()).map_err(|_| lost())?.map(Self)
    }

    /// Returns the path by which plugins find it.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn furnish(ifname: &str, addresses: &[IpNetwork]) -> Result<OwnedFd, NetworkError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed("make a network namespace", errno.into()))?;
    with_links(|links| async move {
        let failed = |source| failed(format!("make the interface {ifname} of a stand-in"), errno(source));
        // Any kind will do that every kernel with container networks has.
        links.handle.link().add(LinkBridge::new(ifname).build()).execute().await.map_err(failed)?;
        let Some(link) = links.find(ifname).await? else { return Ok::<(), NetworkError>(()) };
        let up = LinkUnspec::new_with_index(link.index).up().build();
        links.handle.link().set(up).execute().await.map_err(failed)?;
        for address in addresses {
            links.handle.address().add(link.index, address.ip(), address.prefix()).execute().await.map_err(failed)?;
        }
        Ok(())
    })??;
    open_current().map_err(|source| NetworkError::Namespace { container: "a stand-in".to_owned(), source })
}

async fn addresses(handle: &rtnetlink::Handle, ifname: &str) -> Result<Vec<IpAddr>, NetworkError> {
    let failed = |source| failed(format!("look at the interface {ifname}"), source);
    let links = collect(handle.link().get().match_name(ifname.to_owned()).execute()).await.map_err(failed)?;
    let Some(index) = links.first().map(|link| link.header.index) else { return Ok(Vec::new()) };
    let found = collect(handle.address().get().set_link_index_filter(index).execute()).await.map_err(failed)?;
    let address_of = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    Ok(found.iter().filter_map(|message| message.attributes.iter().find_map(address_of)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_has_what_the_result_says() {
        let value = json!({
            "interfaces": [{"name": "host0"}, {"name": "eth0", "sandbox": "/gone"}],
            "ips": [{"address": "10.1.0.5/16", "interface": 1}, {"address": "2001:db8::5/64", "interface": 1}],
        });
        let result = AttachResult::from_json(value, super::super::SpecVersion::V1_0_0).unwrap();
        let stand_in = StandIn::make("eth0", &result).unwrap();
        assert!(is_whole(&stand_in.path(), "eth0", &result));
        assert!(!is_whole(&stand_in.path(), "eth1", &result) && !is_whole("/no/such", "eth0", &result));
        assert!(!is_whole("/proc/thread-self/ns/net", "eth0", &result), "the host is not touched");
    }

    #[test]
    fn only_plugins_that_need_it_get_it() {
        let needs = |value| reads_the_interface(&PluginConfig::from_value(value).unwrap());
        assert!(needs(json!({"type": "bridge", "ipMasq": true})) && needs(json!({"type": "ptp", "ipMasq": true})));
        assert!(!needs(json!({"type": "bridge"})) && !needs(json!({"type": "host-device", "ipMasq": true})));
    }
}
