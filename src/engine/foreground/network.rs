//! The networks of a run in the foreground, in a thread of their own that is started after the clone: attach, serve,
//! detach, and whatever runs that were killed have left behind.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use std::sync::mpsc;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::watch;

use super::claim::Stale;
use crate::engine::files::Addresses;
use crate::engine::launch::clear_remains;
use crate::engine::{Guest, Host, LaunchError, NetworkWish, Networking, PassingNetworks};
use crate::namespaces::cgroup::CgroupPath;
use crate::spec::{ContainerId, DnsRequest, Moment, Stopwatch};

/// A wish to leave counts after this time of waiting: what takes as long as it always does is not left half-done.
const PATIENCE: Duration = Duration::from_secs(1);

/// Is what the thread does.
#[derive(Debug)]
pub(super) struct NetworkWork {
    pub(super) host: Host,
    pub(super) stale: Vec<Stale>,
    /// Networks that are made when the first container needs them and removed when the last has left.
    pub(super) passing: PassingNetworks,
    pub(super) container: Option<Attaching>,
    /// What its steps are noted in.
    pub(super) watch: Stopwatch,
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
    /// Its end shows that the thread has ended.
    over: PipeReader,
    wish: watch::Sender<Wish>,
}

/// Says what the thread is to do about the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// Attach it, and serve it.
    Serve,
    /// Take it off its networks, attached or not.
    Detach,
    /// Leave the rest to the next start.
    Leave,
}

impl NetworkThread {
    /// Starts it.
    pub(super) fn start(work: NetworkWork) -> Result<Self, LaunchError> {
        let (reader, writer) = io::pipe().map_err(LaunchError::Channel)?;
        let (over, running) = io::pipe().map_err(LaunchError::Channel)?;
        let (told, attached) = mpsc::channel();
        let (wish, heard) = watch::channel(Wish::Serve);
        let tell = move |outcome: Attached| {
            let _ = told.send(outcome);
            // Its end is what the main thread polls for.
            drop(writer);
        };
        let body = move || {
            let watch = work.watch.clone();
            watch.note(Moment::NetworksBegan);
            let errors = carry_out(work, tell, heard);
            watch.note(Moment::NetworksEnded);
            drop(running);
            errors
        };
        let thread = thread::Builder::new().name("network".into()).spawn(body).map_err(LaunchError::Channel)?;
        Ok(Self { thread, attached, ready: reader, over, wish })
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

    /// Gives up the container's places and waits until that is done, or until `is_hurried` says that the user does not want to wait
    /// (it is asked when `signals` is readable): what is left then is on record, and the next start takes it away.
    pub(super) fn finish(self, signals: BorrowedFd<'_>, mut is_hurried: impl FnMut() -> bool) -> Vec<LaunchError> {
        self.wish.send_replace(Wish::Detach);
        let begun = Instant::now();
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.over.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals, PollFlags::IN),
            ];
            let _ = poll(&mut fds, None);
            if !fds[0].revents().is_empty() {
                break;
            }
            if !fds[1].revents().is_empty() && is_hurried() && begun.elapsed() > PATIENCE {
                self.wish.send_replace(Wish::Leave);
                break;
            }
        }
        let panicked = || vec![LaunchError::Channel(io::Error::other("the thread of the networks panicked"))];
        self.thread.join().unwrap_or_else(|_| panicked())
    }
}

fn carry_out(work: NetworkWork, tell: impl FnOnce(Attached), mut wish: watch::Receiver<Wish>) -> Vec<LaunchError> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(Err(LaunchError::Channel(error)));
            return Vec::new();
        }
    };
    let errors = runtime.block_on(async {
        let mut hurried = wish.clone();
        tokio::select! {
            errors = work.run(tell, &mut wish) => errors,
            // Whatever plugin is at work is killed.
            () = wished(&mut hurried, Wish::Leave) => vec![LaunchError::Left],
        }
    });
    runtime.shutdown_background();
    errors
}

/// Waits until this is wished for, or more.
async fn wished(wish: &mut watch::Receiver<Wish>, wanted: Wish) {
    // Who can wish no more has gone, and wants everything undone.
    let _ = wish.wait_for(|wish| *wish >= wanted).await;
}

impl NetworkWork {
    async fn run(mut self, tell: impl FnOnce(Attached), wish: &mut watch::Receiver<Wish>) -> Vec<LaunchError> {
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
            Some(container) => {
                let attached = tokio::select! {
                    attached = self.attach(&container) => attached,
                    // Nobody waits for the container any more: neither do we.
                    () = wished(wish, Wish::Detach) => Err(LaunchError::GivenUp),
                };
                match attached {
                    Err(error) => {
                        if matches!(error, LaunchError::GivenUp) {
                            errors.extend(self.host.detacher.detach(&self.host, &container.id).await.err());
                        }
                        tell(Err(error));
                    }
                    Ok(networking) => {
                        tell(Ok(networking.addresses()));
                        wished(wish, Wish::Detach).await;
                        errors.extend(networking.detach(&self.host, &container.id).await.err());
                    }
                }
            }
        }
        errors.extend(self.passing.remove_unused(&self.host).await);
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

    /// Attaches the container.
    async fn attach(&self, container: &Attaching) -> Result<Networking, LaunchError> {
        let guest = Guest {
            id: &container.id,
            name: &container.name,
            names: &container.names,
            wishes: &container.wishes,
            dns: &container.dns,
        };
        let netns = container.netns.try_clone().map_err(LaunchError::Channel)?;
        let mut networking = Networking::of(netns).measured_by(&self.watch);
        match self.passing.attach(&mut networking, &self.host, guest).await {
            Ok(()) => Ok(networking),
            Err(error) => {
                if let Err(error) = networking.detach(&self.host, &container.id).await {
                    tracing::warn!(container = %container.id, %error, "undoing an attachment");
                }
                Err(error)
            }
        }
    }
}
