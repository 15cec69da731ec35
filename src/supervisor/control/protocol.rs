//! What a client and a supervisor say to each other over `control.sock`: JSON messages in the frames of
//! [`crate::sys::Channel`]. One connection carries one [`Request`] at a time; a later one may come while an earlier is still
//! at work (Ctrl-C during `up` sends `Stop`). Every request is answered by any number of progress replies and one last reply.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compose::model::Project;
use crate::spec::{ContainerId, ExitStatus, SignalNumber};
use crate::supervisor::desired::Desired;

/// The version of this protocol. A supervisor of another version refuses, and says which program it belongs to.
pub const PROTOCOL_VERSION: u32 = 2;

/// A frame from a client.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL_VERSION`] of the client.
    pub version: u32,
    /// Comes back in every [`Reply`] to this request. The client counts up from 1; 0 is the supervisor's own.
    pub number: u64,
    /// What is asked.
    pub command: Command,
}

/// What a client may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Makes the project be as the file says. Ends with `Done` when everything that was asked for is started.
    Up(Box<Up>),
    /// Makes one container of its own and starts it. Nothing of it stays where that fails; the code is that of `run` then.
    Create(Box<Desired>),
    /// Stops and removes containers and networks. Ends with `Done`; the supervisor then ends.
    Down(Down),
    /// Starts existing containers, dependencies first.
    Start {
        /// Which.
        which: Selection,
    },
    /// Stops containers, dependants first. Cancels an `Up` that is at work.
    Stop {
        /// Which.
        which: Selection,
        /// Instead of each container's own grace period.
        timeout: Option<Duration>,
    },
    /// Stops, then starts.
    Restart {
        /// Which.
        which: Selection,
        /// Instead of each container's own grace period.
        timeout: Option<Duration>,
    },
    /// Sends a signal to PID 1 of running containers.
    Kill {
        /// Which.
        which: Selection,
        /// The signal.
        signal: SignalNumber,
    },
    /// Removes containers.
    Remove {
        /// Which.
        which: Selection,
        /// Kills them first where they run.
        force: bool,
        /// Removes their volumes without a name, too.
        volumes: bool,
    },
    /// Asks for one `Containers` reply.
    List,
    /// Runs a command in a running container. The request's frame carries three descriptors, the command's stdin,
    /// stdout and stderr, unless `tty`: then none, and the reply `ExecStarted` carries the terminal's master.
    Exec(Box<Exec>),
    /// Asks for an `Event` whenever a container's state changes, until the connection closes.
    Watch,
}

/// Names containers of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Those of these services; all where empty.
    Services(Vec<String>),
    /// These. One that is not there is nothing to be done for.
    Containers(Vec<ContainerId>),
}

/// Names one container of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum One {
    /// That of a service with a number, from 1.
    Of {
        /// The service.
        service: String,
        /// Which of its containers.
        index: u32,
    },
    /// That with an id.
    Container(ContainerId),
}

/// The arguments of `Command::Up`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Up {
    /// The checked project.
    pub project: Project,
    /// The directory that `image: root_fs` means, absolute.
    pub default_rootfs: Option<PathBuf>,
    /// Services to start, with all they depend on; every service where empty.
    pub services: Vec<String>,
    /// When an existing container is replaced.
    pub recreate: Recreate,
    /// Removes containers of services that the file does not have (any more).
    pub remove_orphans: bool,
    /// Makes containers and networks but starts nothing.
    pub no_start: bool,
    /// Instead of each service's `stop_grace_period` where containers are replaced.
    pub timeout: Option<Duration>,
    /// Overrides the number of containers of a service (`--scale`).
    pub scale: BTreeMap<String, u32>,
    /// Ends with `Done` only when all are running or healthy (`--wait`).
    pub wait: bool,
}

/// Says when `up` replaces an existing container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recreate {
    /// When its configuration hash differs.
    Changed,
    /// Always (`--force-recreate`).
    Always,
    /// Never (`--no-recreate`).
    Never,
}

/// The arguments of `Command::Down`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Down {
    /// Removes named volumes that the file declares, too.
    pub volumes: bool,
    /// Removes containers of services that the file does not have (any more).
    pub remove_orphans: bool,
    /// Instead of each service's `stop_grace_period`.
    pub timeout: Option<Duration>,
    /// Services; the whole project where empty.
    pub services: Vec<String>,
}

