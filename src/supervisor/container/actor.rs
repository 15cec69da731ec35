//! The inbox and what follows from it. Everything slow that is not this container's own doing is somebody else's task.

use std::os::fd::AsFd;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::command::{ContainerCommand, ContainerHandle, EndSource, Outcome};
use super::probe::ProbeEnded;
use super::run::Run;
use crate::compose::model::Logging;
use crate::engine::{self, ContainerFiles, Job, LaunchError};
use crate::spec::{ExitStatus, NetworkNamespace, SignalNumber};
use crate::store::{ProcessIdentity, StoreError};
use crate::supervisor::control::protocol::{ContainerStatus, Failure, State};
use crate::supervisor::desired::Desired;
use crate::supervisor::event::Event;
use crate::supervisor::health::HealthTracker;
use crate::supervisor::links::{Shared, now};
use crate::supervisor::record::{ContainerRecord, Intent, Phase};
use crate::supervisor::restart::Backoff;

/// How many commands may wait.
const INBOX: usize = 64;
/// Output that a dead container left in its pipes is carried to the log within this time.
const DRAIN: Duration = Duration::from_secs(5);

/// Is one container of the project.
#[derive(Debug)]
pub struct Container {
    pub(super) links: Shared,
    pub(super) record: ContainerRecord,
    pub(super) run: Option<Run>,
    pub(super) probes: JoinSet<ProbeEnded>,
    pub(super) health: Option<HealthTracker>,
    status: watch::Sender<ContainerStatus>,
    inbox: mpsc::Receiver<ContainerCommand>,
    own_inbox: mpsc::WeakSender<ContainerCommand>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    stop_deadline: Option<Instant>,
    waiting_for_stop: Vec<oneshot::Sender<Outcome>>,
    removed: bool,
}

impl Container {
    /// Makes the actor of a container that does not exist yet, and the way to it.
    pub fn new(links: Shared, desired: Desired) -> (Self, ContainerHandle) {
        let status = first_status(&links, &desired);
        let record = ContainerRecord {
            status,
            desired,
            intent: Intent::Stop,
            phase: Phase::Idle,
            process: None,
            restarts_in_a_row: 0,
        };
        Self::from_record(links, record)
    }

    /// Makes the actor of a container that is on record.
    pub fn from_record(links: Shared, record: ContainerRecord) -> (Self, ContainerHandle) {
        let (commands, inbox) = mpsc::channel(INBOX);
        let (sender, receiver) = watch::channel(record.status.clone());
        let handle = ContainerHandle {
            id: record.status.id.clone(),
            config_hash: record.desired.config_hash.clone(),
            commands: commands.clone(),
            status: receiver,
        };
        let container = Self {
            links,
            run: None,
            probes: JoinSet::new(),
            health: None,
            status: sender,
            inbox,
            own_inbox: commands.downgrade(),
            backoff: Backoff::resumed(record.restarts_in_a_row),
            retry_at: None,
            stop_deadline: None,
            waiting_for_stop: Vec::new(),
            removed: false,
            record,
        };
        (container, handle)
    }

    /// Lives until the container is removed or the supervisor ends.
    pub async fn live(mut self) {
        while !self.removed {
            tokio::select! {
                // All branches are cancel-safe: a channel, two timers, a set of tasks.
                // Boxed: a container that waits needs no room for what it may do.
                command = self.inbox.recv() => match command {
                    Some(command) => Box::pin(self.obey(command)).await,
                    None => return,
                },
                () = sleep_until(self.retry_at) => Box::pin(self.retry()).await,
                () = sleep_until(self.stop_deadline) => self.grace_is_over(),
                Some(Ok(ended)) = self.probes.join_next() => self.probe_ended(ended).await,
            }
        }
    }

    async fn obey(&mut self, command: ContainerCommand) {
        match command {
            ContainerCommand::Start(reply) => {
                let outcome = self.start().await;
                let _ = reply.send(outcome);
            }
            ContainerCommand::Stop { timeout, reply } => self.stop(timeout, reply).await,
            ContainerCommand::Kill { signal, reply } => {
                let _ = reply.send(self.kill(signal));
            }
            ContainerCommand::Remove(reply) => {
                let outcome = self.remove().await;
                let _ = reply.send(outcome);
            }
            ContainerCommand::Exec { exec, fds, reply } => {
                let outcome = self.exec(*exec, fds).await;
                let _ = reply.send(outcome);
            }
            ContainerCommand::Ended { pid, status, source } => self.ended(pid, status, source).await,
        }
    }

