//! All that can happen to a supervisor. Sources turn into events; only the dispatcher acts on them.

use std::os::fd::OwnedFd;

use tokio::sync::{mpsc, oneshot};

use super::container::ContainerHandle;
use super::control::protocol::{ContainerStatus, Failure, Reply, Request};
use super::desired::Desired;
use crate::engine::ShimEvent;
use crate::keeper::ToSupervisor;
use crate::spec::ContainerId;

/// Is one thing that has happened.
#[derive(Debug)]
pub enum Event {
    /// A client has connected.
    ClientCame {
        /// Its number.
        client: u64,
        /// The way to it.
        replies: mpsc::Sender<(Reply, Option<OwnedFd>)>,
    },
    /// A client asks.
    ClientAsked {
        /// Its number.
        client: u64,
        /// What.
        request: Box<Request>,
        /// With which descriptors.
        fds: Vec<OwnedFd>,
    },
    /// A client's connection has ended.
    ClientLeft {
        /// Its number.
        client: u64,
    },
    /// The shim tells.
    Shim(ShimEvent),
    /// The keeper tells.
    Keeper(ToSupervisor, Vec<OwnedFd>),
    /// The keeper has died.
    KeeperLost,
    /// A command wants a new container to be known.
    Adopt {
        /// The command that asks; a cancelled one is not heard.
        command: u64,
        /// What it is to be.
        desired: Box<Desired>,
        /// Its handle.
        reply: oneshot::Sender<Result<ContainerHandle, Failure>>,
    },
    /// A container's state has changed.
    Changed(Box<ContainerStatus>),
    /// Something that the user should know.
    Warning(String),
    /// A container is gone.
    Removed(ContainerId),
    /// Somebody wants to know that everything sent before this was heard: a command, before it says its last word.
    Heard(oneshot::Sender<()>),
    /// A command has come to its end.
    CommandEnded {
        /// Its number.
        command: u64,
        /// Whether the project is gone with it.
        project_gone: bool,
        /// Whether it was done.
        is_done: bool,
    },
    /// SIGHUP, or firewall rules of somebody were deleted: they are looked at again.
    Reconcile,
    /// SIGTERM or SIGINT was sent to the supervisor itself.
    Terminate,
}
