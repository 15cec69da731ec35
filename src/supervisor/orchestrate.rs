//! What commands do to a project, as tasks: they ask containers and wait for them, in parallel as far as `depends_on`
//! allows. They own nothing; when one is cancelled, every container goes on from where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::container::{ContainerCommand, ContainerHandle};
use super::control::protocol::{ContainerStatus, Failure, Health, ObjectKind, Progress, ReplyBody, State, Step, Up};
use super::converge::{Change, Convergence};
use super::desired::{Desired, network_config};
use super::event::Event;
use super::links::Shared;
use crate::compose::model::{DependencyCondition, Project};
use crate::spec::SignalNumber;

/// Tells a client what happens. A client that does not read loses rows, never the last reply.
#[derive(Clone, Debug)]
pub struct Reporter {
    replies: mpsc::UnboundedSender<ReplyBody>,
}

impl Reporter {
    /// Makes a reporter and the place where its rows come out. The number of rows is bounded by the number of objects.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ReplyBody>) {
        let (replies, rows) = mpsc::unbounded_channel();
        (Self { replies }, rows)
    }

    fn row(&self, kind: ObjectKind, name: &str, step: Step) {
        let _ = self.replies.send(ReplyBody::Progress(Progress { kind, name: name.to_owned(), step }));
    }

    fn container(&self, name: &str, step: Step) {
        self.row(ObjectKind::Container, name, step);
    }

    /// Tells something that the user should know.
    pub fn warn(&self, message: String) {
        let _ = self.replies.send(ReplyBody::Warning { message });
    }
}

/// Is a command at work.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its number; 0 for what nobody asked for.
    pub command: u64,
    /// What all share.
    pub links: Shared,
    /// To the client.
    pub report: Reporter,
}

/// How far a service is, for those that depend on it.
#[derive(Clone, Debug)]
enum Reached {
    Waiting,
    Started(Arc<Vec<ContainerHandle>>),
    Failed,
}

impl Work {
    /// Makes a project be as its file says.
    ///
    /// # Errors
    /// The first failure; what runs goes on.
    pub async fn up(
        &self,
        up: Arc<Up>,
        plan: Convergence,
        handles: BTreeMap<String, ContainerHandle>,
    ) -> Result<(), Failure> {
        self.name_orphans(&up, &plan, &handles);
        self.ensure_networks(&up.project, &plan).await?;
        self.ensure_volumes(&up.project)?;
        for id in plan.surplus.iter().chain(plan.orphans.iter().filter(|_| up.remove_orphans)) {
            if let Some(handle) = handles.get(id.as_str()) {
                self.stop_one(handle, up.timeout).await?;
                self.remove_one(handle).await?;
            }
        }
        let reached: BTreeMap<String, _> =
            plan.services.keys().map(|name| (name.clone(), watch::channel(Reached::Waiting))).collect();
        let receivers: BTreeMap<String, watch::Receiver<Reached>> =
            reached.iter().map(|(name, (_, receiver))| (name.clone(), receiver.clone())).collect();
        let handles = Arc::new(handles);
        let mut tasks = JoinSet::new();
        let mut senders: BTreeMap<String, watch::Sender<Reached>> =
            reached.into_iter().map(|(name, (sender, _))| (name, sender)).collect();
        for (name, changes) in plan.services {
            let Some(sender) = senders.remove(&name) else { continue };
            let (work, up, receivers, handles) = (self.clone(), up.clone(), receivers.clone(), handles.clone());
            tasks.spawn(async move {
                let outcome = work.up_service(&up, &name, changes, &receivers, &handles).await;
                sender.send_replace(match &outcome {
                    Ok(containers) => Reached::Started(Arc::new(containers.clone())),
                    Err(_) => Reached::Failed,
                });
                outcome
            });
        }
        let started = join_all(tasks).await?;
        if up.wait {
            for containers in &started {
                self.wait_running(containers).await?;
            }
        }
        Ok(())
    }

