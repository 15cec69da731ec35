//! The drivers `macvlan` and `ipvlan`: containers as neighbours of the host, on an interface that they share with it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::link::Guest;
use super::parent;
use super::settings::LanSettings;
use crate::namespaces::network::{self as netns, NetnsError};
use crate::network::NetworkError;
use crate::network::config::NetworkConfig;
use crate::network::connection::{HostLinks, until_free, with_links};
use crate::network::driver::{DriverFuture, NetworkDriver};
use crate::network::inside::configure_inside;
use crate::network::link::{Links, failed};
use crate::network::record::{Attachment, LanRecord, NetworkRecord};
use crate::network::state::StateDir;
use crate::spec::ContainerId;

/// Names a container's place: the network's id and the container.
type Place = (String, ContainerId);

/// Makes interfaces that share a parent.
///
/// Such an interface has no end on the host that could be deleted. So the namespaces of those that are attached are held, and
/// the interface is deleted inside: else its address would be in use until the kernel has taken the namespace apart.
#[derive(Debug)]
pub(in crate::network) struct LanDriver {
    links: Arc<HostLinks>,
    state: StateDir,
    held: Mutex<BTreeMap<Place, OwnedFd>>,
}

impl LanDriver {
    /// Works through the connection `links`; `state` says which networks share a parent.
    pub(in crate::network) fn new(links: Arc<HostLinks>, state: StateDir) -> Self {
        Self { links, state, held: Mutex::default() }
    }

    /// Takes a namespace over from an earlier supervisor.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub(in crate::network) fn hold(
        &self,
        attachment: &Attachment,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let held = namespace
            .try_clone_to_owned()
            .map_err(|source| failed(format!("hold the network namespace of {}", attachment.container_name), source))?;
        self.held().insert(place_of(attachment), held);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Place, OwnedFd>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make_sure(&self, network: &NetworkRecord) -> Result<(), NetworkError> {
        let lan = lan_of(network)?;
        parent::make_sure(self.links.get()?, network, lan).await.map(drop)
    }

    async fn plug_in(
        &self,
        network: &NetworkRecord,
        attachment: &Attachment,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let lan = lan_of(network)?;
        let settings = LanSettings::check(&network.config)?;
        let links = self.links.get()?;
        let parent = parent::make_sure(links, network, lan).await?;
        self.hold(attachment, namespace)?;
        let guest = Guest {
            name: attachment.ifname.as_str(),
            parent: parent.index,
            sharing: settings.sharing,
            mac: attachment.mac,
            mtu: settings.base.mtu,
            netns: namespace.as_raw_fd(),
        };
        // The kernel may still be taking the namespace of the one user before apart.
        let taken: &[i32] = if settings.holds_one() { &[libc::EINVAL, libc::EBUSY] } else { &[] };
        let made = until_free(taken, || links.add_guest(&guest)).await;
        made.map_err(|source| explain(network, attachment, &parent.name, source))?;
        configure_inside(attachment, namespace).await
    }

    /// Deletes the interfaces inside the namespaces that are still there, side by side.
    async fn unplug(&self, attachments: &[Attachment]) -> Result<(), NetworkError> {
        let mut pending = Vec::new();
        for attachment in attachments {
            let Some(namespace) = self.held().remove(&place_of(attachment)) else { continue };
            let name = attachment.ifname.to_string();
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let outer = |source| NetworkError::Namespace { container: attachment.container_name.clone(), source };
            netns::spawn_in_namespace(namespace, move |entered| {
                let _ = sender.send(entered.map(|()| with_links(|links| delete(links, name))));
            })
            .map_err(outer)?;
            pending.push((receiver, attachment));
        }
        let mut first = Ok(());
        for (receiver, attachment) in pending {
            let outer =
                |source: NetnsError| NetworkError::Namespace { container: attachment.container_name.clone(), source };
            let ended = match receiver.await {
                Ok(entered) => entered.map_err(outer).and_then(|done| done.and_then(|deleted| deleted)),
                Err(_) => Err(NetworkError::WorkerLost("delete an interface inside a container")),
            };
            first = first.and(ended);
        }
        first
    }

    /// Lets the namespaces go, and with them what is left in them, and takes the parent away where it is ours.
    async fn remove(&self, network: &NetworkRecord) -> Result<(), NetworkError> {
        self.held().retain(|(id, _), _| *id != network.id);
        parent::remove(self.links.get()?, network, &self.state.networks()?).await
    }
}

impl NetworkDriver for LanDriver {
    fn check(&self, config: &NetworkConfig) -> Result<(), NetworkError> {
        LanSettings::check(config).map(drop)
    }

    fn setup<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(self.make_sure(network))
    }

    fn attach<'a>(
        &'a self,
        network: &'a NetworkRecord,
        attachment: &'a Attachment,
        namespace: BorrowedFd<'a>,
    ) -> DriverFuture<'a> {
        Box::pin(self.plug_in(network, attachment, namespace))
    }

    fn detach<'a>(&'a self, _: &'a NetworkRecord, attachments: &'a [Attachment]) -> DriverFuture<'a> {
        Box::pin(self.unplug(attachments))
    }

    fn teardown<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(self.remove(network))
    }
}

fn place_of(attachment: &Attachment) -> Place {
    (attachment.network.clone(), attachment.container.clone())
}

fn lan_of(network: &NetworkRecord) -> Result<&LanRecord, NetworkError> {
    network.lan.as_ref().ok_or_else(|| NetworkError::UnknownNetwork(network.config.name.clone()))
}

async fn delete(links: Links, name: String) -> Result<(), NetworkError> {
    match links.find(&name).await? {
        Some(link) => links.delete(&link).await,
        None => Ok(()),
    }
}

/// Says what an errno means here.
fn explain(network: &NetworkRecord, attachment: &Attachment, parent: &str, source: io::Error) -> NetworkError {
    let (driver, name) = (network.config.driver, &network.config.name);
    match source.raw_os_error() {
        Some(libc::EEXIST) => NetworkError::LinkClash {
            name: attachment.ifname.to_string(),
            reason: format!("the container {} has an interface of this name", attachment.container_name),
        },
        Some(libc::EBUSY | libc::EINVAL) => NetworkError::LinkClash {
            name: attachment.ifname.to_string(),
            reason: format!(
                "{parent}, the parent of the network {name}, cannot have an interface of {driver}: it is a port of something, or \
                 shared in another way; `ip -d link` shows it ({source})"
            ),
        },
        _ => failed(format!("make the {driver} interface of {} on {parent}", attachment.container_name), source),
    }
}
