//! The one place that owns the project's state. `run` turns sources into events; `handle` is plain code, one method an
//! event; whatever takes time is a command's task or a container's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::container::{Container, ContainerCommand, ContainerHandle, EndSource};
use super::control::protocol::{
    Command, ContainerStatus, Down, Exec, Failure, PROTOCOL_VERSION, Reply, ReplyBody, Request, State, Up,
};
use super::converge::{Existing, converge};
use super::desired::{Desired, desired_containers};
use super::event::Event;
use super::links::Shared;
use super::orchestrate::{Reporter, Work};
use super::record::ProjectRecord;
use crate::engine::ShimEvent;
use crate::keeper::{FromSupervisor, ToSupervisor};
use crate::spec::{ExitStatus, SignalNumber};

/// Is a connected client.
struct Client {
    replies: mpsc::Sender<(Reply, Option<OwnedFd>)>,
    /// The number of its `Watch`, if it watches.
    watches: Option<u64>,
}

/// Is a command at work that others may cancel.
struct AtWork {
    abort: AbortHandle,
    client: u64,
    request: u64,
    /// `Up` gives way to `Stop` and `Down`.
    gives_way: bool,
}

/// Is what is left when a dispatcher ends.
pub struct End {
    /// Nothing of the project is left.
    pub project_gone: bool,
    /// So many connections are still open.
    pub clients: usize,
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
    /// Set when a client was seen or a container lives: without either there is nothing to do here.
    idle_since: Option<tokio::time::Instant>,
}

/// So long a command waits until its client can take the last reply.
const LAST_REPLY: Duration = Duration::from_secs(5);
/// A supervisor with nothing to do and nobody to serve ends after this time.
const IDLE: Duration = Duration::from_millis(200);

