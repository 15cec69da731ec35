//! Namespaces of containers that are attached, held by descriptor until DEL.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Is the namespace that a leaving container is held by, taken when the first of its attachments goes, for all of them.
pub(super) struct Holding {
    pub(super) all: Arc<Mutex<BTreeMap<String, OwnedFd>>>,
    pub(super) container: String,
    pub(super) taken: Option<OwnedFd>,
}

impl Holding {
    /// Returns it.
    pub(super) fn take(&mut self) -> Option<&OwnedFd> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.taken = self.taken.take().or_else(|| all.remove(&self.container));
        self.taken.as_ref()
    }
}
