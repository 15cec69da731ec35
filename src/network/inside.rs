//! The container's end of its interface, set up from a short-lived thread inside its network namespace.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::NetworkError;
use super::announce::announce;
use super::bridge::find_made;
use super::connection::{until_free, with_links};
use super::link::Links;
use super::record::Attachment;
use crate::namespaces::network::{self as netns, NetnsError};

/// Sets up the inner end on a short-lived thread inside the namespace: `lo`, addresses, up, default routes.
pub(super) async fn configure_inside(attachment: &Attachment, namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
    let outer = |source| NetworkError::Namespace { container: attachment.container_name.clone(), source };
    let netns: OwnedFd = namespace.try_clone_to_owned().map_err(|source| outer(NetnsError::Thread(source)))?;
    let (sender, receiver) = oneshot::channel();
    let plan = Arc::new(attachment.clone());
    let inner = Arc::clone(&plan);
    netns::spawn_in_namespace(netns, move |entered| {
        // Whatever fails first is the answer; who is attached does not wait until the neighbours know.
        let answer = Answer(Cell::new(Some(sender)));
        let opened = entered.map(|()| {
            with_links(|links| async {
                let links = links;
                let ifname = inner.ifname.clone();
                let done = inside(&links, inner).await;
                let is_in = done.is_ok();
                answer.give(Ok(done));
                if is_in && let Err(error) = announce(&links, &ifname).await {
                    tracing::debug!(%error, interface = %ifname, "neighbours are not told of a container's address");
                }
            })
        });
        answer.give(opened);
    })
    .map_err(outer)?;
    receiver.await.map_err(|_| NetworkError::WorkerLost("set up the network inside a container"))?.map_err(outer)?
}

/// Sends the first answer that it is given.
struct Answer<T>(Cell<Option<oneshot::Sender<T>>>);

impl<T> Answer<T> {
    fn give(&self, answer: T) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(answer);
        }
    }
}

async fn inside(links: &Links, attachment: Arc<Attachment>) -> Result<(), NetworkError> {
    prepare(&attachment)
        .map_err(|source| NetworkError::Namespace { container: attachment.container_name.clone(), source })?;
    let link = find_made(links, attachment.ifname.as_str()).await?;
    let own = attachment.address.map(Into::into).into_iter().chain(attachment.address_v6.map(Into::into));
    for address in own.chain(attachment.further.iter().copied()) {
        links.add_address(&link, address).await?;
    }
    // The kernel may still be taking apart the namespace of whoever had this address on the same parent before.
    until_free(&[libc::EADDRINUSE, libc::EBUSY], || links.raise(&link)).await?;
    if let Some(limit) = attachment.bandwidth.egress {
        links.limit(&link, limit).await?;
    }
    if !attachment.leads_out() {
        return Ok(());
    }
    let families = [
        (attachment.address.is_some(), attachment.gateway.map(IpAddr::V4), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (attachment.address_v6.is_some(), attachment.gateway_v6.map(IpAddr::V6), IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ];
    for (_, gateway, any) in families.into_iter().filter(|(has_address, ..)| *has_address) {
        match gateway {
            Some(gateway) => links.add_default_route(gateway).await?,
            None => links.add_link_route(&link, any).await?,
        }
    }
    Ok(())
}

/// Raises `lo` and says before the interface is up whether it has IPv6: a container on a network without it is to have no
/// address of it, whoever on that bridge says that he is a router.
fn prepare(attachment: &Attachment) -> Result<(), NetnsError> {
    netns::prepare_here()?;
    let v6 = attachment.address_v6.is_some() || attachment.further.iter().any(ipnetwork::IpNetwork::is_ipv6);
    if v6 {
        netns::switch_ipv6_here("lo", true)?;
    }
    netns::switch_ipv6_here(attachment.ifname.as_str(), v6)
}
