#![doc = include_str!("dispatcher/README.md")]

mod commands;
mod processes;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::container::{Container, ContainerHandle};
use super::control::protocol::{ContainerStatus, Failure, Reply, ReplyBody, Request, State, Up};
use super::desired::Desired;
use super::event::Event;
use super::links::Shared;
use super::orchestrate::{Reporter, Work};
use crate::sys::trim_heap;

/// Is a connected client.
struct Client {
    replies: mpsc::Sender<(Reply, Option<OwnedFd>)>,
    /// The number of its `Watch`, if it watches.
    watches: Option<u64>,
    /// It removes what is left of us when the project is gone.
    sees_off: bool,
}

/// Is a command at work that others may cancel.
struct AtWork {
    abort: AbortHandle,
    client: u64,
    request: u64,
    kind: Kind,
}

/// Says what a command is, as far as others have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Gives way to `Stop` and `Down`.
    Up,
    /// Makes the project's only container.
    Create,
    /// Leaves nothing of the project.
    Down,
    /// Anything else.
    Other,
}

/// Is what is left when a dispatcher ends.
pub struct End {
    /// Nothing of the project is left.
    pub project_gone: bool,
    /// So many connections are still open.
    pub clients: usize,
    /// Whether one of them removes what is left of us.
    pub is_seen_off: bool,
}

/// Owns the project.
pub struct Dispatcher {
    links: Shared,
    clients: BTreeMap<u64, Client>,
    containers: BTreeMap<String, ContainerHandle>,
    actors: JoinSet<()>,
    commands: JoinSet<()>,
    at_work: BTreeMap<u64, AtWork>,
    /// Requests that must not run beside others, in the order in which they came.
    waiting: VecDeque<(u64, Request)>,
    last_command: u64,
    up: Option<Arc<Up>>,
    project_gone: bool,
    /// What was found damaged, for the first client that asks for anything.
    warnings: Vec<String>,
    /// Set when a client was seen or a container lives: without either there is nothing to do here.
    idle_since: Option<tokio::time::Instant>,
    /// When what the last events have left free in the heap is given back.
    tidy_at: Option<tokio::time::Instant>,
}

