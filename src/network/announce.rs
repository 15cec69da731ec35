//! Tells a container's neighbours which Ethernet address its addresses have now.
//!
//! Who has talked to an address keeps its Ethernet address for a while (arp(7)), and sends to a container that is gone until then. A
//! gratuitous ARP, and for IPv6 an unsolicited neighbour advertisement, puts that right at once (RFC 5944 section 4.6, RFC 4861
//! section 7.2.6). The kernel sends both by itself when the address of an interface is set, where `arp_notify` and `ndisc_notify` ask for
//! it: no raw socket is needed.

use std::time::{Duration, Instant};

use super::NetworkError;
use super::link::{LinkView, Links};
use crate::namespaces::network as netns;
use crate::spec::InterfaceName;

/// How long the interface may take until packets pass it. That is a moment for a pair, whose carrier the kernel notes in a worker.
const PATIENCE: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Announces the addresses of an interface of the calling thread's namespace, as soon as packets pass it.
///
/// When our end runs, so does the port of the bridge: the kernel notes both at one go, under the lock that requests take.
pub(super) async fn announce(links: &Links, name: &InterfaceName) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Namespace { container: name.to_string(), source };
    netns::announce_new_addresses(name.as_str()).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    while let Some(link) = links.find(name.as_str()).await? {
        if link.running {
            return set_again(links, &link).await;
        }
        if Instant::now() > deadline {
            return Ok(());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Gives the interface the address that it has: the kernel tells the neighbours.
async fn set_again(links: &Links, link: &LinkView) -> Result<(), NetworkError> {
    match &link.address[..] {
        [] => Ok(()),
        address => links.set_address(link, address.to_vec()).await,
    }
}
