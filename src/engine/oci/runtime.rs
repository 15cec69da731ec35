//! What every command of the runtime works with.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use super::state::{LOOK, PATIENCE};
use super::{ContainerDirectory, ContainerRecord, OciError, OciId, StateReport, StateRoot, Status};
use crate::namespaces::cgroup::{Cgroup, CgroupPath, Hierarchies};
use crate::spec::Stopwatch;
use crate::store::{FileLock, ProcessIdentity};

/// Says who makes cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// We do, below this cgroup where a configuration names none.
    Files {
        /// The parent.
        parent: CgroupPath,
    },
    /// Nobody: containers stay in the cgroup of their creator.
    Disabled,
}

/// Is the runtime: a directory of states, and a way to make cgroups.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The containers' directories.
    pub root: StateRoot,
    /// Who makes cgroups.
    pub cgroups: CgroupDriver,
    /// The socket of the service manager that wants to hear when a container is ready (sd_notify(3)).
    pub notify_socket: Option<OsString>,
    /// Where compiled filters of system calls are kept.
    pub filter_cache: PathBuf,
    /// What the steps of `run` are noted in.
    pub watch: Stopwatch,
}

/// Is a container that is there.
#[derive(Debug)]
pub struct Container {
    /// Its directory.
    pub directory: ContainerDirectory,
    /// What is recorded of it.
    pub record: ContainerRecord,
}

impl Runtime {
    /// Finds a container.
    ///
    /// # Errors
    /// [`OciError::Unknown`].
    pub fn find(&self, id: &OciId) -> Result<Container, OciError> {
        self.root.find(id).map(|(directory, record)| Container { directory, record })
    }

    /// Makes the report of a container. One of which there is nothing to tell yet, because `create` has not come to its process or is
    /// about to be done, is waited for, unless a hook may be the one who asks.
    ///
    /// # Errors
    /// [`OciError::Unknown`], and as [`Container::status`].
    pub fn state(&self, id: &OciId) -> Result<StateReport, OciError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let container = self.find(id)?;
            let status = container.status()?;
            let waits = status == Status::Creating && container.record.init.is_none();
            if !waits || Instant::now() >= deadline {
                return Ok(container.record.report(status));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Finds a container for a command that changes it. It is locked as long as the lock is held.
    ///
    /// # Errors
    /// [`OciError::Unknown`], [`OciError::Busy`].
    pub fn find_locked(&self, id: &OciId) -> Result<(Container, FileLock), OciError> {
        let directory = self.root.directory(id);
        if !directory.has_record() {
            return Err(OciError::Unknown(id.to_string()));
        }
        let lock = directory.lock()?;
        // What whoever had the lock made of it.
        Ok((self.find(id)?, lock))
    }
}

impl Container {
    /// Returns its id.
    pub fn id(&self) -> &OciId {
        &self.record.id
    }

    /// Opens its cgroup; `None` where it has none, or that is gone.
    ///
    /// # Errors
    /// [`OciError::Cgroup`].
    pub fn cgroup(&self) -> Result<Option<Cgroup>, OciError> {
        let Some(record) = &self.record.cgroup else { return Ok(None) };
        Ok(Hierarchies::discover()?.open_bundle(record)?)
    }

    /// Asks the kernel how far it is.
    ///
    /// # Errors
    /// [`OciError::Kernel`], [`OciError::Cgroup`].
    pub fn status(&self) -> Result<Status, OciError> {
        Ok(self.look()?.0)
    }

    /// Asks the kernel how far it is, and connects to a process that waits for `start`.
    pub(super) fn look(&self) -> Result<(Status, Option<OwnedFd>), OciError> {
        let lives = |process: &ProcessIdentity| process.is_alive();
        if !self.record.is_created {
            return Ok((if lives(&self.record.creator) { Status::Creating } else { Status::Stopped }, None));
        }
        if !self.record.init.as_ref().is_some_and(lives) {
            return Ok((Status::Stopped, None));
        }
        if self.is_frozen()? {
            return Ok((Status::Paused, None));
        }
        // Its socket is closed by execve(2): the kernel knows whether it was started, no file has to.
        let socket = self.directory.connect()?;
        Ok((if socket.is_some() { Status::Created } else { Status::Running }, socket))
    }

    fn is_frozen(&self) -> Result<bool, OciError> {
        self.cgroup()?.map_or(Ok(false), |cgroup| Ok(cgroup.is_frozen()?))
    }

    /// Makes the report that `state` prints.
    ///
    /// # Errors
    /// As [`Container::status`].
    pub fn report(&self) -> Result<StateReport, OciError> {
        Ok(self.record.report(self.status()?))
    }

    /// Makes the error of a command that the container's state does not allow.
    pub(super) fn refuse(&self, operation: &'static str, reason: impl Into<String>) -> OciError {
        OciError::State { operation, id: self.record.id.to_string(), reason: reason.into() }
    }
}
