//! Many containers that leave at once leave together.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, oneshot};

use super::error::LaunchError;
use super::host::Host;
use crate::spec::ContainerId;

/// What comes of a batch.
type Outcome = Result<(), Arc<LaunchError>>;
/// Who waits for which container's leaving.
type Waiting = BTreeMap<ContainerId, Vec<oneshot::Sender<Outcome>>>;

/// Takes containers off their networks, in batches.
///
/// Removing an interface waits for the kernel's grace periods: 17 ms for each, and 25 ms for fifty in one request. Whoever
/// comes while a request is under way waits for it, and then goes with all others that have come meanwhile.
#[derive(Debug, Default)]
pub struct Detacher {
    waiting: std::sync::Mutex<Waiting>,
    left: std::sync::Mutex<BTreeMap<ContainerId, Option<OwnedFd>>>,
    turn: Mutex<()>,
}

impl Detacher {
    /// Takes a container off all its networks.
    ///
    /// # Errors
    /// That of the batch it went with.
    pub async fn detach(&self, host: &Host, container: &ContainerId) -> Result<(), LaunchError> {
        let (sender, mut receiver) = oneshot::channel();
        self.with(|waiting| waiting.entry(container.clone()).or_default().push(sender));
        let _turn = self.turn.lock().await;
        // Somebody else's turn may have taken us along.
        if let Ok(outcome) = receiver.try_recv() {
            return outcome.map_err(LaunchError::Detach);
        }
        let batch = self.with(std::mem::take);
        let containers: Vec<_> = batch.keys().cloned().collect();
        let outcome = host.networks.detach_many(&containers).await;
        let outcome = outcome.map_err(|error| Arc::new(LaunchError::from(error)));
        for sender in batch.into_values().flatten() {
            let _ = sender.send(outcome.clone());
        }
        outcome.map_err(LaunchError::Detach)
    }

    /// Notes that a container has ended and that its places go with its networks. Its namespace is held until then: the
    /// kernel would take it apart beside us, and each would wait for the other.
    pub fn leave(&self, container: ContainerId, netns: Option<OwnedFd>) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(container, netns);
    }

    /// Says whether a container has ended and its places go with their networks.
    pub fn has_left(&self, container: &ContainerId) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).contains_key(container)
    }

    /// Notes that a container comes back; to be said before it takes a place again.
    pub fn comes_back(&self, container: &ContainerId) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// Takes those that have left off whatever network is still there, and lets their namespaces go.
    ///
    /// # Errors
    /// What stays behind is on record.
    pub async fn finish(&self, host: &Host) -> Result<(), LaunchError> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        if left.is_empty() {
            return Ok(());
        }
        let containers: Vec<_> = left.keys().cloned().collect();
        Ok(host.networks.detach_many(&containers).await?)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
