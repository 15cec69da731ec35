//! Accepting clients: frames in, events out; replies in, frames out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::protocol::{Reply, Request};
use crate::engine::watch;
use crate::supervisor::event::Event;
use crate::sys::channel::Outgoing;
use crate::sys::{Channel, Received, parse_message};

/// So many clients may be connected at once.
const MOST_CLIENTS: usize = 128;
/// So many replies may wait for a client that does not read; then it is let go.
const REPLIES: usize = 4096;
/// A client that says nothing for so long after it connected is let go.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// A client that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(30);

/// Listens on `control.sock`.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    clients: JoinSet<()>,
    last_client: u64,
}

impl Server {
    /// Binds the socket, in place of what an earlier supervisor may have left. The caller holds the project lock.
    ///
    /// # Errors
    /// What unlink(2), bind(2) and listen(2) say.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(path)?, clients: JoinSet::new(), last_client: 0 })
    }

    /// Accepts clients for ever.
    pub async fn serve(mut self, events: mpsc::Sender<Event>) {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.welcome(stream, &events),
                    Err(error) => {
                        // Out of descriptors: those that are in use must go first.
                        tracing::warn!(%error, "a client was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = self.clients.join_next() => {}
            }
        }
    }

    fn welcome(&mut self, stream: UnixStream, events: &mpsc::Sender<Event>) {
        // The directory is ours alone; this guards against one that was made otherwise.
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
            Ok(peer) => return tracing::warn!(uid = peer.uid(), pid = peer.pid(), "another user's client was refused"),
            Err(error) => return tracing::warn!(%error, "a client without credentials was refused"),
        }
        if self.clients.len() >= MOST_CLIENTS {
            return tracing::warn!("a client was refused: {MOST_CLIENTS} are connected");
        }
        self.last_client += 1;
        let (client, events) = (self.last_client, events.clone());
        self.clients.spawn(async move {
            if let Err(error) = attend(client, stream, &events).await {
                tracing::warn!(client, %error, "a client was let go");
            }
            // The dispatcher ends only with us.
            let _ = events.send(Event::ClientLeft { client }).await;
        });
    }
}

async fn attend(client: u64, stream: UnixStream, events: &mpsc::Sender<Event>) -> io::Result<()> {
    let socket: OwnedFd = stream.into_std()?.into();
    let mut reader = watch(Channel::new(socket.try_clone()?), Interest::READABLE)?;
    let (replies, mut outbox) = mpsc::channel::<(Reply, Option<OwnedFd>)>(REPLIES);
    let _ = events.send(Event::ClientCame { client, replies }).await;
    let writer = watch(socket, Interest::WRITABLE)?;
    let mut said_nothing = true;
    loop {
        tokio::select! {
            // Cancel-safe: readiness only; a frame is taken whole or not at all.
            ready = reader.readable_mut() => {
                let mut ready = ready?;
                match ready.get_inner_mut().try_recv()? {
                    Received::Frame(frame) => {
                        said_nothing = false;
                        let request: Request = parse_message(&frame)?;
                        let asked = Event::ClientAsked { client, request: Box::new(request), fds: frame.fds };
                        let _ = events.send(asked).await;
                    }
                    Received::Nothing => ready.clear_ready(),
                    Received::Closed => return Ok(()),
                }
            }
            reply = outbox.recv() => match reply {
                Some((reply, fd)) => write(&writer, &reply, fd).await?,
                // The dispatcher has given this client up.
                None => return Ok(()),
            },
            () = tokio::time::sleep(FIRST_WORD), if said_nothing => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Writes one frame. The socket has room for many; where it has none, only this client waits, and not for ever.
async fn write(socket: &AsyncFd<OwnedFd>, reply: &Reply, fd: Option<OwnedFd>) -> io::Result<()> {
    let mut outgoing = Outgoing::new(&serde_json::to_vec(reply)?, fd.into_iter().collect())?;
    while !outgoing.push(socket.get_ref().as_fd())? {
        let ready = tokio::time::timeout(STALLED, socket.writable()).await;
        ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.clear_ready();
    }
    Ok(())
}
