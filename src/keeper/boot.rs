//! The client's side: starting a keeper and waiting until its supervisor listens.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;

use super::protocol::{BootReply, KeeperBoot};
use super::role::{Role, open_executable, spawn_first};
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

/// Starts the keeper of a project and waits until its supervisor listens.
///
/// `lock` is the locked project lock: the keeper holds it from now on. `log` takes what the three processes have
/// to tell. `path` is the `PATH` in which they look for tools. Returns the keeper as a child to be reaped.
///
/// # Errors
/// [`KeeperError`]; nothing of the project runs then.
pub fn start_keeper(boot: &KeeperBoot, lock: OwnedFd, log: File, path: OsString) -> Result<Child, KeeperError> {
    let spawn = |source| KeeperError::Spawn { project: boot.project.clone(), source };
    let ended = |source| KeeperError::Ended { project: boot.project.clone(), source };
    let executable = open_executable().map_err(spawn)?;
    let (mut child, mut channel) =
        spawn_first(Role::Keeper, &boot.project, executable.as_fd(), log, path).map_err(spawn)?;
    send_message(&channel, boot, &[lock.as_fd(), executable.as_fd()]).map_err(spawn)?;
    drop((lock, executable));
    let frame = channel.recv().map_err(ended)?.ok_or_else(|| ended(io::ErrorKind::UnexpectedEof.into()))?;
    match parse_message(&frame).map_err(ended)? {
        BootReply::Ready => Ok(child),
        BootReply::Failed { message } => {
            child.wait().map_err(ended)?;
            Err(KeeperError::Refused { message })
        }
    }
}
