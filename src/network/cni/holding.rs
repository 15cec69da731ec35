//! Namespaces of containers that are attached: what may be one, and those that are held by descriptor until DEL.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::CniError;
use crate::sys::namespace_kind;

/// Returns the inode of the network namespace that plugins are to find at `path`.
///
/// # Errors
/// There is none, something else lies there (no DEL could ever undo an ADD of that), or it is our own.
pub(super) fn inode_of_netns(path: &str) -> Result<u64, CniError> {
    let failed = |source| CniError::Read { path: PathBuf::from(path), source };
    // A FIFO would keep us waiting.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    if namespace_kind(file.as_fd()).ok() != u64::try_from(libc::CLONE_NEWNET).ok() {
        return Err(CniError::Value(format!(
            "{path} is no network namespace; `/proc/PID/ns/net` is that of a process"
        )));
    }
    let inode = file.metadata().map_err(failed)?.ino();
    if std::fs::metadata("/proc/thread-self/ns/net").is_ok_and(|own| own.ino() == inode) {
        return Err(CniError::Value(format!("{path} is the host's own network namespace, and no container's")));
    }
    Ok(inode)
}

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