    fn name_orphans(&self, up: &Up, plan: &Convergence, handles: &BTreeMap<String, ContainerHandle>) {
        let names: Vec<_> = plan
            .orphans
            .iter()
            .filter_map(|id| handles.get(id.as_str()))
            .map(|handle| handle.status.borrow().name.clone())
            .collect();
        if !names.is_empty() && !up.remove_orphans {
            self.report.warn(format!(
                "found orphan containers ({}) of services that the file does not have; `--remove-orphans` removes them",
                names.join(", ")
            ));
        }
    }

    async fn up_service(
        &self,
        up: &Up,
        name: &str,
        changes: Vec<Change>,
        reached: &BTreeMap<String, watch::Receiver<Reached>>,
        handles: &BTreeMap<String, ContainerHandle>,
    ) -> Result<Vec<ContainerHandle>, Failure> {
        let mut creations = JoinSet::new();
        for change in changes {
            let (work, timeout) = (self.clone(), up.timeout);
            let existing = match &change {
                Change::Keep(id) | Change::Replace(id, _) => handles.get(id.as_str()).cloned(),
                Change::Create(_) => None,
            };
            creations.spawn(async move { work.bring_about(change, existing, timeout).await });
        }
        let mut containers = join_all(creations).await?;
        containers.sort_by_key(|handle| handle.status.borrow().number);
        if up.no_start {
            return Ok(containers);
        }
        self.wait_dependencies(up, name, reached).await?;
        let mut starts = JoinSet::new();
        for handle in &containers {
            let (work, handle) = (self.clone(), handle.clone());
            starts.spawn(async move { work.start_one(&handle).await });
        }
        join_all(starts).await?;
        Ok(containers)
    }

    /// Makes the container of one change exist.
    async fn bring_about(
        &self,
        change: Change,
        existing: Option<ContainerHandle>,
        timeout: Option<Duration>,
    ) -> Result<ContainerHandle, Failure> {
        match (change, existing) {
            (Change::Keep(_), Some(handle)) => Ok(handle),
            (Change::Replace(_, desired), Some(old)) => {
                let name = desired.name.clone();
                self.report.container(&name, Step::Recreate);
                old.ask(|reply| ContainerCommand::Stop { timeout, reply }).await?;
                old.ask(ContainerCommand::Remove).await?;
                let handle = self.adopt(desired).await?;
                self.report.container(&name, Step::Recreated);
                Ok(handle)
            }
            (Change::Create(desired) | Change::Replace(_, desired), None | Some(_)) => {
                let name = desired.name.clone();
                self.report.container(&name, Step::Creating);
                let handle = self.adopt(desired).await?;
                self.report.container(&name, Step::Created);
                Ok(handle)
            }
            (Change::Keep(id), None) => Err(Failure::new(format!("container {id} is gone"))),
        }
    }

