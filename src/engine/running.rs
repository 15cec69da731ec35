//! Containers that run, as others see them that want a namespace of theirs.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::LaunchError;
use crate::namespaces::Namespace;
use crate::namespaces::mount::clone_from;
use crate::spec::ContainerId;
use crate::store::ProcessIdentity;

/// Is a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its first process.
    pub process: ProcessIdentity,
    /// Its host name.
    pub hostname: String,
    /// Its NIS domain name.
    pub domainname: Option<String>,
    /// The directory of its hosts, hostname and resolv.conf.
    pub directory: PathBuf,
}

impl RunningContainer {
    /// Opens one of its namespaces.
    ///
    /// # Errors
    /// [`LaunchError::Share`]: it has just ended.
    pub fn open(&self, kind: Namespace) -> Result<OwnedFd, LaunchError> {
        let file = File::open(format!("/proc/{}/ns/{}", self.process.pid, kind.file_name()));
        // After the open: the number was this very process's then.
        file.ok().filter(|_| self.process.is_alive()).map(OwnedFd::from).ok_or_else(|| LaunchError::Share {
            what: shown(kind),
            owner: format!("container `{}`", self.name),
            reason: "it has just ended",
        })
    }
}

/// Names what a namespace holds.
pub fn shown(kind: Namespace) -> &'static str {
    match kind {
        Namespace::Network => "network",
        Namespace::Pid => "processes",
        Namespace::Ipc => "shared memory",
        other => other.file_name(),
    }
}

/// Is what a container has in common with others that run.
#[derive(Debug, Default)]
pub struct SharedNamespaces {
    opened: Vec<(Namespace, OwnedFd)>,
    network: Option<PathBuf>,
    shared_memory: Option<OwnedFd>,
}

impl SharedNamespaces {
    /// Adds the network of the container with this directory.
    pub fn add_network(&mut self, namespace: OwnedFd, directory: PathBuf) {
        self.opened.push((Namespace::Network, namespace));
        self.network = Some(directory);
    }

    /// Adds a namespace of another container's. This process must have one thread.
    ///
    /// # Errors
    /// As [`RunningContainer::open`]; [`LaunchError::Mount`].
    pub fn add(&mut self, kind: Namespace, owner: &RunningContainer) -> Result<(), LaunchError> {
        self.opened.push((kind, owner.open(kind)?));
        match kind {
            Namespace::Network => self.network = Some(owner.directory.clone()),
            Namespace::Ipc => {
                let mounts = owner.open(Namespace::Mount)?;
                self.shared_memory = Some(clone_from(mounts.as_fd(), Path::new("/dev/shm"))?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the directory of the container whose network it is.
    pub(super) fn network(&self) -> Option<&Path> {
        self.network.as_deref()
    }

    /// Returns what becomes /dev/shm: it goes with the plan.
    pub(super) fn shared_memory(&self) -> Option<BorrowedFd<'_>> {
        self.shared_memory.as_ref().map(AsFd::as_fd)
    }

    /// Returns the descriptors in the order in which they are to be joined.
    pub(super) fn joins(&self, order: &[Namespace]) -> Vec<BorrowedFd<'_>> {
        let one = |kind: &Namespace| self.opened.iter().find(|(had, _)| had == kind).map(|(_, fd)| fd.as_fd());
        order.iter().filter_map(one).collect()
    }
}
