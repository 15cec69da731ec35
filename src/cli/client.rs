//! The client's end of the control socket: requests out, replies in, over as many connections as it takes.
//!
//! A supervisor that is killed is started again by the keeper and takes over. Every request but `Exec` means the same when
//! it is sent twice, so what was not answered is sent again.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::connect::Connector;
use super::report::CliError;
use crate::engine::watch;
use crate::supervisor::control::protocol::{Command, PROTOCOL_VERSION, Reply, ReplyBody, Request};
use crate::sys::{Channel, Received, parse_message};

/// So often a connection may break before we believe that it always will.
const ATTEMPTS: u32 = 8;

/// Talks to one project's supervisor.
#[derive(Debug)]
pub struct Client {
    connector: Connector,
    link: Link,
    last_number: u64,
    /// Requests without a last reply, as they were sent.
    pending: BTreeMap<u64, Pending>,
    /// Connections that broke since something was last heard.
    broken: u32,
}

#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Has a last reply, and may be sent again.
    Repeatable,
    /// Has no last reply: it is no reason to start a supervisor.
    Watching,
    /// Its descriptors are gone with the first connection.
    Once,
}

#[derive(Debug)]
enum Link {
    Up(AsyncFd<Channel>),
    Connecting(JoinHandle<Result<Option<Channel>, CliError>>),
    Down,
}

/// Is a reply with its descriptors.
#[derive(Debug)]
pub struct Heard {
    /// The request that it answers.
    pub number: u64,
    /// What is said.
    pub body: ReplyBody,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
}

impl Client {
    /// Connects, and starts the project's processes where nobody has.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn open(connector: &Connector) -> Result<Self, CliError> {
        Self::over(connector, connector.connect()?)
    }

    /// Connects if the project's supervisor runs.
    ///
    /// # Errors
    /// As [`Connector::connect_running`].
    pub fn open_running(connector: &Connector) -> Result<Option<Self>, CliError> {
        connector.connect_running()?.map(|channel| Self::over(connector, channel)).transpose()
    }

    fn over(connector: &Connector, channel: Channel) -> Result<Self, CliError> {
        let link = Link::Up(watch(channel, Interest::READABLE).map_err(|source| connector.connection_failed(source))?);
        Ok(Self { connector: connector.clone(), link, last_number: 0, pending: BTreeMap::new(), broken: 0 })
    }

    /// Sends a request and returns its number.
    ///
    /// # Errors
    /// [`CliError::Connection`] where it has no JSON form.
    pub fn send(&mut self, command: Command, fds: &[BorrowedFd<'_>]) -> Result<u64, CliError> {
        self.last_number += 1;
        let kind = match &command {
            Command::Watch => Kind::Watching,
            Command::Exec(_) => Kind::Once,
            _ => Kind::Repeatable,
        };
        let request = Request { version: PROTOCOL_VERSION, number: self.last_number, command };
        let bytes = serde_json::to_vec(&request).map_err(|error| self.connector.connection_failed(error.into()))?;
        let sent = match &self.link {
            Link::Up(channel) => channel.get_ref().send(&bytes, fds),
            // Sent with the others as soon as there is a connection.
            Link::Connecting(_) | Link::Down => Ok(()),
        };
        self.pending.insert(self.last_number, Pending { bytes, kind });
        if sent.is_err() {
            self.reconnect()?;
        }
        Ok(self.last_number)
    }

    /// Waits for the next reply; `None` when nobody works on the project any more. Cancel-safe.
    ///
    /// # Errors
    /// [`CliError::Connection`], and what a new connection says.
    pub async fn next(&mut self) -> Result<Option<Heard>, CliError> {
        loop {
            match &mut self.link {
                Link::Up(channel) => match receive(channel).await {
                    Ok(Some(frame)) => {
                        let reply: Reply =
                            parse_message(&frame).map_err(|source| self.connector.connection_failed(source))?;
                        self.note(&reply);
                        return Ok(Some(Heard { number: reply.number, body: reply.body, fds: frame.fds }));
                    }
                    Ok(None) => self.reconnect()?,
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.reconnect()?,
                    Err(source) => return Err(self.connector.connection_failed(source)),
                },
                Link::Connecting(attempt) => {
                    let found = attempt.await;
                    self.link = Link::Down;
                    let found = found.map_err(|error| self.connector.connection_failed(io::Error::other(error)))??;
                    if let Some(channel) = found {
                        self.resume(channel)?;
                    }
                }
                Link::Down => return Ok(None),
            }
        }
    }

    /// Waits for the last reply to a request that has nothing to show, and gives everything else to `other`.
    ///
    /// # Errors
    /// As [`Client::next`], and [`CliError::Refused`].
    pub async fn last_reply(&mut self, number: u64, mut other: impl FnMut(ReplyBody)) -> Result<ReplyBody, CliError> {
        loop {
            let Some(heard) = self.next().await? else {
                return Err(self.connector.connection_failed(io::ErrorKind::UnexpectedEof.into()));
            };
            match heard.body {
                ReplyBody::Failed(failure) if heard.number == number || heard.number == 0 => {
                    return Err(CliError::Refused(failure));
                }
                body if heard.number == number && is_last(&body) => return Ok(body),
                body => other(body),
            }
        }
    }

    fn note(&mut self, reply: &Reply) {
        self.broken = 0;
        if is_last(&reply.body) {
            self.pending.remove(&reply.number);
        }
    }

    /// Begins to connect again, if anything is still to be answered.
    fn reconnect(&mut self) -> Result<(), CliError> {
        self.broken += 1;
        let is_any = |kind: Kind| self.pending.values().any(|request| request.kind == kind);
        if is_any(Kind::Once) || self.broken > ATTEMPTS {
            let source = io::Error::other("the supervisor ended before it had answered");
            return Err(self.connector.connection_failed(source));
        }
        self.link = match (is_any(Kind::Repeatable), is_any(Kind::Watching)) {
            (false, false) => Link::Down,
            (must_answer, _) => {
                let connector = self.connector.clone();
                Link::Connecting(tokio::task::spawn_blocking(move || {
                    if must_answer { connector.connect().map(Some) } else { connector.connect_running() }
                }))
            }
        };
        Ok(())
    }

    /// Sends again what was not answered, in order.
    fn resume(&mut self, channel: Channel) -> Result<(), CliError> {
        let sent = self.pending.values().try_for_each(|request| channel.send(&request.bytes, &[]));
        self.link =
            Link::Up(watch(channel, Interest::READABLE).map_err(|source| self.connector.connection_failed(source))?);
        if sent.is_err() { self.reconnect() } else { Ok(()) }
    }
}

fn is_last(body: &ReplyBody) -> bool {
    match body {
        ReplyBody::Done | ReplyBody::Failed(_) | ReplyBody::Containers(_) | ReplyBody::ExecEnded { .. } => true,
        ReplyBody::Progress(_) | ReplyBody::Warning { .. } | ReplyBody::ExecStarted { .. } | ReplyBody::Event(_) => {
            false
        }
    }
}

/// Receives one frame. Cancel-safe: what was read of a frame stays in the channel.
async fn receive(channel: &mut AsyncFd<Channel>) -> io::Result<Option<crate::sys::Frame>> {
    loop {
        let mut guard = channel.readable_mut().await?;
        match guard.get_inner_mut().try_recv()? {
            Received::Frame(frame) => return Ok(Some(frame)),
            Received::Closed => return Ok(None),
            Received::Nothing => guard.clear_ready(),
        }
    }
}