    async fn adopt(&self, desired: Box<Desired>) -> Result<ContainerHandle, Failure> {
        let (reply, answer) = oneshot::channel();
        let ended = || Failure::new("the supervisor is ending".to_owned());
        self.links.events.send(Event::Adopt { command: self.command, desired, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Starts a container that does not run.
    async fn start_one(&self, handle: &ContainerHandle) -> Result<(), Failure> {
        let status = handle.status();
        if status.state == State::Running {
            self.report.container(&status.name, Step::Running);
            return Ok(());
        }
        self.report.container(&status.name, Step::Starting);
        let outcome = handle.ask(ContainerCommand::Start).await;
        self.report.container(&status.name, if outcome.is_ok() { Step::Started } else { Step::Error });
        outcome
    }

    async fn wait_dependencies(
        &self,
        up: &Up,
        name: &str,
        reached: &BTreeMap<String, watch::Receiver<Reached>>,
    ) -> Result<(), Failure> {
        let Some(service) = up.project.services.get(name) else { return Ok(()) };
        for (other, dependency) in &service.depends_on {
            let Some(receiver) = reached.get(other) else { continue };
            let outcome = self.wait_dependency(other, dependency.condition, receiver.clone()).await;
            if dependency.required {
                outcome?;
            } else if let Err(failure) = outcome {
                self.report.warn(format!("optional dependency of {name}: {}", failure.chain.join(": ")));
            }
        }
        Ok(())
    }

    async fn wait_dependency(
        &self,
        service: &str,
        condition: DependencyCondition,
        mut reached: watch::Receiver<Reached>,
    ) -> Result<(), Failure> {
        let failed = || Failure::new(format!("dependency failed to start: service {service} did not start"));
        let now = reached.wait_for(|reached| !matches!(reached, Reached::Waiting)).await.map_err(|_| failed())?.clone();
        let Reached::Started(containers) = now else { return Err(failed()) };
        for handle in containers.iter() {
            match condition {
                DependencyCondition::ServiceStarted => {}
                DependencyCondition::ServiceHealthy => self.wait_healthy(handle).await?,
                DependencyCondition::ServiceCompletedSuccessfully => self.wait_completed(service, handle).await?,
            }
        }
        Ok(())
    }

    async fn wait_healthy(&self, handle: &ContainerHandle) -> Result<(), Failure> {
        let name = handle.status.borrow().name.clone();
        let verdict = |status: &ContainerStatus| match (status.state, status.health) {
            (_, Some(Health::Healthy)) => Some(Ok(())),
            (_, Some(Health::Unhealthy)) => {
                Some(Err(Failure::new(format!("dependency failed to start: container {name} is unhealthy"))))
            }
            (State::Running, None) => {
                Some(Err(Failure::new(format!("dependency failed to start: container {name} has no healthcheck"))))
            }
            (State::Exited | State::Dead, _) => Some(Err(Failure::new(format!(
                "dependency failed to start: container {name} exited ({})",
                shown(status)
            )))),
            _ => None,
        };
        self.report.container(&name, Step::Waiting);
        let outcome = settle(handle, verdict).await;
        self.report.container(&name, if outcome.is_ok() { Step::Healthy } else { Step::Error });
        outcome
    }

    async fn wait_completed(&self, service: &str, handle: &ContainerHandle) -> Result<(), Failure> {
        let name = handle.status.borrow().name.clone();
        let verdict = |status: &ContainerStatus| match status.state {
            State::Exited if status.exit.is_some_and(crate::spec::ExitStatus::success) => Some(Ok(())),
            State::Exited | State::Dead => Some(Err(Failure::new(format!(
                "service \"{service}\" didn't complete successfully: exit {}",
                shown(status)
            )))),
            _ => None,
        };
        self.report.container(&name, Step::Waiting);
        let outcome = settle(handle, verdict).await;
        self.report.container(&name, if outcome.is_ok() { Step::Exited } else { Step::Error });
        outcome
    }

    async fn wait_running(&self, containers: &[ContainerHandle]) -> Result<(), Failure> {
        for handle in containers {
            let probed = handle.status.borrow().health.is_some();
            if probed {
                self.wait_healthy(handle).await?;
            }
        }
        Ok(())
    }

    async fn ensure_networks(&self, project: &Project, plan: &Convergence) -> Result<(), Failure> {
        let wanted: BTreeSet<&str> = plan
            .services
            .keys()
            .filter_map(|name| project.services.get(name))
            .flat_map(|service| service.networks.keys().map(String::as_str))
            .collect();
        for (key, network) in project.networks.iter().filter(|(key, _)| wanted.contains(key.as_str())) {
            let networks = &self.links.host.networks;
            if network.external {
                networks.find(&network.name).map_err(|error| Failure::of_network(&network.name, &error))?;
                continue;
            }
            let config = network_config(project, key, network)
                .map_err(|error| Failure { hint: error.hint(), ..Failure::new(error.to_string()) })?;
            let new = networks.find(&network.name).is_err();
            if new {
                self.report.row(ObjectKind::Network, &network.name, Step::Creating);
            }
            networks.ensure(&config).await.map_err(|error| Failure::of_network(&network.name, &error))?;
            if new {
                self.report.row(ObjectKind::Network, &network.name, Step::Created);
            }
        }
        Ok(())
    }

    fn ensure_volumes(&self, project: &Project) -> Result<(), Failure> {
        let dirs = &self.links.host.dirs;
        for volume in project.volumes.values() {
            let exists = dirs.volume(&volume.name).is_dir();
            if volume.external && !exists {
                return Err(Failure::new(format!("external volume \"{}\" not found", volume.name)));
            }
            if !exists {
                self.report.row(ObjectKind::Volume, &volume.name, Step::Creating);
                dirs.create_volume(&volume.name)
                    .map_err(|error| Failure::caused(format!("create volume {}", volume.name), &error))?;
                self.report.row(ObjectKind::Volume, &volume.name, Step::Created);
            }
        }
        Ok(())
    }

    /// Stops containers, those first that others do not depend on.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn stop(
        &self,
        dependencies: &BTreeMap<String, BTreeSet<String>>,
        containers: Vec<ContainerHandle>,
        timeout: Option<Duration>,
    ) -> Result<(), Failure> {
        let gone: BTreeMap<String, watch::Sender<usize>> = {
            let mut counts = BTreeMap::<String, usize>::new();
            for handle in &containers {
                *counts.entry(handle.status.borrow().service.clone()).or_default() += 1;
            }
            counts.into_iter().map(|(service, count)| (service, watch::channel(count).0)).collect()
        };
        let gone = Arc::new(gone);
        let mut tasks = JoinSet::new();
        for handle in containers {
            let service = handle.status.borrow().service.clone();
            let dependants: Vec<String> = dependencies
                .iter()
                .filter(|(_, needs)| needs.contains(&service))
                .map(|(dependant, _)| dependant.clone())
                .collect();
            let (work, gone) = (self.clone(), gone.clone());
            tasks.spawn(async move {
                for dependant in dependants {
                    if let Some(count) = gone.get(&dependant) {
                        let _ = count.subscribe().wait_for(|left| *left == 0).await;
                    }
                }
                let outcome = work.stop_one(&handle, timeout).await;
                if let Some(count) = gone.get(&service) {
                    count.send_modify(|left| *left -= 1);
                }
                outcome
            });
        }
        join_all(tasks).await.map(|_| ())
    }

    async fn stop_one(&self, handle: &ContainerHandle, timeout: Option<Duration>) -> Result<(), Failure> {
        let status = handle.status();
        let name = &status.name;
        if matches!(status.state, State::Created | State::Exited | State::Dead) {
            // It may be between two states: the container itself knows.
            return handle.ask(|reply| ContainerCommand::Stop { timeout, reply }).await;
        }
        self.report.container(name, Step::Stopping);
        let outcome = handle.ask(|reply| ContainerCommand::Stop { timeout, reply }).await;
        self.report.container(name, if outcome.is_ok() { Step::Stopped } else { Step::Error });
        outcome
    }

    async fn remove_one(&self, handle: &ContainerHandle) -> Result<(), Failure> {
        let name = handle.status.borrow().name.clone();
        self.report.container(&name, Step::Removing);
        let outcome = handle.ask(ContainerCommand::Remove).await;
        self.report.container(&name, if outcome.is_ok() { Step::Removed } else { Step::Error });
        outcome
    }

    /// Sends a signal to running containers.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn kill(&self, containers: Vec<ContainerHandle>, signal: SignalNumber) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for handle in containers.iter().filter(|handle| handle.status.borrow().state == State::Running) {
            let name = handle.status.borrow().name.clone();
            self.report.container(&name, Step::Killing);
            let sent = handle.ask(|reply| ContainerCommand::Kill { signal, reply }).await;
            self.report.container(&name, if sent.is_ok() { Step::Killed } else { Step::Error });
            outcome = outcome.and(sent);
        }
        outcome
    }

