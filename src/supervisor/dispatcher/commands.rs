use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Dispatcher;
use crate::engine::Places;
use crate::spec::{ExitStatus, SignalNumber};
use crate::supervisor::container::{ContainerCommand, ContainerHandle};
use crate::supervisor::control::protocol::{
    Command, Down, Exec, Failure, PROTOCOL_VERSION, Reply, ReplyBody, Request, State, Up,
};
use crate::supervisor::converge::{Convergence, Existing, converge};
use crate::supervisor::desired::desired_containers;
use crate::supervisor::orchestrate::{Reporter, Work};
use crate::supervisor::record::ProjectRecord;

impl Dispatcher {
    pub(super) fn asked(&mut self, client: u64, request: Request, fds: Vec<OwnedFd>) {
        let number = request.number;
        if request.version != PROTOCOL_VERSION {
            let failure = Failure::new(format!(
                "this project is run by mydocker {}, which does not understand this program's requests",
                env!("CARGO_PKG_VERSION")
            ));
            return self.reply(client, number, ReplyBody::Failed(failure), None);
        }
        if !matches!(request.command, Command::Exec(_) | Command::Watch) {
            self.tell_warnings(client, number);
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

    /// Begins what had to wait. Whoever has left meanwhile wants it no more.
    pub(super) fn begin_waiting(&mut self) {
        while !self.project_gone
            && self.at_work.is_empty()
            && let Some((client, request)) = self.waiting.pop_front()
        {
            if self.clients.contains_key(&client) {
                self.asked(client, request, Vec::new());
            }
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

    fn prepare_up(&mut self, up: &Up) -> Result<Convergence, Failure> {
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

    fn begin_down(&mut self, client: u64, number: u64, down: Down) {
        let containers = match self.select(&down.services) {
            Ok(containers) => containers,
            Err(failure) => return self.reply(client, number, ReplyBody::Failed(failure), None),
        };
        let (dependencies, up) = (self.dependencies(), self.up.clone());
        let project = self.links.config.project.clone();
        let everything = down.services.is_empty();
        self.begin(client, number, false, everything, |work| async move {
            if let Some(up) = &up {
                work.restore_networks(&up.project).await;
            }
            // Each part is tried whatever became of the one before; the first failure is told.
            let places = if everything { Places::Left } else { Places::GivenUp };
            let stopped = work.stop(&dependencies, containers.clone(), down.timeout, places).await;
            if !everything {
                return stopped.and(work.remove(containers).await);
            }
            // Nobody uses the networks any more: files and networks go side by side.
            let declared = up.as_deref().map(|up| &up.project);
            let (files, networks) = tokio::join!(work.remove(containers), work.remove_networks(&project, declared));
            stopped.and(files).and(networks).and(work.remove_lost_containers())?;
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
                self.begin(client, number, false, false, |work| async move {
                    let _held = work.hold_ports_of(&containers, false)?;
                    work.start(&dependencies, containers).await
                });
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
            Ok(mut containers) => {
                if and_start {
                    containers.extend(self.restarted_along(services));
                }
                let dependencies = self.dependencies();
                self.begin(client, number, false, false, |work| async move {
                    // Nobody else is to take its ports while it does not run.
                    let _held = if and_start { Some(work.hold_ports_of(&containers, true)?) } else { None };
                    work.stop(&dependencies, containers.clone(), timeout, Places::GivenUp).await?;
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
        self.up.as_ref().map(|up| up.project.dependencies()).unwrap_or_default()
    }

    /// Chooses running containers that are restarted with services they depend on (`depends_on: restart: true`).
    fn restarted_along(&self, services: &[String]) -> Vec<ContainerHandle> {
        let Some(up) = &self.up else { return Vec::new() };
        let along = up.project.restarted_with(services.iter().map(String::as_str));
        let wanted = |handle: &&ContainerHandle| {
            let status = handle.status.borrow();
            along.contains(&status.service) && !services.contains(&status.service) && status.state == State::Running
        };
        self.containers.values().filter(wanted).cloned().collect()
    }

    /// SIGTERM to the supervisor itself stops the project, as `stop` does.
    pub(super) fn terminate(&mut self) {
        self.cancel_ups();
        let (dependencies, containers) = (self.dependencies(), self.containers.values().cloned().collect());
        let (report, _rows) = Reporter::new();
        let work = Work { command: 0, links: self.links.clone(), report };
        self.commands.spawn(async move {
            if let Err(failure) = work.stop(&dependencies, containers, None, Places::GivenUp).await {
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