    /// Starts by hand: counts and waits begin anew.
    async fn start(&mut self) -> Outcome {
        if self.run.is_some() {
            return Ok(());
        }
        self.retry_at = None;
        self.backoff = Backoff::default();
        self.record.restarts_in_a_row = 0;
        self.record.status.restarts = 0;
        self.record.intent = Intent::Run;
        match self.launch().await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = Failure::of_launch(&self.record.status.name, &error);
                self.launch_failed(&error);
                self.record.intent = Intent::Stop;
                self.save();
                Err(failure)
            }
        }
    }

    /// Starts as the restart policy says.
    async fn retry(&mut self) {
        self.retry_at = None;
        if let Err(error) = self.launch().await {
            let chain = error.chain().join(": ");
            tracing::warn!(container = %self.record.status.name, error = %chain, "a restart failed");
            self.launch_failed(&error);
            self.decide_restart(ExitStatus::Code(error.exit_code()), Duration::ZERO, Instant::now());
            self.save();
        }
    }

    pub(super) async fn launch(&mut self) -> Result<(), LaunchError> {
        self.record.phase = Phase::Changing;
        self.record.status.oom_killed = false;
        self.write()?;
        self.make_host_paths()?;
        let links = self.links.clone();
        let cgroup = links.cgroup_path(self.record.status.id.as_str());
        let mut request = self.record.desired.request.clone();
        let names = self.names();
        let networks = self.record.desired.networks.clone();
        let shared = match &self.record.desired.shares_network_of {
            Some(service) => Some(
                links
                    .services
                    .network_of(service)
                    .ok_or_else(|| LaunchError::SharedNetwork { service: service.clone() })?,
            ),
            None => None,
        };
        if let Some((id, _)) = &shared {
            request.namespaces.network = NetworkNamespace::Container(id.clone());
        }
        let job = Job {
            request: &request,
            cgroup: &cgroup,
            networks: &networks,
            names: &names,
            shared_network: shared.as_ref().map(|(_, netns)| netns.as_fd()),
        };
        let mut note = self.record.clone();
        let note_process = |process: &ProcessIdentity| {
            note.process = Some(process.clone());
            links.records.write_container(&note)
        };
        let mut created = engine::create(&links.host, &links.shim, &job, note_process).await?;
        self.record.process = Some(created.live.process.clone());
        self.warn(&created.warnings);
        // What is read before the start cannot be lost after it.
        let run = match Run::begin(&self.links, &self.record, &mut created) {
            Ok(run) => run,
            Err(error) => {
                self.discard(created).await;
                return Err(error);
            }
        };
        if let Err(error) = engine::start(&mut created).await {
            run.drained(DRAIN).await;
            self.discard(created).await;
            return Err(error);
        }
        self.begin_run(run.with(created));
        Ok(())
    }

    /// Clears a container that never ran its program.
    async fn discard(&mut self, created: engine::Created) {
        let errors = engine::clear(&self.links.host, &self.record.status.id, created.live).await;
        self.report(errors);
    }

    fn begin_run(&mut self, run: Run) {
        let status = &mut self.record.status;
        status.state = State::Running;
        status.pid = Some(run.pid());
        status.started_at = Some(now());
        status.finished_at = None;
        status.addresses = run.addresses();
        status.ports = run.ports();
        self.record.phase = Phase::Running;
        if status.number == 1 {
            self.links.services.note(&status.service, Some((status.id.clone(), run.pid())));
        }
        self.run = Some(run);
        self.follow_health();
        self.save();
        self.schedule_probe();
    }

    /// Writes the first record of a container that was just thought of.
    ///
    /// # Errors
    /// [`StoreError`]: then there is no such container.
    pub fn put_on_record(&mut self) -> Result<(), StoreError> {
        self.write()?;
        self.save();
        Ok(())
    }

    /// Names under which others find it on every network.
    pub(super) fn names(&self) -> [String; 3] {
        let request = &self.record.desired.request;
        [self.record.desired.service.clone(), request.name.clone(), request.id.short().to_owned()]
    }

    /// What stays of a launch that failed.
    fn launch_failed(&mut self, error: &LaunchError) {
        let status = &mut self.record.status;
        status.exit = Some(ExitStatus::Code(error.exit_code()));
        status.finished_at = Some(now());
        if status.started_at.is_some() {
            status.state = State::Exited;
        }
        self.record.phase = Phase::Idle;
        self.record.process = None;
    }

    /// A process of ours has ended: first it is put on record, then its keeper may forget it, then the rest is cleared.
    async fn ended(&mut self, pid: i32, status: ExitStatus, source: EndSource) {
        let ended_at = Instant::now();
        let Some(mut run) = self.run.take_if(|run| run.pid() == pid) else {
            return self.acknowledge(pid, source);
        };
        self.stop_deadline = None;
        self.probes.abort_all();
        let ran = run.age();
        self.record.status.exit = Some(status);
        self.record.status.finished_at = Some(now());
        self.record.status.pid = None;
        self.record.status.oom_killed = run.oom_killed();
        self.record.phase = Phase::Changing;
        if self.record.status.number == 1 {
            self.links.services.note(&self.record.status.service, None);
        }
        if let Err(error) = self.write() {
            tracing::error!(%error, "the end of a container is not on record");
        }
        self.acknowledge(pid, source);
        run.drain(DRAIN).await;
        let errors = run.clear(&self.links, &self.record.status.id).await;
        self.report(errors);
        self.record.phase = Phase::Idle;
        self.record.process = None;
        self.record.status.health = None;
        self.record.status.addresses.clear();
        self.decide_restart(status, ran, ended_at);
        self.save();
        for waiting in self.waiting_for_stop.drain(..) {
            let _ = waiting.send(Ok(()));
        }
    }

    fn acknowledge(&self, pid: i32, source: EndSource) {
        match source {
            EndSource::Shim => self.links.shim.recorded(pid),
            EndSource::Keeper => {
                self.links.keeper.send(&crate::keeper::FromSupervisor::OrphanRecorded { pid }, &[]);
            }
            EndSource::Nobody => {}
        }
    }

    fn decide_restart(&mut self, status: ExitStatus, ran: Duration, ended_at: Instant) {
        let wait = match self.record.intent {
            Intent::Run => self.backoff.after_exit(self.record.desired.restart, status, ran),
            Intent::Stop | Intent::Remove => None,
        };
        self.record.restarts_in_a_row = self.backoff.in_a_row();
        self.record.status.state = if wait.is_some() { State::Restarting } else { State::Exited };
        if let Some(wait) = wait {
            self.record.status.restarts += 1;
            self.retry_at = Some(ended_at + wait);
        }
    }

    async fn stop(&mut self, timeout: Option<Duration>, reply: oneshot::Sender<Outcome>) {
        self.record.intent = Intent::Stop;
        self.retry_at = None;
        let Some(run) = &self.run else {
            if self.record.status.state == State::Restarting {
                self.record.status.state = State::Exited;
            }
            self.save();
            let _ = reply.send(Ok(()));
            return;
        };
        self.waiting_for_stop.push(reply);
        let request = &self.record.desired.request;
        let signal = request.stop_signal;
        let deadline = Instant::now() + timeout.unwrap_or(request.stop_grace_period);
        if self.stop_deadline.is_none() {
            if run.ignores(signal) {
                self.warn(&[format!(
                    "PID 1 of {} has no handler for {signal}, so the kernel keeps that signal from it; it is killed when \
                     its grace period is over (`init: true` puts an init there that passes signals on)",
                    self.record.status.name
                )]);
            }
            // A process that has ended needs no signal; its end is on its way to us.
            let _ = self.signal(signal);
        }
        self.stop_deadline = Some(self.stop_deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self.save();
    }

    fn grace_is_over(&mut self) {
        self.stop_deadline = None;
        if let Some(run) = &self.run {
            run.kill();
        }
    }

    fn signal(&self, signal: SignalNumber) -> Outcome {
        let name = &self.record.status.name;
        let run = self.run.as_ref().ok_or_else(|| Failure::new(format!("container {name} is not running")))?;
        run.signal(signal).map_err(|error| Failure::caused(format!("send {signal} to container {name}"), &error))
    }

    /// A signal that ends a container means that it is to stay so, as Docker has it; any other means what it says.
    fn kill(&mut self, signal: SignalNumber) -> Outcome {
        if self.run.is_some() && (signal == SignalNumber::KILL || signal == self.record.desired.request.stop_signal) {
            self.record.intent = Intent::Stop;
            self.save();
        }
        self.signal(signal)
    }

    async fn remove(&mut self) -> Outcome {
        let name = self.record.status.name.clone();
        if self.run.is_some() {
            return Err(Failure::new(format!("container {name} is running: stop it first")));
        }
        self.retry_at = None;
        self.record.intent = Intent::Remove;
        let id = self.record.status.id.clone();
        let dirs = &self.links.host.dirs;
        let directory = ContainerFiles::of(dirs, &id);
        let removal = self.write();
        // On some file systems each freed directory is a wait for the disk; many containers wait side by side.
        let (dirs, key) = (dirs.clone(), id.clone());
        let removed = tokio::task::spawn_blocking(move || dirs.remove_container(key.as_str())).await;
        let removed = removed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let removal = removal.and(removed).and_then(|()| self.links.records.remove_container(&id));
        removal.map_err(|error| {
            Failure::caused(format!("remove {} of container {name}", directory.directory().display()), &error)
        })?;
        self.removed = true;
        // The dispatcher ends only after its containers.
        let _ = self.links.events.send(Event::Removed(id)).await;
        Ok(())
    }

    /// Makes directories on the host that binds and volumes need.
    fn make_host_paths(&self) -> Result<(), LaunchError> {
        for path in self.record.desired.create_host_paths.iter().filter(|path| !path.exists()) {
            std::fs::create_dir_all(path).map_err(|source| LaunchError::HostPath { path: path.clone(), source })?;
        }
        for volume in &self.record.desired.volumes {
            self.links.host.dirs.create_volume(volume)?;
        }
        Ok(())
    }

    pub(super) fn write(&self) -> Result<(), StoreError> {
        self.links.records.write_container(&self.record)
    }

    /// Writes the record and shows it. The container goes on where the disk is full; its end will be told again.
    pub(super) fn save(&mut self) {
        if let Err(error) = self.write() {
            tracing::error!(container = %self.record.status.name, %error, "the record was not written");
        }
        self.status.send_replace(self.record.status.clone());
        let changed = Event::Changed(Box::new(self.record.status.clone()));
        if self.links.events.try_send(changed).is_err() {
            // The dispatcher is behind. Whoever watches must not miss the last change, which is what is sent then.
            let (events, latest) = (self.links.events.clone(), self.status.subscribe());
            self.links.later(Duration::ZERO, async move {
                let Ok(place) = events.reserve().await else { return };
                let status = latest.borrow().clone();
                place.send(Event::Changed(Box::new(status)));
            });
        }
    }

    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            tracing::warn!(container = %self.record.status.name, "{warning}");
            let warning = Event::Warning(warning.clone());
            let _ = self.links.events.try_send(warning);
        }
    }

    pub(super) fn report(&self, errors: Vec<LaunchError>) {
        for error in errors {
            tracing::error!(container = %self.record.status.name, error = %error.chain().join(": "), "clearing");
        }
    }

    pub(super) fn own_inbox(&self) -> mpsc::WeakSender<ContainerCommand> {
        self.own_inbox.clone()
    }

    pub(super) fn set_stop_deadline(&mut self, deadline: Instant) {
        self.stop_deadline = Some(deadline);
    }

    pub(super) fn set_retry(&mut self, at: Instant) {
        self.retry_at = Some(at);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn first_status(links: &Shared, desired: &Desired) -> ContainerStatus {
    let request = &desired.request;
    ContainerStatus {
        id: request.id.clone(),
        name: desired.name.clone(),
        project: links.config.project.clone(),
        service: desired.service.clone(),
        number: desired.number,
        image: desired.image.clone(),
        command: request.args.clone(),
        state: State::Created,
        health: None,
        pid: None,
        exit: None,
        oom_killed: false,
        restarts: 0,
        created_at: now(),
        started_at: None,
        finished_at: None,
        ports: Vec::new(),
        addresses: std::collections::BTreeMap::new(),
        log: (desired.logging != Logging::Nothing).then(|| links.host.dirs.log(request.id.as_str())),
        tty: request.tty,
        labels: request.labels.clone(),
    }
}
