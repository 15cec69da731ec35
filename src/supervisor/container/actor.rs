//! The inbox and what follows from it. Everything slow that is not this container's own doing is somebody else's task.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::command::{ContainerCommand, ContainerHandle, EndSource, Outcome, PendingStops};
use super::probe::ProbeEnded;
use super::run::Run;
use crate::compose::model::Logging;
use crate::engine::{ContainerFiles, LaunchError, Places};
use crate::spec::{ExitStatus, SignalNumber};
use crate::store::StoreError;
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
pub(super) const DRAIN: Duration = Duration::from_secs(5);

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
    pub(super) stops: PendingStops,
    backoff: Backoff,
    retry_at: Option<Instant>,
    stop_deadline: Option<Instant>,
    waiting_for_stop: Vec<oneshot::Sender<Outcome>>,
    /// It is stopped only to be started again.
    renewing: bool,
    /// What becomes of its places in networks when it ends.
    pub(super) places: Places,
    /// Somebody has stopped it and is about to start it again.
    awaited: bool,
    /// It was to go and could not.
    stays: bool,
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
            stops: PendingStops::default(),
        };
        let stops = handle.stops.clone();
        let container = Self {
            links,
            run: None,
            probes: JoinSet::new(),
            health: None,
            status: sender,
            inbox,
            own_inbox: commands.downgrade(),
            stops,
            backoff: Backoff::resumed(record.restarts_in_a_row),
            retry_at: None,
            stop_deadline: None,
            waiting_for_stop: Vec::new(),
            renewing: false,
            places: Places::GivenUp,
            awaited: false,
            stays: false,
            removed: false,
            record,
        };
        (container, handle)
    }

    /// Lives until the container is removed or the supervisor ends.
    pub async fn live(mut self) {
        while !self.removed {
            if self.is_to_go() {
                self.go().await;
                continue;
            }
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
            ContainerCommand::Stop { timeout, places, again, notice, reply } => {
                drop(notice);
                self.awaited = again;
                self.stop(timeout, places, reply);
            }
            ContainerCommand::Kill { signal, reply } => {
                let _ = reply.send(self.kill(signal));
            }
            ContainerCommand::Remove { volumes, reply } => {
                let outcome = self.remove(volumes).await;
                let _ = reply.send(outcome);
            }
            ContainerCommand::Exec { exec, fds, reply } => {
                let outcome = self.exec(*exec, fds).await;
                let _ = reply.send(outcome);
            }
            ContainerCommand::Renew => self.renew(),
            ContainerCommand::Ended { pid, status, source } => self.ended(pid, status, source).await,
        }
    }

    /// Starts by hand: counts and waits begin anew.
    async fn start(&mut self) -> Outcome {
        if self.run.is_some() {
            return Ok(());
        }
        (self.retry_at, self.awaited) = (None, false);
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

    /// Writes the first record of a container that was just thought of.
    ///
    /// # Errors
    /// [`StoreError`]: then there is no such container.
    pub fn put_on_record(&mut self) -> Result<(), StoreError> {
        self.write()?;
        self.save();
        Ok(())
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
        self.links.running.remove(&self.record.status.id);
        if let Err(error) = self.write() {
            tracing::error!(%error, "the end of a container is not on record");
        }
        self.acknowledge(pid, source);
        run.drain(DRAIN).await;
        let mut errors = run.clear(&self.links, &self.record.status.id, self.places).await;
        errors.extend(self.record.desired.passing.remove_unused(&self.links.host).await);
        self.report(errors);
        // Places that go with their networks are still there: a successor must look.
        self.record.phase = if self.places == Places::Left { Phase::Changing } else { Phase::Idle };
        self.record.process = None;
        self.record.status.health = None;
        self.record.status.addresses.clear();
        self.record.status.ports.clear();
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
        let renewing = std::mem::take(&mut self.renewing);
        let wait = match self.record.intent {
            Intent::Run if renewing => Some(Duration::ZERO),
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

    fn stop(&mut self, timeout: Option<Duration>, places: Places, reply: oneshot::Sender<Outcome>) {
        (self.record.intent, self.places) = (Intent::Stop, places);
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
        let signal = self.record.desired.request.stop_signal;
        if self.stop_deadline.is_none() && timeout != Some(Duration::ZERO) && run.ignores(signal) {
            self.warn(&[format!(
                "PID 1 of {} has no handler for {signal}, so the kernel keeps that signal from it; it is killed when \
                 its grace period is over (`init: true` puts an init there that passes signals on)",
                self.record.status.name
            )]);
        }
        self.ask_to_end(timeout);
        self.save();
    }

    /// The container whose network it shares runs in a new namespace: it is to run there, too.
    fn renew(&mut self) {
        if self.run.is_none() || self.renewing || self.record.intent != Intent::Run {
            return;
        }
        self.renewing = true;
        self.warn(&[format!(
            "{} is started anew: the container whose network it shares has a new one",
            self.record.status.name
        )]);
        self.ask_to_end(None);
    }

    fn ask_to_end(&mut self, timeout: Option<Duration>) {
        let request = &self.record.desired.request;
        let deadline = Instant::now() + timeout.unwrap_or(request.stop_grace_period);
        if self.stop_deadline.is_none() {
            // A process that has ended needs no signal; its end is on its way to us.
            let _ = self.signal(request.stop_signal);
        }
        self.stop_deadline = Some(self.stop_deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    fn grace_is_over(&mut self) {
        self.stop_deadline = None;
        if let Some(run) = &self.run {
            run.kill();
            self.links.host.hierarchies.release_frozen(&run.live().cgroup);
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

    /// Says whether it is one that goes when it has ended, and has.
    fn is_to_go(&self) -> bool {
        let ended = self.run.is_none() && self.retry_at.is_none() && self.record.status.state == State::Exited;
        self.record.desired.removed_at_end && ended && !self.awaited && !self.stays
    }

    async fn go(&mut self) {
        if let Err(failure) = self.remove(true).await {
            // Whoever removes it by hand hears why that fails.
            self.stays = true;
            tracing::error!(container = %self.record.status.name, error = %failure.chain.join(": "), "removing it");
        }
    }

    async fn remove(&mut self, volumes: bool) -> Outcome {
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
        let own = if volumes { self.record.desired.own_volumes.clone() } else { Vec::new() };
        let removal_of_all = move || {
            let removed = dirs.remove_container(key.as_str());
            own.iter().fold(removed, |outcome, volume| outcome.and(dirs.remove_volume(volume)))
        };
        let removed = tokio::task::spawn_blocking(removal_of_all).await;
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

    pub(super) fn write(&self) -> Result<(), StoreError> {
        self.links.records.write_container(&self.record)
    }

    /// Writes the record and shows it. The container goes on where the disk is full; its end will be told again.
    pub(super) fn save(&mut self) {
        self.record.status.changes += 1;
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

    pub(super) fn warn(&self, warnings: &[String]) {
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
        changes: 0,
    }
}