/// The arguments of `Command::Exec`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Where.
    pub container: One,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Added to the container's own environment.
    pub env: BTreeMap<String, String>,
    /// Instead of the container's own.
    pub user: Option<String>,
    /// Instead of the container's own.
    pub working_dir: Option<PathBuf>,
    /// Gives it a terminal.
    pub tty: bool,
    /// Gives it all capabilities.
    pub privileged: bool,
    /// Returns when it is started.
    pub detach: bool,
}

/// A frame from a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The request that it answers; 0 for none.
    pub number: u64,
    /// What is said.
    pub body: ReplyBody,
}

/// What a supervisor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// Something of the project changes: a row of the screen.
    Progress(Progress),
    /// Something that the user should know.
    Warning {
        /// One line or more.
        message: String,
    },
    /// The answer to `List`, by service and number.
    Containers(Vec<ContainerStatus>),
    /// The command of an `Exec` runs; with `tty` the frame carries the terminal's master.
    ExecStarted {
        /// Its process id on the host.
        pid: i32,
    },
    /// The command of an `Exec` has ended: the last reply.
    ExecEnded {
        /// How.
        status: ExitStatus,
    },
    /// The state of one container changed (to those who watch).
    Event(Box<ContainerStatus>),
    /// The last reply: it is done.
    Done,
    /// The last reply: it could not be done.
    Failed(Failure),
}

/// An error on its way to the screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What could not be done, and its causes, outermost first.
    pub chain: Vec<String>,
    /// How to mend it, where that is known.
    pub hint: Option<String>,
    /// The exit code of the command (DESIGN §12): 1, or for exec 125, 126, 127.
    pub code: u8,
}

/// A row of the screen: something and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `Container`, `Network` or `Volume`.
    pub kind: ObjectKind,
    /// Its full name.
    pub name: String,
    /// What happens to it.
    pub step: Step,
}

/// What a row of the screen is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A network.
    Network,
    /// A named volume.
    Volume,
    /// A container.
    Container,
}

/// What happens to it, in Compose's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the word that is shown")]
pub enum Step {
    Creating,
    Created,
    Recreate,
    Recreated,
    Starting,
    Started,
    Running,
    Waiting,
    Healthy,
    Exited,
    Stopping,
    Stopped,
    Killing,
    Killed,
    Removing,
    Removed,
    Error,
}

impl Step {
    /// Says whether nothing more comes for this row unless something new is asked.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Creating
                | Self::Recreate
                | Self::Starting
                | Self::Waiting
                | Self::Stopping
                | Self::Killing
                | Self::Removing
        )
    }
}

/// All that `ps` shows of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// Its name, `<project>-<service>-<n>` or as the file says.
    pub name: String,
    /// The project.
    pub project: String,
    /// The service; empty for a container of its own.
    pub service: String,
    /// Counts the service's containers from 1.
    pub number: u32,
    /// The image, as written.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// The health, where it is probed.
    pub health: Option<Health>,
    /// The process id of PID 1 on the host, while there is one.
    pub pid: Option<i32>,
    /// How it ended the last time.
    pub exit: Option<ExitStatus>,
    /// Whether the kernel killed one of its processes for want of memory in this run.
    pub oom_killed: bool,
    /// How often it was started again by its restart policy since it was last started by hand.
    pub restarts: u32,
    /// When it was created, in seconds after the epoch.
    pub created_at: u64,
    /// When it was last started.
    pub started_at: Option<u64>,
    /// When it last ended.
    pub finished_at: Option<u64>,
    /// Published ports as `0.0.0.0:8080->80/tcp`.
    pub ports: Vec<String>,
    /// Its address on each of its networks, by the network's full name.
    pub addresses: BTreeMap<String, String>,
    /// Its log file; none where nothing is kept.
    pub log: Option<PathBuf>,
    /// Whether its output goes to a terminal of its own.
    pub tty: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How often this has changed: of two the one with more is the later. A list may overtake events.
    #[serde(default)]
    pub changes: u64,
}

/// What a container is doing, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Made, never started (or being started for the first time).
    Created,
    /// Its process runs.
    Running,
    /// Its process ended and will be started again.
    Restarting,
    /// Its process ended.
    Exited,
    /// It is being removed, or what it left could not be.
    Dead,
}

/// What probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No verdict yet.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}