impl Dispatcher {
    /// Takes over a project's containers, as they were recovered.
    pub fn new(links: Shared, up: Option<Up>, recovered: Vec<(Container, ContainerHandle)>) -> Self {
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
            idle_since: None,
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
                    Some(event) => self.handle(event),
                    None => break,
                },
                Some(_) = self.actors.join_next() => {}
                Some(_) = self.commands.join_next() => {}
                () = sleep_until(idle_end) => break,
            }
        }
        // With the senders, the clients' connections end when all replies are written.
        End { project_gone: self.project_gone, clients: self.clients.len() }
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
                self.clients.insert(client, Client { replies, watches: None });
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
            }
            Event::CommandEnded { command, project_gone } => {
                self.at_work.remove(&command);
                self.project_gone |= project_gone;
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

    fn reply(&mut self, client: u64, number: u64, body: ReplyBody, fd: Option<OwnedFd>) {
        let Some(known) = self.clients.get(&client) else { return };
        if known.replies.try_send((Reply { number, body }, fd)).is_err() {
            // It does not read: its connection ends with the sender.
            self.clients.remove(&client);
        }
    }

    fn asked(&mut self, client: u64, request: Request, fds: Vec<OwnedFd>) {
        let number = request.number;
        if request.version != PROTOCOL_VERSION {
            let failure = Failure::new(format!(
                "this project is run by mydocker {}, which does not understand this program's requests",
                env!("CARGO_PKG_VERSION")
            ));
            return self.reply(client, number, ReplyBody::Failed(failure), None);
        }
        if matches!(request.command, Command::Down(_)) {
            self.cancel_ups();
        }
        let alone = matches!(request.command, Command::Up(_) | Command::Down(_) | Command::Start { .. });
        if alone && !self.at_work.is_empty() {
            // Another `up` of the same file finds nothing to do when its turn comes; one after a `down` finds a new supervisor.
            return self.waiting.push_back((client, request));
        }
        match request.command {
            Command::Up(up) => self.begin_up(client, number, *up),
            Command::Down(down) => self.begin_down(client, number, down),
            Command::Start { services } => self.begin_start(client, number, &services),
            Command::Stop { services, timeout } => self.begin_stop(client, number, &services, timeout, false),
            Command::Restart { services, timeout } => self.begin_stop(client, number, &services, timeout, true),
            Command::Kill { services, signal } => self.begin_kill(client, number, &services, signal),
            Command::List => self.reply(client, number, ReplyBody::Containers(self.statuses()), None),
            Command::Exec(exec) => self.begin_exec(client, number, exec, fds),
            Command::Watch => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.watches = Some(number);
                }
            }
        }
    }

    fn statuses(&self) -> Vec<ContainerStatus> {
        let mut statuses: Vec<_> = self.containers.values().map(ContainerHandle::status).collect();
        statuses.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
        statuses
    }

    /// Runs a command as a task that reports to its client and ends with `Done` or `Failed`.
    fn begin<F>(&mut self, client: u64, request: u64, gives_way: bool, project_gone: bool, make: impl FnOnce(Work) -> F)
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
            let gone = project_gone && outcome.is_ok();
            let body = outcome.map_or_else(ReplyBody::Failed, |()| ReplyBody::Done);
            // The reply first: the dispatcher may end with the command.
            let last = replies.send((Reply { number: request, body }, None));
            // A client that does not read is let go by its own connection.
            let _ = tokio::time::timeout(LAST_REPLY, last).await;
            let _ = events.send(Event::CommandEnded { command, project_gone: gone }).await;
        });
        self.at_work.insert(command, AtWork { abort, client, request, gives_way });
    }

    /// Ends every `up` that is at work: what it started goes on until it is stopped.
    fn cancel_ups(&mut self) {
        let (cancelled, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.at_work).into_iter().partition(|(_, work)| work.gives_way);
        self.at_work = rest;
        for work in cancelled.into_values() {
            work.abort.abort();
            let failure = Failure::new("interrupted: the project is being stopped");
            self.reply(work.client, work.request, ReplyBody::Failed(failure), None);
        }
    }

    fn begin_up(&mut self, client: u64, number: u64, up: Up) {
        let prepared = self.prepare_up(&up);
        let (plan, up) = match prepared {
            Ok(plan) => (plan, Arc::new(up)),
            Err(failure) => return self.reply(client, number, ReplyBody::Failed(failure), None),
        };
        self.up = Some(up.clone());
        self.project_gone = false;
        let handles = self.containers.clone();
        self.begin(client, number, true, false, |work| async move { work.up(up, plan, handles).await });
    }

    /// Begins what had to wait. Whoever has left meanwhile wants it no more.
    fn begin_waiting(&mut self) {
        while !self.project_gone
            && self.at_work.is_empty()
            && let Some((client, request)) = self.waiting.pop_front()
        {
            if self.clients.contains_key(&client) {
                self.asked(client, request, Vec::new());
            }
        }
    }

    fn prepare_up(&mut self, up: &Up) -> Result<super::converge::Convergence, Failure> {
        let desired = desired_containers(up, &self.links.host.dirs)
            .map_err(|error| Failure { hint: error.hint(), ..Failure::new(error.to_string()) })?;
        let in_file: BTreeSet<String> =
            up.project.services.keys().cloned().chain(up.project.inactive.keys().cloned()).collect();
        let selected = with_dependencies(up);
        let existing: Vec<_> = self
            .containers
            .values()
            .map(|handle| Existing { status: handle.status(), config_hash: handle.config_hash.clone() })
            .collect();
        let record = ProjectRecord { up: clone_up(up) };
        self.links
            .records
            .write_project(&record)
            .map_err(|error| Failure { hint: error.hint(), ..Failure::caused("write down the project", &error) })?;
        Ok(converge(desired, &existing, up.recreate, &selected, &in_file))
    }

    /// Chooses containers of services; none given are all.
    fn select(&self, services: &[String]) -> Result<Vec<ContainerHandle>, Failure> {
        for service in services {
            let known = self.containers.values().any(|handle| &handle.status.borrow().service == service)
                || self.up.as_ref().is_some_and(|up| up.project.services.contains_key(service));
            if !known {
                return Err(Failure::new(format!("no such service: {service}")));
            }
        }
        let wanted =
            |handle: &&ContainerHandle| services.is_empty() || services.contains(&handle.status.borrow().service);
        Ok(self.containers.values().filter(wanted).cloned().collect())
    }

    fn dependencies(&self) -> BTreeMap<String, BTreeSet<String>> {
        let services = self.up.iter().flat_map(|up| up.project.services.values());
        services.map(|service| (service.name.clone(), service.depends_on.keys().cloned().collect())).collect()
    }

    fn begin_down(&mut self, client: u64, number: u64, down: Down) {
        let containers = match self.select(&down.services) {
            Ok(containers) => containers,
            Err(failure) => return self.reply(client, number, ReplyBody::Failed(failure), None),
        };
        let (dependencies, up) = (self.dependencies(), self.up.clone());
        let project = self.links.config.project.clone();
        let everything = down.services.is_empty();
        self.begin(client, number, false, everything, |work| async move {
            // Each part is tried whatever became of the one before; the first failure is told.
            let stopped = work.stop(&dependencies, containers.clone(), down.timeout).await;
            if !everything {
                return stopped.and(work.remove(containers).await);
            }
            // A stopped container is on no network any more: its files and its networks go side by side.
            let (files, networks) = tokio::join!(work.remove(containers), work.remove_networks(&project));
            stopped.and(files).and(networks)?;
            if let (true, Some(up)) = (down.volumes, up) {
                work.remove_volumes(&up.project)?;
            }
            Ok(())
        });
    }

    fn begin_start(&mut self, client: u64, number: u64, services: &[String]) {
        match self.select(services) {
            Ok(containers) => {
                let dependencies = self.dependencies();
                self.begin(
                    client,
                    number,
                    false,
                    false,
                    |work| async move { work.start(&dependencies, containers).await },
                );
            }
            Err(failure) => self.reply(client, number, ReplyBody::Failed(failure), None),
        }
    }

    fn begin_stop(
        &mut self,
        client: u64,
        number: u64,
        services: &[String],
        timeout: Option<Duration>,
        and_start: bool,
    ) {
        if services.is_empty() {
            self.cancel_ups();
        }
        match self.select(services) {
            Ok(containers) => {
                let dependencies = self.dependencies();
                self.begin(client, number, false, false, |work| async move {
                    work.stop(&dependencies, containers.clone(), timeout).await?;
                    if and_start { work.start(&dependencies, containers).await } else { Ok(()) }
                });
            }
            Err(failure) => self.reply(client, number, ReplyBody::Failed(failure), None),
        }
    }

    fn begin_kill(&mut self, client: u64, number: u64, services: &[String], signal: SignalNumber) {
        let containers = match self.select(services) {
            Ok(containers) => containers,
            Err(failure) => return self.reply(client, number, ReplyBody::Failed(failure), None),
        };
        self.begin(client, number, false, false, |work| async move { work.kill(containers, signal).await });
    }

    fn begin_exec(&mut self, client: u64, number: u64, exec: Box<Exec>, fds: Vec<OwnedFd>) {
        let found = self.containers.values().find(|handle| {
            let status = handle.status.borrow();
            status.service == exec.service && status.number == exec.index
        });
        let Some(handle) = found.cloned() else {
            let failure = Failure { code: 125, ..Failure::new(format!("service \"{}\" is not running", exec.service)) };
            return self.reply(client, number, ReplyBody::Failed(failure), None);
        };
        let Some(replies) = self.clients.get(&client).map(|client| client.replies.clone()) else { return };
        self.commands.spawn(async move {
            let say = |body, fd| replies.send((Reply { number, body }, fd));
            let (reply, answer) = oneshot::channel();
            let asked = handle.commands.send(ContainerCommand::Exec { exec, fds, reply }).await;
            let outcome = match asked {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(Failure::exec("the container is gone"))),
                Err(_) => Err(Failure::exec("the container is gone")),
            };
            let _ = match outcome {
                Ok(running) => {
                    let _ = say(ReplyBody::ExecStarted { pid: running.pid }, running.terminal).await;
                    let status = running.ended.await.unwrap_or(ExitStatus::Unknown);
                    say(ReplyBody::ExecEnded { status }, None).await
                }
                Err(failure) => say(ReplyBody::Failed(failure), None).await,
            };
        });
    }

    fn shim_told(&mut self, event: ShimEvent) {
        match event {
            // Ends of its children follow; those that nobody knows of are let go when they come.
            ShimEvent::Hello(children) => tracing::debug!(children = children.len(), "a shim is there"),
            ShimEvent::Exited { key, pid, status } => match self.containers.get(&key) {
                Some(handle) => self.tell_end(handle.clone(), pid, status, EndSource::Shim),
                None => {
                    self.links.execs.ended(&key, status);
                    self.links.shim.recorded(pid);
                }
            },
            ShimEvent::Lost => tracing::warn!("the shim has died; the keeper starts another"),
        }
    }

    fn tell_end(&mut self, handle: ContainerHandle, pid: i32, status: ExitStatus, source: EndSource) {
        // The inbox may be full of commands; an end must never be lost nor hold up others.
        self.commands.spawn(async move {
            let _ = handle.commands.send(ContainerCommand::Ended { pid, status, source }).await;
        });
    }

    fn keeper_told(&mut self, message: ToSupervisor, mut fds: Vec<OwnedFd>) {
        match message {
            ToSupervisor::Orphan(orphan) => {
                let owner = self.containers.values().find(|handle| handle.status.borrow().pid == Some(orphan.pid));
                match owner.cloned() {
                    Some(handle) => self.tell_end(handle, orphan.pid, orphan.status, EndSource::Keeper),
                    None => self.links.keeper.send(&FromSupervisor::OrphanRecorded { pid: orphan.pid }, &[]),
                }
            }
            ToSupervisor::Shim => self.connect_shim(fds.pop()),
            other => tracing::error!(?other, "an unexpected message from the keeper"),
        }
    }

    /// Talks to a new shim from now on.
    pub fn connect_shim(&mut self, socket: Option<OwnedFd>) {
        let Some(socket) = socket else { return };
        let (shim_events, mut from_shim) = mpsc::channel(64);
        let reading = match self.links.shim.connect(socket, shim_events) {
            Ok(reading) => reading,
            Err(error) => return tracing::error!(%error, "the new shim cannot be reached"),
        };
        self.commands.spawn(reading);
        let events = self.links.events.clone();
        self.commands.spawn(async move {
            while let Some(event) = from_shim.recv().await {
                let _ = events.send(Event::Shim(event)).await;
            }
        });
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

    /// SIGTERM to the supervisor itself stops the project, as `stop` does.
    fn terminate(&mut self) {
        self.cancel_ups();
        let (dependencies, containers) = (self.dependencies(), self.containers.values().cloned().collect());
        let (report, _rows) = Reporter::new();
        let work = Work { command: 0, links: self.links.clone(), report };
        self.commands.spawn(async move {
            if let Err(failure) = work.stop(&dependencies, containers, None).await {
                tracing::error!(error = %failure.chain.join(": "), "stopping on SIGTERM");
            }
        });
    }
}

/// The services that were asked for, with all they depend on.
fn with_dependencies(up: &Up) -> BTreeSet<String> {
    if up.services.is_empty() {
        return up.project.services.keys().cloned().collect();
    }
    let (mut selected, mut pending) = (BTreeSet::new(), up.services.clone());
    while let Some(name) = pending.pop() {
        if let Some(service) = up.project.services.get(&name)
            && selected.insert(name)
        {
            pending.extend(service.depends_on.keys().cloned());
        }
    }
    selected
}

fn clone_up(up: &Up) -> Up {
    Up {
        project: up.project.clone(),
        default_rootfs: up.default_rootfs.clone(),
        services: up.services.clone(),
        scale: up.scale.clone(),
        ..*up
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