    /// Removes stopped containers.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn remove(&self, containers: Vec<ContainerHandle>) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for handle in containers {
            let work = self.clone();
            tasks.spawn(async move { work.remove_one(&handle).await });
        }
        join_all(tasks).await.map(|_| ())
    }

    /// Removes the project's networks that nobody else uses.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn remove_networks(&self, project: &str) -> Result<(), Failure> {
        let networks = &self.links.host.networks;
        let all = networks.list().map_err(|error| Failure::of_network(project, &error))?;
        let mut outcome = Ok(());
        for record in all.iter().filter(|record| record.config.project.as_deref() == Some(project)) {
            let name = &record.config.name;
            self.report.row(ObjectKind::Network, name, Step::Removing);
            match networks.remove(name).await {
                Ok(_) => self.report.row(ObjectKind::Network, name, Step::Removed),
                Err(error) => {
                    self.report.row(ObjectKind::Network, name, Step::Error);
                    outcome = outcome.and(Err(Failure::of_network(name, &error)));
                }
            }
        }
        outcome
    }

    /// Removes the named volumes that the file declares.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub fn remove_volumes(&self, project: &Project) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for volume in project.volumes.values().filter(|volume| !volume.external) {
            self.report.row(ObjectKind::Volume, &volume.name, Step::Removing);
            match self.links.host.dirs.remove_volume(&volume.name) {
                Ok(()) => self.report.row(ObjectKind::Volume, &volume.name, Step::Removed),
                Err(error) => {
                    self.report.row(ObjectKind::Volume, &volume.name, Step::Error);
                    outcome = outcome.and(Err(Failure::caused(format!("remove volume {}", volume.name), &error)));
                }
            }
        }
        outcome
    }

    /// Starts existing containers, dependencies first.
    ///
    /// # Errors
    /// The first failure.
    pub async fn start(
        &self,
        dependencies: &BTreeMap<String, BTreeSet<String>>,
        containers: Vec<ContainerHandle>,
    ) -> Result<(), Failure> {
        let mut waiting = containers;
        let mut started = BTreeSet::new();
        while !waiting.is_empty() {
            let pending: BTreeSet<String> =
                waiting.iter().map(|handle| handle.status.borrow().service.clone()).collect();
            let ready = |handle: &ContainerHandle| {
                let service = handle.status.borrow().service.clone();
                dependencies
                    .get(&service)
                    .is_none_or(|needs| needs.iter().all(|need| started.contains(need) || !pending.contains(need)))
            };
            let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(ready);
            // A record from another file might name a cycle: then the order does not matter.
            let (now, later) = if now.is_empty() { (later, Vec::new()) } else { (now, later) };
            let mut tasks = JoinSet::new();
            for handle in now {
                started.insert(handle.status.borrow().service.clone());
                let work = self.clone();
                tasks.spawn(async move { work.start_one(&handle).await });
            }
            join_all(tasks).await?;
            waiting = later;
        }
        Ok(())
    }
}

fn shown(status: &ContainerStatus) -> String {
    status.exit.map_or_else(|| "unknown".to_owned(), |exit| exit.to_string())
}

/// Waits until `verdict` has one.
async fn settle(
    handle: &ContainerHandle,
    verdict: impl Fn(&ContainerStatus) -> Option<Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut status = handle.status.clone();
    loop {
        if let Some(outcome) = verdict(&status.borrow_and_update()) {
            return outcome;
        }
        if status.changed().await.is_err() {
            return Err(Failure::new("the container was removed".to_owned()));
        }
    }
}

/// Waits for all; returns the first failure after that.
async fn join_all<T: 'static>(mut tasks: JoinSet<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let (mut results, mut failure) = (Vec::new(), None);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(Ok(result)) => results.push(result),
            Ok(Err(error)) => failure = failure.or(Some(error)),
            Err(error) if error.is_panic() => {
                failure = failure.or(Some(Failure::new(format!("internal error: {error}"))))
            }
            Err(_) => {}
        }
    }
    failure.map_or(Ok(results), Err)
}
