//! What parent and new process say to each other: plan → created → start → (end of the channel at execve).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use super::LaunchPlan;
use crate::sys::{Channel, Frame, Received, parse_message, send_message};

/// Is what the parent sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Carry out the create part. The plan's descriptors ride on this frame.
    Plan(Box<LaunchPlan>),
    /// The hooks of `AwaitHooks` have run: go on.
    HooksDone,
    /// The process belongs to itself: its maker goes, and somebody else will say `Start`, at the socket.
    Detach,
    /// Carry out the start part.
    Start,
}

/// Is what the new process sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitMessage {
    /// `AwaitHooks` is reached.
    HooksDue,
    /// The create part is done. The pty's master rides on this frame where the plan opens a terminal.
    Created {
        /// What went worse than asked, one sentence each.
        warnings: Vec<String>,
    },
    /// The seccomp filter's listener, which rides on this frame.
    SeccompListener,
    /// A step failed; the process exits with `exit_code`.
    Failed(LaunchFailure),
}

/// Tells which step of a launch failed and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}{}", .object.as_ref().map(|object| format!(": {object}")).unwrap_or_default())]
pub struct LaunchFailure {
    /// The step, in words.
    pub step: String,
    /// What about it, where the step does not say it.
    pub object: Option<String>,
    /// The kernel's error number, where the kernel refused.
    pub errno: Option<i32>,
    /// What may be the cause, or what to do.
    pub hint: Option<String>,
    /// 127 for a command that is not there, 126 for one that cannot be executed, 125 for the rest.
    pub exit_code: i32,
}

impl LaunchFailure {
    /// Returns the kernel's error, the cause to print after the step.
    pub fn cause(&self) -> Option<io::Error> {
        self.errno.map(io::Error::from_raw_os_error)
    }
}

/// Is what became of the new process so far.
#[derive(Debug)]
pub enum InitEvent {
    /// The plan has come to `AwaitHooks`: the process waits for [`InitChannel::hooks_done`].
    HooksDue,
    /// The create part is done; the process waits for `Start`, unless the plan starts at once.
    Created {
        /// What went worse than asked.
        warnings: Vec<String>,
        /// The master of the container's terminal.
        terminal: Option<OwnedFd>,
    },
    /// The filter asks somebody (SCMP_ACT_NOTIFY): this descriptor is for the agent that the description names. Until it has
    /// it, the process may wait for an answer. It comes before `Created`; for an exec after
    /// `Start`.
    SeccompListener(OwnedFd),
    /// A step failed. The process is about to exit.
    Failed(LaunchFailure),
    /// The container's program runs: execve(2) closed the channel.
    Executed,
    /// The process ended without a word: it was killed.
    Died,
}

/// Is the parent's end of the channel to a new process: feed it readiness, it gives events.
#[derive(Debug)]
pub struct InitChannel {
    channel: Channel,
    started: bool,
    created: bool,
}

impl InitChannel {
    /// Makes a channel; the second value goes into [`super::SpawnFds`].
    ///
    /// # Errors
    /// EMFILE and the like.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Channel::pair()?;
        Ok((Self { channel: ours, started: false, created: false }, theirs.into_fd()))
    }

    /// Takes note that the process knows this plan from the beginning ([`super::spawn_init_with_plan`]).
    pub fn plan_is_known(&mut self, plan: &LaunchPlan) {
        self.started = plan.start_at_once;
    }

    /// Sends the plan with its descriptors, as many as `plan.descriptors` names and in that order.
    ///
    /// # Errors
    /// `InvalidInput` where the numbers differ; EPIPE where the process is gone.
    pub fn send_plan(&mut self, plan: &LaunchPlan, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if fds.len() != plan.descriptors.len() {
            let text = format!("{} descriptors for a plan that names {}", fds.len(), plan.descriptors.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.started = plan.start_at_once;
        send_message(&self.channel, &Order::Plan(Box::new(plan.clone())), fds)
    }

    /// Lets a created process go on to execve(2).
    ///
    /// # Errors
    /// EPIPE where the process is gone.
    pub fn send_start(&mut self) -> io::Result<()> {
        self.started = true;
        send_message(&self.channel, &Order::Start, &[])
    }

    /// Makes a channel of a connection to the process's [`super::Role::StartSocket`]: what is left to be said is `Start`.
    pub fn at_start_socket(connection: OwnedFd) -> Self {
        Self { channel: Channel::new(connection), started: false, created: true }
    }

    /// Lets a process go on that waits for hooks.
    ///
    /// # Errors
    /// EPIPE where the process is gone.
    pub fn hooks_done(&mut self) -> io::Result<()> {
        send_message(&self.channel, &Order::HooksDone, &[])
    }

    /// Lets a created process live on without us: from here on it waits at its socket. Without this word it ends with us.
    ///
    /// # Errors
    /// EPIPE where the process is gone.
    pub fn detach(self) -> io::Result<()> {
        send_message(&self.channel, &Order::Detach, &[])
    }

    /// Waits for the next event. After `Failed`, `Executed` or `Died` there is none.
    ///
    /// # Errors
    /// `InvalidData` for a message that is none of ours.
    pub fn recv(&mut self) -> io::Result<InitEvent> {
        match self.channel.recv() {
            Ok(frame) => self.event(frame),
            Err(error) => self.end(error),
        }
    }

    /// Takes the next event if one is there; `None` otherwise.
    ///
    /// # Errors
    /// As [`InitChannel::recv`].
    pub fn try_recv(&mut self) -> io::Result<Option<InitEvent>> {
        match self.channel.try_recv() {
            Ok(Received::Frame(frame)) => self.event(Some(frame)).map(Some),
            Ok(Received::Closed) => self.event(None).map(Some),
            Ok(Received::Nothing) => Ok(None),
            Err(error) => self.end(error).map(Some),
        }
    }

    fn event(&mut self, frame: Option<Frame>) -> io::Result<InitEvent> {
        let Some(mut frame) = frame else {
            return Ok(if self.started && self.created { InitEvent::Executed } else { InitEvent::Died });
        };
        Ok(match parse_message(&frame)? {
            InitMessage::Created { warnings } => {
                self.created = true;
                InitEvent::Created { warnings, terminal: frame.fds.pop() }
            }
            InitMessage::HooksDue => InitEvent::HooksDue,
            InitMessage::SeccompListener => {
                let missing =
                    || io::Error::new(io::ErrorKind::InvalidData, "a seccomp listener without its descriptor");
                InitEvent::SeccompListener(frame.fds.pop().ok_or_else(missing)?)
            }
            InitMessage::Failed(failure) => InitEvent::Failed(failure),
        })
    }

    /// A process killed within a frame has died, whatever the rest of the frame would have said.
    fn end(&self, error: io::Error) -> io::Result<InitEvent> {
        if error.kind() == io::ErrorKind::UnexpectedEof { Ok(InitEvent::Died) } else { Err(error) }
    }
}

impl AsFd for InitChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl AsRawFd for InitChannel {
    fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }
}
