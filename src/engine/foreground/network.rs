//! The networks of a run in the foreground, in a thread of their own that is started after the clone: attach, serve,
//! detach, and whatever runs that were killed have left behind.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use std::sync::mpsc;
use tokio::sync::oneshot;

use super::claim::Stale;
use crate::engine::files::Addresses;
use crate::engine::launch::clear_remains;
use crate::engine::{Guest, Host, LaunchError, NetworkWish, Networking};
use crate::namespaces::cgroup::CgroupPath;
use crate::network::{NetworkConfig, NetworkError};
use crate::spec::{ContainerId, DnsRequest};

/// How often a network that was removed between its making and the attachment is made again.
const ATTEMPTS: usize = 8;

/// Is what the thread does.
#[derive(Debug)]
pub(super) struct NetworkWork {
    pub(super) host: Host,
    pub(super) stale: Vec<Stale>,
    /// The network that is made when the first container needs it and removed when the last has left.
    pub(super) default_network: NetworkConfig,
    pub(super) container: Option<Attaching>,
}

/// Is the container that is to be attached.
#[derive(Debug)]
pub(super) struct Attaching {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) names: Vec<String>,
    pub(super) wishes: Vec<NetworkWish>,
    pub(super) dns: DnsRequest,
    pub(super) netns: OwnedFd,
}

type Attached = Result<Addresses, LaunchError>;

/// Is the thread at work.
#[derive(Debug)]
pub(super) struct NetworkThread {
    thread: JoinHandle<Vec<LaunchError>>,
    attached: mpsc::Receiver<Attached>,
    ready: PipeReader,
    stop: oneshot::Sender<()>,
}

impl NetworkThread {
    /// Starts it.
    pub(super) fn start(work: NetworkWork) -> Result<Self, LaunchError> {
        let (reader, writer) = io::pipe().map_err(LaunchError::Channel)?;
        let (told, attached) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let tell = move |outcome: Attached| {
            let _ = told.send(outcome);
            // Its end is what the main thread polls for.
            drop(writer);
        };
        let body = move || carry_out(work, tell, stopped);
        let thread = thread::Builder::new().name("network".into()).spawn(body).map_err(LaunchError::Channel)?;
        Ok(Self { thread, attached, ready: reader, stop })
    }

    /// Returns what becomes readable when the container is attached, or cannot be.
    pub(super) fn ready(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Takes the outcome of the attachment once [`ready`](Self::ready) is readable: the container's addresses.
    pub(super) fn outcome(&self) -> Attached {
        let ended = || LaunchError::Channel(io::Error::other("the thread of the networks ended"));
        self.attached.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Gives up the container's places and waits until that is done.
    pub(super) fn finish(self) -> Vec<LaunchError> {
        drop(self.stop);
        let panicked = || vec![LaunchError::Channel(io::Error::other("the thread of the networks panicked"))];
        self.thread.join().unwrap_or_else(|_| panicked())
    }
}

fn carry_out(work: NetworkWork, tell: impl FnOnce(Attached), stopped: oneshot::Receiver<()>) -> Vec<LaunchError> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(Err(LaunchError::Channel(error)));
            return Vec::new();
        }
    };
    let errors = runtime.block_on(work.run(tell, stopped));
    runtime.shutdown_background();
    errors
}

impl NetworkWork {
    async fn run(mut self, tell: impl FnOnce(Attached), stopped: oneshot::Receiver<()>) -> Vec<LaunchError> {
        let mut errors = Vec::new();
        // First: their published ports would lead to nobody.
        if !self.stale.is_empty() {
            for stale in std::mem::take(&mut self.stale) {
                errors.extend(self.clear(stale).await);
            }
            errors.extend(self.host.networks.reconcile(&|_| true).await.map_err(LaunchError::from).err());
        }
        match self.container.take() {
            None => tell(Ok(Addresses::default())),
            Some(container) => match self.attach(&container).await {
                Err(error) => tell(Err(error)),
                Ok(networking) => {
                    tell(Ok(networking.addresses()));
                    // Its sender is dropped, not used.
                    let _ = stopped.await;
                    errors.extend(networking.detach(&self.host, &container.id).await.err());
                }
            },
        }
        errors.extend(self.remove_default_network().await);
        errors
    }

    /// Clears what a killed run has left behind. What could not be cleared is tried again by the next start.
    async fn clear(&self, stale: Stale) -> Vec<LaunchError> {
        let mut errors = clear_remains(&self.host, &stale.id, &stale.cgroup, None).await;
        match CgroupPath::new(&stale.cgroup) {
            Ok(path) => self.host.hierarchies.remove_empty_parents(&path),
            Err(error) => errors.push(error.into()),
        }
        errors.extend(self.host.dirs.remove_container(stale.id.as_str()).map_err(LaunchError::from).err());
        if errors.is_empty() {
            stale.release();
        }
        errors
    }

    /// Attaches the container. Between the making of the default network and the attachment, which is what keeps it,
    /// the last container of another run may have ended and have taken the network along.
    async fn attach(&self, container: &Attaching) -> Result<Networking, LaunchError> {
        let guest = Guest {
            id: &container.id,
            name: &container.name,
            names: &container.names,
            wishes: &container.wishes,
            dns: &container.dns,
        };
        let mut attempt = 1;
        loop {
            if container.wishes.iter().any(|wish| wish.network == self.default_network.name) {
                self.host.networks.ensure(&self.default_network).await?;
            }
            let netns = container.netns.try_clone().map_err(LaunchError::Channel)?;
            let mut networking = Networking::of(netns);
            match networking.attach(&self.host, guest).await {
                Ok(()) => return Ok(networking),
                Err(error) => {
                    if let Err(error) = networking.detach(&self.host, &container.id).await {
                        tracing::warn!(container = %container.id, %error, "undoing an attachment");
                    }
                    let removed = matches!(&error, LaunchError::Network(NetworkError::UnknownNetwork(name))
                        if *name == self.default_network.name);
                    if !removed || attempt == ATTEMPTS {
                        return Err(error);
                    }
                    attempt += 1;
                }
            }
        }
    }

    /// Removes the default network if nobody is on it.
    async fn remove_default_network(&self) -> Option<LaunchError> {
        match self.host.networks.remove(&self.default_network.name).await {
            Ok(_) | Err(NetworkError::InUse { .. }) => None,
            Err(error) => Some(error.into()),
        }
    }
}
