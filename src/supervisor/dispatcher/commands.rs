use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Dispatcher, Kind};
use crate::engine::Places;
use crate::spec::{ExitStatus, SignalNumber};
use crate::supervisor::container::{ContainerCommand, ContainerHandle};
use crate::supervisor::control::protocol::{
    Command, Down, Exec, Failure, One, PROTOCOL_VERSION, Reply, ReplyBody, Request, Selection, State, Up,
};
use crate::supervisor::converge::{Convergence, Existing, converge};
use crate::supervisor::desired::{Desired, desired_containers};
use crate::supervisor::orchestrate::{Reporter, Stopped, Work};
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
        let sees_off = match &request.command {
            Command::Down(down) => down.services.is_empty(),
            Command::Create(_) | Command::Remove { .. } => true,
            _ => false,
        };
        if let Some(client) = self.clients.get_mut(&client).filter(|_| sees_off) {
            client.sees_off = true;
        }
        let alone = matches!(
            request.command,
            Command::Up(_) | Command::Down(_) | Command::Start { .. } | Command::Create(_) | Command::Remove { .. }
        );
        if alone && !self.at_work.is_empty() {
            // Another `up` of the same file finds nothing to do when its turn comes; one after a `down` finds a new supervisor.
            return self.waiting.push_back((client, request));
        }
        match request.command {
            Command::Up(up) => self.begin_up(client, number, *up),
            Command::Down(down) => self.begin_down(client, number, down),
            Command::Create(desired) => self.begin_create(client, number, desired),
            Command::Start { which } => self.begin_start(client, number, &which),
            Command::Stop { which, timeout } => self.begin_stop(client, number, &which, timeout),
            Command::Restart { which, timeout } => self.begin_restart(client, number, &which, timeout),
            Command::Kill { which, signal } => self.begin_kill(client, number, &which, signal),
            Command::Remove { which, force, volumes } => self.begin_remove(client, number, &which, force, volumes),
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
        self.begin(client, number, Kind::Up, |work| async move { work.up(up, plan, handles).await });
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
        let containers = match self.of_services(&down.services) {
            Ok(containers) => containers,
            Err(failure) => return self.reply(client, number, ReplyBody::Failed(failure), None),
        };
        let (dependencies, up) = (self.dependencies(), self.up.clone());
        let (project, is_single) = (self.links.config.project.clone(), self.links.config.is_single());
        let everything = down.services.is_empty();
        self.begin(client, number, if everything { Kind::Down } else { Kind::Other }, |work| async move {
            if let Some(up) = &up {
                work.restore_networks(&up.project).await;
            }
            // Each part is tried whatever became of the one before; the first failure is told.
            // The network of a container of its own goes when the last has given its place up.
            let places = if everything && !is_single { Places::Left } else { Places::GivenUp };
            let stopped = work.stop(&dependencies, containers.clone(), down.timeout, Stopped::ForGood(places)).await;
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

    fn begin_create(&mut self, client: u64, number: u64, desired: Box<Desired>) {
        let known = self.containers.get(desired.request.id.as_str()).cloned();
        self.begin(client, number, Kind::Create, |work| async move { work.create(desired, known).await });
    }

    fn begin_remove(&mut self, client: u64, number: u64, which: &Selection, force: bool, volumes: bool) {
        match self.select(which) {
            Ok(containers) => {
                self.begin(
                    client,
                    number,
                    Kind::Other,
                    |work| async move { work.discard(containers, force, volumes).await },
                )
            }
            Err(failure) => self.reply(client, number, ReplyBody::Failed(failure), None),
        }
    }

    fn begin_start(&mut self, client: u64, number: u64, which: &Selection) {
        match self.select(which) {
            Ok(containers) => {
                let dependencies = self.dependencies();
                self.begin(client, number, Kind::Other, |work| async move {
                    let _held = work.hold_ports_of(&containers, false)?;
                    work.start(&dependencies, containers).await
                });
            }
            Err(failure) => self.reply(client, number, ReplyBody::Failed(failure), None),
        }
    }

    fn begin_stop(&mut self, client: u64, number: u64, which: &Selection, timeout: Option<Duration>) {
        if is_all(which) {
            self.cancel_ups();
        }
        match self.select(which) {
            Ok(containers) => {
                let dependencies = self.dependencies();
                self.begin(client, number, Kind::Other, |work| async move {
                    work.stop(&dependencies, containers, timeout, Stopped::ForGood(Places::GivenUp)).await
                });
            }
            Err(failure) => self.reply(client, number, ReplyBody::Failed(failure), None),
        }
    }

    fn begin_restart(&mut self, client: u64, number: u64, which: &Selection, timeout: Option<Duration>) {
        if is_all(which) {
            self.cancel_ups();
        }
        match self.select(which) {
            Ok(mut containers) => {
                if let Selection::Services(services) = which {
                    containers.extend(self.restarted_along(services));
                }
                let dependencies = self.dependencies();
                self.begin(client, number, Kind::Other, |work| async move {
                    // Nobody else is to take its ports while it does not run.
                    let _held = work.hold_ports_of(&containers, true)?;
                    work.stop(&dependencies, containers.clone(), timeout, Stopped::ForNow).await?;
                    work.start(&dependencies, containers).await
                });
            }
            Err(failure) => self.reply(client, number, ReplyBody::Failed(failure), None),
        }
    }

    fn begin_kill(&mut self, client: u64, number: u64, which: &Selection, signal: SignalNumber) {
        let containers = match self.select(which) {
            Ok(containers) => containers,
            Err(failure) => return self.reply(client, number, ReplyBody::Failed(failure), None),
        };
        self.begin(client, number, Kind::Other, |work| async move { work.kill(containers, signal).await });
    }

    fn begin_exec(&mut self, client: u64, number: u64, exec: Box<Exec>, fds: Vec<OwnedFd>) {
        let is_meant = |handle: &&ContainerHandle| match &exec.container {
            One::Of { service, index } => {
                let status = handle.status.borrow();
                status.service == *service && status.number == *index
            }
            One::Container(id) => handle.id == *id,
        };
        let Some(handle) = self.containers.values().find(is_meant).cloned() else {
            let failure = match &exec.container {
                One::Of { service, .. } => Failure::exec(format!("service \"{service}\" is not running")),
                One::Container(id) => Failure::exec(format!("container {} is gone", id.short())),
            };
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

    fn select(&self, which: &Selection) -> Result<Vec<ContainerHandle>, Failure> {
        match which {
            Selection::Services(services) => self.of_services(services),
            Selection::Containers(ids) => {
                Ok(ids.iter().filter_map(|id| self.containers.get(id.as_str())).cloned().collect())
            }
        }
    }

    /// Chooses containers of services; none given are all.
    fn of_services(&self, services: &[String]) -> Result<Vec<ContainerHandle>, Failure> {
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
            let stopped = work.stop(&dependencies, containers, None, Stopped::ForGood(Places::GivenUp)).await;
            if let Err(failure) = stopped {
                tracing::error!(error = %failure.chain.join(": "), "stopping on SIGTERM");
            }
        });
    }
}

/// Answers whether the whole project is meant.
fn is_all(which: &Selection) -> bool {
    matches!(which, Selection::Services(services) if services.is_empty())
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
