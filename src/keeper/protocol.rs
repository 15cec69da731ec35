//! What keeper and its neighbours say to one another.

use serde::{Deserialize, Serialize};

use crate::spec::ExitStatus;

/// The first frame that a new keeper reads, from the client that started it.
/// Descriptors: the project lock, the executable for roles.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeeperBoot {
    /// The project's name, for process titles and messages.
    pub project: String,
    /// What the supervisor needs to know; the keeper does not look into it.
    pub config: serde_json::Value,
}

/// What the client that started a keeper hears.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootReply {
    /// The supervisor listens on its socket.
    Ready,
    /// The project could not be supervised; keeper, shim and supervisor are gone.
    Failed {
        /// The error and its causes, a line each.
        message: String,
    },
}

/// Keeper to supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToSupervisor {
    /// The first frame. Descriptor: the channel to the shim.
    Boot {
        /// What the client said.
        config: serde_json::Value,
        /// 0 for the first supervisor, and one more for each that takes over.
        generation: u32,
    },
    /// Descriptors that an earlier supervisor stored, in the order of `keys`.
    Stored {
        /// The name of each.
        keys: Vec<String>,
    },
    /// Everything that was stored has been handed over.
    BootEnd,
    /// A new shim was started. Descriptor: the channel to it.
    Shim,
    /// A container whose shim died has ended.
    Orphan(Orphan),
}

/// Supervisor to keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSupervisor {
    /// The socket is listening.
    Ready,
    /// The supervisor cannot work at all.
    Failed {
        /// The error and its causes, a line each.
        message: String,
    },
    /// Keep these descriptors, in the order of `keys`, under these names.
    Store {
        /// The name of each.
        keys: Vec<String>,
    },
    /// Close these.
    Drop {
        /// Their names.
        keys: Vec<String>,
    },
    /// The status of an orphan is on record.
    OrphanRecorded {
        /// Its process id.
        pid: i32,
    },
    /// Nothing runs any more: end the shim and yourself.
    Finish,
}

/// Keeper to shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShim {
    /// Talk to this supervisor from now on. Descriptor: the channel to it.
    Supervisor,
    /// Nothing runs any more.
    Exit,
}

/// Is a process that became the keeper's child when its parent died, and has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its process id, free for others by now.
    pub pid: i32,
    /// When it was started, in clock ticks after boot (proc_pid_stat(5), field 22): tells it from a later one.
    pub start_time: u64,
    /// How it ended.
    pub status: ExitStatus,
}
