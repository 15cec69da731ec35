use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::Places;
use crate::spec::{ContainerId, ExitStatus, SignalNumber};
use crate::supervisor::control::protocol::{ContainerStatus, Exec, Failure};

/// Is an answer: done, or why not.
pub type Outcome = Result<(), Failure>;

/// Is what a container may be told.
#[derive(Debug)]
pub enum ContainerCommand {
    /// Run, if you do not.
    Start(oneshot::Sender<Outcome>),
    /// Stop, and stay so. Answered when the process has ended and everything of it is cleared.
    Stop {
        /// Instead of the container's own grace period.
        timeout: Option<Duration>,
        /// What becomes of its places in networks.
        places: Places,
        /// It is started again after that: it stays though it is one that goes when it has ended.
        again: bool,
        /// Has a launch that is under way give up.
        notice: StopNotice,
        /// The answer.
        reply: oneshot::Sender<Outcome>,
    },
    /// Send a signal to PID 1.
    Kill {
        /// The signal.
        signal: SignalNumber,
        /// The answer.
        reply: oneshot::Sender<Outcome>,
    },
    /// Remove everything. The container must not run.
    Remove {
        /// Its volumes without a name, too.
        volumes: bool,
        /// The answer.
        reply: oneshot::Sender<Outcome>,
    },
    /// Run a command beside PID 1.
    Exec {
        /// What.
        exec: Box<Exec>,
        /// stdin, stdout and stderr, unless it gets a terminal.
        fds: Vec<OwnedFd>,
        /// The answer.
        reply: oneshot::Sender<Result<ExecRunning, Failure>>,
    },
    /// Run in the network namespace that the container whose network you share has now.
    Renew,
    /// A process of yours has ended.
    Ended {
        /// Its process id.
        pid: i32,
        /// How.
        status: ExitStatus,
        /// Who keeps the status until it is on record.
        source: EndSource,
    },
}

/// Says who keeps a wait status until it is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSource {
    /// The shim, as a zombie.
    Shim,
    /// The keeper, in its list.
    Keeper,
    /// Nobody: it was lost.
    Nobody,
}

/// Is a command that runs beside PID 1.
#[derive(Debug)]
pub struct ExecRunning {
    /// Its process id.
    pub pid: i32,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Resolves when it ends.
    pub ended: oneshot::Receiver<ExitStatus>,
}

/// Counts the stops that are on their way to a container: while it launches it hears nothing else.
#[derive(Clone, Debug, Default)]
pub struct PendingStops(Arc<watch::Sender<usize>>);

/// Is one stop on its way, until it is dropped.
#[derive(Debug)]
pub struct StopNotice(Arc<watch::Sender<usize>>);

impl PendingStops {
    /// Announces one.
    fn announce(&self) -> StopNotice {
        self.0.send_modify(|count| *count += 1);
        StopNotice(Arc::clone(&self.0))
    }

    /// Waits for one.
    pub async fn any(&self) {
        if self.0.subscribe().wait_for(|count| *count > 0).await.is_err() {
            // The sender is ours.
            std::future::pending().await
        }
    }
}

impl Drop for StopNotice {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Is the way to a container.
#[derive(Clone, Debug)]
pub struct ContainerHandle {
    /// Which one.
    pub id: ContainerId,
    /// What it was made from.
    pub config_hash: String,
    /// Its inbox.
    pub commands: mpsc::Sender<ContainerCommand>,
    /// Its state, always the latest.
    pub status: watch::Receiver<ContainerStatus>,
    /// Stops on their way to it.
    pub stops: PendingStops,
}

impl ContainerHandle {
    /// Returns its state.
    pub fn status(&self) -> ContainerStatus {
        self.status.borrow().clone()
    }

    /// Has it stop, also where it is only being made, and waits for the answer.
    pub async fn stop(&self, timeout: Option<Duration>, places: Places) -> Outcome {
        let notice = self.stops.announce();
        self.ask(|reply| ContainerCommand::Stop { timeout, places, again: false, notice, reply }).await
    }

    /// Has it stop and stay, to be started again.
    pub async fn stop_for_now(&self, timeout: Option<Duration>) -> Outcome {
        let (notice, places) = (self.stops.announce(), Places::GivenUp);
        self.ask(|reply| ContainerCommand::Stop { timeout, places, again: true, notice, reply }).await
    }

    /// Gives a command and waits for the answer.
    pub async fn ask(&self, command: impl FnOnce(oneshot::Sender<Outcome>) -> ContainerCommand) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::new(format!("container {} is gone", self.status.borrow().name));
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}