/// So long a command waits until its client can take the last reply.
const LAST_REPLY: Duration = Duration::from_secs(5);
/// A supervisor with nothing to do and nobody to serve ends after this time.
const IDLE: Duration = Duration::from_millis(200);
/// So long after something happened the heap is tidied: a supervisor waits most of its life.
const TIDY: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Takes over a project's containers, as they were recovered.
    pub fn new(
        links: Shared,
        up: Option<Up>,
        recovered: Vec<(Container, ContainerHandle)>,
        warnings: Vec<String>,
    ) -> Self {
        let mut dispatcher = Self {
            links,
            clients: BTreeMap::new(),
            containers: BTreeMap::new(),
            actors: JoinSet::new(),
            commands: JoinSet::new(),
            at_work: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_command: 0,
            up: up.map(Arc::new),
            project_gone: false,
            warnings,
            idle_since: None,
            tidy_at: None,
        };
        for (container, handle) in recovered {
            dispatcher.house(container, handle);
        }
        dispatcher
    }

    /// Works until nothing runs and nobody asks, or until the project is gone.
    pub async fn run(mut self, events: &mut mpsc::Receiver<Event>) -> End {
        while !(self.project_gone && self.at_work.is_empty() && self.containers.is_empty()) {
            self.idle_since = match (self.is_idle(), self.idle_since) {
                (true, None) => Some(tokio::time::Instant::now()),
                (true, since) => since,
                (false, _) => None,
            };
            let idle_end = self.idle_since.map(|since| since + IDLE);
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        self.handle(event);
                        self.tidy_at.get_or_insert_with(|| tokio::time::Instant::now() + TIDY);
                    }
                    None => break,
                },
                Some(_) = self.actors.join_next() => {}
                Some(_) = self.commands.join_next() => {}
                () = sleep_until(idle_end) => break,
                () = sleep_until(self.tidy_at) => {
                    self.tidy_at = None;
                    trim_heap();
                }
            }
        }
        // With the senders, the clients' connections end when all replies are written.
        End {
            project_gone: self.project_gone || self.is_spent(),
            clients: self.clients.len(),
            is_seen_off: self.clients.values().any(|client| client.sees_off),
        }
    }

    /// Answers whether the project was a container of its own, and that is gone.
    fn is_spent(&self) -> bool {
        self.links.config.is_single() && self.containers.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.clients.is_empty()
            && self.at_work.is_empty()
            && self
                .containers
                .values()
                .all(|handle| matches!(handle.status.borrow().state, State::Created | State::Exited | State::Dead))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ClientCame { client, replies } => {
                self.clients.insert(client, Client { replies, watches: None, sees_off: false });
            }
            Event::ClientAsked { client, request, fds } => self.asked(client, *request, fds),
            Event::ClientLeft { client } => {
                self.clients.remove(&client);
            }
            Event::Shim(event) => self.shim_told(event),
            Event::Keeper(message, fds) => self.keeper_told(message, fds),
            Event::KeeperLost => {
                tracing::error!("the keeper has died: a crash of the supervisor would now lose statuses")
            }
            Event::Adopt { command, desired, reply } => {
                // One that was cancelled gets nothing more: the `down` after it has chosen its containers already.
                if self.at_work.contains_key(&command) {
                    let _ = reply.send(self.adopt(*desired));
                }
            }
            Event::Changed(status) => self.changed(&status),
            Event::Warning(message) => self.warn_all(&message),
            Event::Removed(id) => {
                self.containers.remove(id.as_str());
                self.project_gone |= self.is_spent();
            }
            Event::Heard(sender) => {
                // Dropped if nobody waits any more.
                let _ = sender.send(());
            }
            Event::CommandEnded { command, project_gone, is_done } => {
                if let Some(work) = self.at_work.remove(&command).filter(|work| work.kind == Kind::Create && is_done)
                    && let Some(client) = self.clients.get_mut(&work.client)
                {
                    // Its container is its own now, and may be gone already.
                    client.sees_off = false;
                }
                self.project_gone |= project_gone || self.is_spent();
            }
            Event::Reconcile => self.reconcile(),
            Event::Terminate => self.terminate(),
        }
        // Whatever ended what was at work: by itself, cancelled, refused.
        self.begin_waiting();
    }

    fn house(&mut self, container: Container, handle: ContainerHandle) {
        self.containers.insert(handle.id.as_str().to_owned(), handle);
        self.actors.spawn(container.live());
    }

    /// Makes a new container known; it is on record before anybody hears of it.
    fn adopt(&mut self, desired: Desired) -> Result<ContainerHandle, Failure> {
        let (mut container, handle) = Container::new(self.links.clone(), desired);
        container
            .put_on_record()
            .map_err(|error| Failure::caused(format!("create container {}", handle.status.borrow().name), &error))?;
        self.project_gone = false;
        self.house(container, handle.clone());
        Ok(handle)
    }

    /// Tells a client what was found damaged, once.
    fn tell_warnings(&mut self, client: u64, number: u64) {
        for message in std::mem::take(&mut self.warnings) {
            self.reply(client, number, ReplyBody::Warning { message }, None);
        }
    }

    fn reply(&mut self, client: u64, number: u64, body: ReplyBody, fd: Option<OwnedFd>) {
        let Some(known) = self.clients.get(&client) else { return };
        if known.replies.try_send((Reply { number, body }, fd)).is_err() {
            // It does not read: its connection ends with the sender.
            self.clients.remove(&client);
        }
    }

    fn statuses(&self) -> Vec<ContainerStatus> {
        let mut statuses: Vec<_> = self.containers.values().map(ContainerHandle::status).collect();
        statuses.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
        statuses
    }

    /// Runs a command as a task that reports to its client and ends with `Done` or `Failed`.
    fn begin<F>(&mut self, client: u64, request: u64, kind: Kind, make: impl FnOnce(Work) -> F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let Some(known) = self.clients.get(&client) else { return };
        let replies = known.replies.clone();
        let (report, mut rows) = Reporter::new();
        self.last_command += 1;
        let (command, events) = (self.last_command, self.links.events.clone());
        let work = make(Work { command, links: self.links.clone(), report });
        let abort = self.commands.spawn(async move {
            let mut work = std::pin::pin!(work);
            let outcome = loop {
                tokio::select! {
                    biased;
                    // A client that has gone or does not read misses rows; the work goes on.
                    Some(body) = rows.recv() => {
                        let _ = replies.try_send((Reply { number: request, body }, None));
                    }
                    outcome = &mut work => break outcome,
                }
            };
            while let Ok(body) = rows.try_recv() {
                let _ = replies.try_send((Reply { number: request, body }, None));
            }
            // What its containers warned of goes by way of the dispatcher and must not come after the end.
            let (sender, heard) = oneshot::channel();
            if events.send(Event::Heard(sender)).await.is_ok() {
                let _ = heard.await;
            }
            let (is_done, gone) = (outcome.is_ok(), kind == Kind::Down && outcome.is_ok());
            let body = outcome.map_or_else(ReplyBody::Failed, |()| ReplyBody::Done);
            // The reply first: the dispatcher may end with the command.
            let last = replies.send((Reply { number: request, body }, None));
            // A client that does not read is let go by its own connection.
            let _ = tokio::time::timeout(LAST_REPLY, last).await;
            let _ = events.send(Event::CommandEnded { command, project_gone: gone, is_done }).await;
        });
        self.at_work.insert(command, AtWork { abort, client, request, kind });
    }

    /// Ends every `up` that is at work: what it started goes on until it is stopped.
    fn cancel_ups(&mut self) {
        let (cancelled, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.at_work).into_iter().partition(|(_, work)| work.kind == Kind::Up);
        self.at_work = rest;
        for work in cancelled.into_values() {
            work.abort.abort();
            let failure = Failure::new("interrupted: the project is being stopped");
            self.reply(work.client, work.request, ReplyBody::Failed(failure), None);
        }
    }

    /// Looks at the firewall rules again and restores what of ours is missing.
    fn reconcile(&mut self) {
        let links = self.links.clone();
        self.commands.spawn(async move {
            if let Err(error) = links.host.networks.reconcile_firewall().await {
                tracing::error!(%error, "restoring firewall rules");
            }
        });
    }

    fn changed(&mut self, status: &ContainerStatus) {
        let watchers: Vec<_> = self.clients.iter().filter_map(|(id, client)| Some((*id, client.watches?))).collect();
        for (client, number) in watchers {
            self.reply(client, number, ReplyBody::Event(Box::new(status.clone())), None);
        }
    }

    fn warn_all(&mut self, message: &str) {
        let targets: Vec<_> = self
            .at_work
            .values()
            .map(|work| (work.client, work.request))
            .chain(self.clients.iter().filter_map(|(id, client)| Some((*id, client.watches?))))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        for (client, number) in targets {
            self.reply(client, number, ReplyBody::Warning { message: message.to_owned() }, None);
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
