//! The way to the shim: requests with answers, and the ends of its children as events.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::container::{ExecRequest, SpawnRequest};
use crate::network::watch;
use crate::shim::{ShimChild, ShimReply, ShimRequest};
use crate::spec::ExitStatus;
use crate::sys::{Channel, Frame, Received, parse_message, send_message};

/// Within this time the keeper has replaced a shim that died.
const REPLACEMENT: Duration = Duration::from_secs(10);

/// Is a process that the shim has made for us.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// Says why the shim did not make a process.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The shim ended before it answered; the keeper starts another.
    #[error("the shim ended while it made the process")]
    Gone,
    /// The request did not reach it.
    #[error("ask the shim for a process")]
    Send(#[source] io::Error),
    /// The kernel refused.
    #[error("{}", .0.join(": "))]
    Refused(Vec<String>),
}

/// Is what the shim tells unasked.
#[derive(Debug)]
pub enum ShimEvent {
    /// A shim is there, with these children.
    Hello(Vec<ShimChild>),
    /// A child has ended. It stays a zombie until [`ShimLink::recorded`].
    Exited {
        /// Its name.
        key: String,
        /// Its process id.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The shim has died.
    Lost,
}

type Answer = Result<Spawned, ShimError>;

#[derive(Debug, Default)]
struct State {
    sender: Option<Channel>,
    last_token: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
}

impl State {
    fn send(
        &mut self,
        request: impl Fn(u64) -> ShimRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<oneshot::Receiver<Answer>, ShimError> {
        let sender = self.sender.as_ref().ok_or(ShimError::Gone)?;
        self.last_token += 1;
        match send_message(sender, &request(self.last_token), fds) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.sender = None;
                return Err(ShimError::Gone);
            }
            Err(error) => return Err(ShimError::Send(error)),
        }
        let (answer, waiting) = oneshot::channel();
        self.waiting.insert(self.last_token, answer);
        Ok(waiting)
    }
}

/// Talks to whichever shim the project has at the moment. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ShimLink {
    state: Arc<Mutex<State>>,
    connected: Arc<Notify>,
}

impl ShimLink {
    /// Takes a connection to a new shim; requests to an earlier one fail. The future reads until the shim ends.
    ///
    /// # Errors
    /// EMFILE.
    pub fn connect(
        &self,
        socket: OwnedFd,
        events: mpsc::Sender<ShimEvent>,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let sender = Channel::new(socket.try_clone()?);
        let receiver = watch(Channel::new(socket), Interest::READABLE)?;
        self.with(|state| {
            state.waiting.clear();
            state.sender = Some(sender);
        });
        self.connected.notify_waiters();
        let link = self.clone();
        Ok(async move { link.read(receiver, events).await })
    }

    /// Makes a container's first process. `fds` as [`ShimRequest::Spawn`] wants them.
    ///
    /// # Errors
    /// [`ShimError`]. After [`ShimError::Gone`] there may be a process that holds duplicates of `fds`: ask again with others.
    pub async fn spawn(&self, key: &str, request: &SpawnRequest, cgroup: bool, fds: &[BorrowedFd<'_>]) -> Answer {
        let make = |token| ShimRequest::Spawn { token, key: key.to_owned(), request: request.clone(), cgroup };
        self.ask(make, fds).await
    }

    /// Makes a process in a running container. `fds` as [`ShimRequest::Exec`] wants them.
    ///
    /// # Errors
    /// As [`ShimLink::spawn`].
    pub async fn exec(&self, key: &str, request: &ExecRequest, cgroup: bool, fds: &[BorrowedFd<'_>]) -> Answer {
        let make = |token| ShimRequest::Exec { token, key: key.to_owned(), request: request.clone(), cgroup };
        self.ask(make, fds).await
    }

    /// Lets the shim reap a child whose end is on record.
    pub fn recorded(&self, pid: i32) {
        self.with(|state| {
            if let Some(sender) = &state.sender {
                // A shim that has died needs no leave: its children are the keeper's now.
                let _ = send_message(sender, &ShimRequest::Recorded { pid }, &[]);
            }
        });
    }

    /// Sends a request to the shim, to the next one where this one has died, and waits for the answer.
    async fn ask(&self, request: impl Fn(u64) -> ShimRequest, fds: &[BorrowedFd<'_>]) -> Answer {
        let deadline = Instant::now() + REPLACEMENT;
        loop {
            // Listening begins before the attempt, so that no connection is missed.
            let connected = self.connected.notified();
            match self.with(|state| state.send(&request, fds)) {
                Ok(waiting) => return waiting.await.unwrap_or(Err(ShimError::Gone)),
                Err(ShimError::Gone) => {}
                Err(error) => return Err(error),
            }
            tokio::time::timeout_at(deadline, connected).await.map_err(|_| ShimError::Gone)?;
        }
    }

    async fn read(&self, mut receiver: AsyncFd<Channel>, events: mpsc::Sender<ShimEvent>) {
        loop {
            let Ok(mut ready) = receiver.readable_mut().await else { break };
            match ready.get_inner_mut().try_recv() {
                Ok(Received::Frame(frame)) => {
                    let Some(event) = self.take(frame) else { continue };
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(Received::Nothing) => ready.clear_ready(),
                Ok(Received::Closed) | Err(_) => break,
            }
        }
        // Whoever waits is told so by its dropped sender.
        self.with(|state| state.waiting.clear());
        let _ = events.send(ShimEvent::Lost).await;
    }

    fn take(&self, mut frame: Frame) -> Option<ShimEvent> {
        let (token, answer) = match parse_message(&frame) {
            Ok(ShimReply::Hello { children }) => return Some(ShimEvent::Hello(children)),
            Ok(ShimReply::Exited { key, pid, status }) => return Some(ShimEvent::Exited { key, pid, status }),
            Ok(ShimReply::Failed { token, chain }) => (token, Err(ShimError::Refused(chain))),
            Ok(ShimReply::Spawned { token, pid }) => {
                let pidfd = frame.fds.pop()?;
                (token, Ok(Spawned { pid, pidfd }))
            }
            Err(error) => {
                tracing::error!(%error, "an unknown message from the shim");
                return None;
            }
        };
        // Nobody waits where the request was given up; the child's end is told as any other's.
        if let Some(waiting) = self.with(|state| state.waiting.remove(&token)) {
            let _ = waiting.send(answer);
        }
        None
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits until the process behind a pidfd has ended (it may still be a zombie).
///
/// # Errors
/// What epoll says.
pub async fn process_ended(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let watched = watch(pidfd.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    let _ready = watched.readable().await?;
    Ok(())
}
