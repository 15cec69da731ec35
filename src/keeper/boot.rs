//! The client's side: starting a keeper and waiting until its supervisor listens.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::protocol::{BootReply, KeeperBoot};
use super::role::{FirstStart, Role, spawn_first};
use crate::sys::executable::open_executable;
use crate::sys::wait::{Children, reap_blocking};
use crate::sys::{parse_message, send_message};

/// Says why a project's processes could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The process was not made.
    #[error("start the keeper of project `{project}`")]
    Spawn {
        /// The project.
        project: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The keeper ended before it said anything.
    #[error("hear from the keeper of project `{project}` while it started")]
    Ended {
        /// The project.
        project: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The supervisor said why it cannot work.
    #[error("{message}")]
    Refused {
        /// Its error, causes and all.
        message: String,
    },
}

/// Is what a client gives the keeper that it starts.
#[derive(Debug)]
pub struct KeeperStart {
    /// The locked project lock: the keeper holds it from now on.
    pub lock: OwnedFd,
    /// Takes what the three processes have to tell.
    pub log: File,
    /// The `PATH` in which they look for tools.
    pub path: OsString,
    /// The cgroup v2 directory in which they live, where there is one.
    pub cgroup: Option<OwnedFd>,
}

/// Starts the keeper of a project and waits until its supervisor listens. The keeper is our child and outlives us.
///
/// # Errors
/// [`KeeperError`]; nothing of the project runs then.
pub fn start_keeper(boot: &KeeperBoot, start: KeeperStart) -> Result<(), KeeperError> {
    let spawn = |source| KeeperError::Spawn { project: boot.project.clone(), source };
    let ended = |source| KeeperError::Ended { project: boot.project.clone(), source };
    let executable = open_executable().map_err(spawn)?;
    let first = FirstStart { log: &start.log, path: &start.path, cgroup: start.cgroup.as_ref().map(AsFd::as_fd) };
    let (pid, mut channel) = spawn_first(Role::Keeper, &boot.project, executable.as_fd(), &first).map_err(spawn)?;
    send_message(&channel, boot, &[start.lock.as_fd(), executable.as_fd()]).map_err(spawn)?;
    drop((start, executable));
    let frame = channel.recv().map_err(ended)?.ok_or_else(|| ended(io::ErrorKind::UnexpectedEof.into()))?;
    match parse_message(&frame).map_err(ended)? {
        BootReply::Ready => Ok(()),
        BootReply::Failed { message } => {
            reap_blocking(Children::Pid(pid)).map_err(ended)?;
            Err(KeeperError::Refused { message })
        }
    }
}
