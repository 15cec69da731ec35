use std::io;
use std::time::Duration;

use super::files::FilesError;
use super::shim_link::ShimError;
use crate::capabilities::CapabilityError;
use crate::container::{ContainerError, LaunchFailure, SpawnError};
use crate::logs::LogError;
use crate::namespaces::cgroup::{Cgroup, CgroupError};
use crate::namespaces::user::UserNamespaceError;
use crate::network::NetworkError;
use crate::seccomp::SeccompError;
use crate::store::StoreError;

/// Says at which part a launch failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The container's files on the host.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Its record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A device of the host that it wants.
    #[error("give the container the device {}: {reason}", .path.display())]
    Device {
        /// The path on the host.
        path: std::path::PathBuf,
        /// Why it cannot be had.
        reason: String,
    },
    /// Its capabilities.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// A value of its request.
    #[error(transparent)]
    Spec(#[from] crate::spec::SpecError),
    /// Its seccomp filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A directory of the host that it wants bound.
    #[error("make the directory {} for a bind mount", .path.display())]
    HostPath {
        /// The directory.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The container that it shares something with cannot be had.
    #[error("share the {what} of {owner}: {reason}")]
    Share {
        /// What is shared: `network`.
        what: &'static str,
        /// Who was asked for.
        owner: String,
        /// Why not.
        reason: &'static str,
    },
    /// A mount of another container's.
    #[error(transparent)]
    Mount(#[from] crate::namespaces::mount::MountError),
    /// Its plan.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Its standard streams.
    #[error(transparent)]
    Log(#[from] LogError),
    /// /dev/null, or a pipe in its place.
    #[error("open the container's standard input")]
    Null(#[source] io::Error),
    /// Its process.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// Its process, cloned by ourselves.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its user namespace.
    #[error(transparent)]
    UserNamespace(#[from] UserNamespaceError),
    /// The signals that are to be passed on to it.
    #[error("take signals")]
    Signals(#[source] io::Error),
    /// Whoever stands at the other end of its streams.
    #[error("connect the container's streams")]
    Console(#[source] io::Error),
    /// Its network namespace.
    #[error("open {path}")]
    Netns {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Its networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The record of its place in a network.
    #[error("find the container's place in the network {network}: its record is lost")]
    PlaceLost {
        /// The network.
        network: String,
    },
    /// The batch in which it was taken off its networks.
    #[error("take containers off their networks")]
    Detach(#[source] std::sync::Arc<LaunchError>),
    /// A step inside the new process.
    #[error("{}", failure_text(.0))]
    Init(LaunchFailure),
    /// The new process was killed.
    #[error("the container's process was killed while it was made")]
    Died,
    /// The new process was killed for want of memory.
    #[error("the container's process ran out of memory while it was made")]
    OutOfMemory,
    /// The talk with the new process.
    #[error("talk with the container's new process")]
    Channel(#[source] io::Error),
    /// Its networks were not given up.
    #[error("interrupted: its places in networks are on record, and the next start takes them away")]
    Left,
    /// It was to be stopped before it ran.
    #[error("the container is to be stopped: its creation was given up")]
    GivenUp,
    /// It took too long.
    #[error("the container was not created within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The kernel does not let go of a process.
    #[error("the container's processes did not end within {} s of SIGKILL: one is stuck in the kernel", .0.as_secs())]
    Stuck(Duration),
}

fn failure_text(failure: &LaunchFailure) -> String {
    match failure.cause() {
        Some(cause) => format!("{failure}: {cause}"),
        None => failure.to_string(),
    }
}

impl LaunchError {
    /// Returns the exit code that `run`, `exec` and a container's status give for it: 125, 126 or 127.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Init(failure) => failure.exit_code,
            _ => 125,
        }
    }

    /// Says whether this is how it shows that the container's process has ended before it was looked at.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Netns { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Says more of a death of which the cgroup knows the cause.
    pub(super) fn explained_by(self, cgroup: Option<&Cgroup>) -> Self {
        let kills = || cgroup.and_then(|cgroup| cgroup.oom_kills().ok());
        let killed = matches!(self, Self::Died) && kills().is_some_and(|kills| kills > 0);
        if killed { Self::OutOfMemory } else { self }
    }

    /// Says how to mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Init(failure) => failure.hint.clone(),
            Self::OutOfMemory => {
                Some("its limit of memory is too low to start anything: 6 MiB are the least that helps".to_owned())
            }
            Self::Device { .. } => Some("`ls -l /dev` shows the host's devices".to_owned()),
            Self::Store(error) | Self::Files(FilesError::Store(error)) => error.hint(),
            Self::Container(error) | Self::Files(FilesError::Layers(error)) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::Spawn(error) => error.hint(),
            Self::UserNamespace(error) => error.hint(),
            Self::Capabilities(error) => error.hint(),
            Self::Seccomp(error) => error.hint(),
            Self::Cgroup(error) => error.hint(),
            Self::Deadline(_) | Self::Stuck(_) => {
                Some("`ps -o pid,stat,wchan:30 -C mydocker-init` shows what it waits for".to_owned())
            }
            _ => None,
        }
    }

    /// Lists what could not be done and its causes, outermost first.
    pub fn chain(&self) -> Vec<String> {
        std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect()
    }
}
