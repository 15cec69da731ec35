//! What supervisor and shim say to each other.

use serde::{Deserialize, Serialize};

use crate::container::{ExecRequest, SpawnRequest};
use crate::spec::ExitStatus;

/// Supervisor to shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimRequest {
    /// Make a container's first process. Descriptors: channel, stdin, stdout, stderr, the cgroup where `cgroup` says
    /// so, then the namespaces to join.
    Spawn {
        /// Comes back in the answer.
        token: u64,
        /// Under this name the child is known: the container's id.
        key: String,
        /// What clone3(2) is to make.
        request: SpawnRequest,
        /// Whether a cgroup v2 directory is among the descriptors.
        cgroup: bool,
    },
    /// Make a process in a running container. Descriptors: channel, stdin, stdout, stderr, the pidfd of the
    /// container's first process, the cgroup where `cgroup` says so, then `tasks` files.
    Exec {
        /// Comes back in the answer.
        token: u64,
        /// Under this name the child is known.
        key: String,
        /// Which namespaces are entered.
        request: ExecRequest,
        /// Whether a cgroup v2 directory is among the descriptors.
        cgroup: bool,
    },
    /// The end of this child is on record: reap it.
    Recorded {
        /// Its process id.
        pid: i32,
    },
}

/// Shim to supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimReply {
    /// The first frame to every supervisor: all children, running ones and zombies.
    Hello {
        /// Who they are.
        children: Vec<ShimChild>,
    },
    /// The answer to `Spawn` and `Exec`. Descriptor: the pidfd.
    Spawned {
        /// Of the request.
        token: u64,
        /// The new process.
        pid: i32,
    },
    /// The other answer.
    Failed {
        /// Of the request.
        token: u64,
        /// What could not be done, and its causes, outermost first.
        chain: Vec<String>,
    },
    /// A child has ended; it stays a zombie until `Recorded`.
    Exited {
        /// Its name.
        key: String,
        /// Its process id.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Is a child of the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimChild {
    /// Its name.
    pub key: String,
    /// Its process id. It is not free for others before the shim reaps it.
    pub pid: i32,
}
