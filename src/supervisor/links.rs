//! What every part of the supervisor shares: the host, the ways to shim and keeper, the records.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::config::BootConfig;
use super::event::Event;
use super::record::Records;
use super::sharing::Running;
use crate::engine::{Host, ShimLink};
use crate::keeper::FromSupervisor;
use crate::logs::Collector;
use crate::spec::ExitStatus;
use crate::sys::{Channel, send_message};

/// Is shared by the dispatcher and all containers of a project.
#[derive(Debug)]
pub struct Links {
    /// What we were told at the start.
    pub config: BootConfig,
    /// The host.
    pub host: Host,
    /// The shim.
    pub shim: ShimLink,
    /// The keeper.
    pub keeper: KeeperLink,
    /// The records.
    pub records: Records,
    /// Carries output into logs.
    pub collector: Collector,
    /// To the dispatcher.
    pub events: mpsc::Sender<Event>,
    /// Who waits for the end of an exec.
    pub execs: Execs,
    /// Which containers run: others may share their networks.
    pub running: Running,
    /// Small things that are due later.
    pub later: Mutex<JoinSet<()>>,
}

impl Links {
    /// Returns the cgroup of a container, below each hierarchy's mount root.
    pub fn cgroup_path(&self, id: &str) -> String {
        format!("{}/{}/{id}", self.config.cgroup_parent, self.config.project)
    }

    /// Does something after a while.
    pub fn later(&self, delay: Duration, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        // A set keeps what has ended until it is asked.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            work.await;
        });
    }
}

/// Is the way to the keeper, which keeps descriptors for our successor.
#[derive(Debug)]
pub struct KeeperLink {
    channel: Mutex<Channel>,
}

impl KeeperLink {
    /// Takes the writing side.
    pub fn new(channel: Channel) -> Self {
        Self { channel: Mutex::new(channel) }
    }

    /// Gives descriptors into keeping.
    pub fn store(&self, named: &[(String, BorrowedFd<'_>)]) {
        let keys = named.iter().map(|(key, _)| key.clone()).collect();
        let fds: Vec<_> = named.iter().map(|(_, fd)| *fd).collect();
        self.send(&FromSupervisor::Store { keys }, &fds);
    }

    /// Has descriptors closed.
    pub fn forget(&self, keys: Vec<String>) {
        self.send(&FromSupervisor::Drop { keys }, &[]);
    }

    /// Says anything else.
    pub fn send(&self, message: &FromSupervisor, fds: &[BorrowedFd<'_>]) {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a keeper we go on: nothing is kept for a successor, who could not be started either.
        if let Err(error) = send_message(&channel, message, fds) {
            tracing::warn!(%error, "the keeper does not listen");
        }
    }
}

/// Knows who waits for the end of which exec.
#[derive(Debug, Default)]
pub struct Execs(Mutex<HashMap<String, oneshot::Sender<ExitStatus>>>);

impl Execs {
    /// Waits for the end of the process that the shim knows by `key`. Call it before the process is made.
    pub fn expect(&self, key: &str) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), sender);
        receiver
    }

    /// Tells whoever waits. That nobody does any more is no error.
    pub fn ended(&self, key: &str, status: ExitStatus) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
            let _ = sender.send(status);
        }
    }
}

/// Counts seconds after the epoch, for people.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A [`Links`] that many hold.
pub type Shared = Arc<Links>;
