//! From a record to a running process, and what stays where that fails.

use std::time::Duration;

use super::Container;
use super::actor::DRAIN;
use super::command::ContainerCommand;
use super::run::Run;
use crate::engine::{self, Job, LaunchError, Places, SharedNamespaces};
use crate::namespaces::Namespace;
use crate::spec::{ExitStatus, NamespaceSource};
use crate::store::ProcessIdentity;
use crate::supervisor::control::protocol::State;
use crate::supervisor::links::now;
use crate::supervisor::record::Phase;
use crate::supervisor::sharing::{find_running, network_of};

/// Within this time a directory on the host is there, or the start is given up.
const HOST_PATH_DEADLINE: Duration = Duration::from_secs(10);

impl Container {
    pub(super) async fn launch(&mut self) -> Result<(), LaunchError> {
        let outcome = self.try_launch().await;
        if outcome.is_err() {
            let errors = self.record.desired.passing.remove_unused(&self.links.host).await;
            self.report(errors);
        }
        outcome
    }

    async fn try_launch(&mut self) -> Result<(), LaunchError> {
        self.places = Places::GivenUp;
        self.record.phase = Phase::Changing;
        self.record.status.oom_killed = false;
        self.write()?;
        self.make_host_paths().await?;
        let links = self.links.clone();
        let cgroup = links.cgroup_path(self.record.status.id.as_str());
        let shared = match &self.record.desired.shares_network_of {
            Some(owner) => Some(network_of(&links, owner)?),
            None => None,
        };
        let mut common = SharedNamespaces::default();
        let request = &mut self.record.desired.request;
        if let Some(name) = &self.record.desired.shares_processes_of {
            let owner = find_running(&links.host.dirs, name, Namespace::Pid)?;
            common.add(Namespace::Pid, &owner)?;
            request.namespaces.pid = NamespaceSource::Container(owner.id);
        }
        if let Some(owner) = shared {
            // As Docker: one network, one name. On record it is for those that share with us.
            request.namespaces.network = NamespaceSource::Container(owner.id);
            (request.hostname, request.domainname) = (owner.hostname, owner.domainname);
            common.add_network(owner.netns, owner.directory);
        }
        let request = request.clone();
        let names = self.names();
        let (networks, passing) = (self.record.desired.networks.clone(), self.record.desired.passing.clone());
        let job = Job {
            request: &request,
            cgroup: &cgroup,
            networks: &networks,
            passing: &passing,
            names: &names,
            shared: &common,
        };
        let mut note = self.record.clone();
        let note_process = |process: &ProcessIdentity| {
            note.process = Some(process.clone());
            links.records.write_container(&note)
        };
        let stops = self.stops.clone();
        let mut created = engine::create(&links.host, &links.shim, &job, note_process, stops.any()).await?;
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
        let errors = engine::clear(&self.links.host, &self.record.status.id, created.live, Places::GivenUp).await;
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
        self.note_running(run.pid());
        self.run = Some(run);
        self.follow_health();
        self.save();
        self.schedule_probe();
    }

    /// Makes it known to those that may share its network. Whoever shared its last one is started anew.
    pub(super) fn note_running(&self, pid: i32) {
        for sharer in self.links.running.insert(&self.record, pid, self.own_inbox()) {
            self.links.later(Duration::ZERO, async move {
                let _ = sharer.send(ContainerCommand::Renew).await;
            });
        }
    }

    /// Names under which others find it on every network.
    pub(super) fn names(&self) -> Vec<String> {
        let request = &self.record.desired.request;
        let names = [self.record.desired.service.clone(), request.name.clone(), request.id.short().to_owned()];
        // One of its own is of no service.
        names.into_iter().filter(|name| !name.is_empty()).collect()
    }

    /// What stays of a launch that failed.
    pub(super) fn launch_failed(&mut self, error: &LaunchError) {
        let status = &mut self.record.status;
        status.exit = Some(ExitStatus::Code(error.exit_code()));
        status.finished_at = Some(now());
        if status.started_at.is_some() {
            status.state = State::Exited;
        }
        self.record.phase = Phase::Idle;
        self.record.process = None;
    }

    /// Makes directories on the host that binds and volumes need. Their file system may hang: then this container waits, and nobody else.
    async fn make_host_paths(&self) -> Result<(), LaunchError> {
        for path in &self.record.desired.create_host_paths {
            let failed = |source| LaunchError::HostPath { path: path.clone(), source };
            let own = path.clone();
            let made =
                tokio::task::spawn_blocking(move || if own.exists() { Ok(()) } else { std::fs::create_dir_all(own) });
            match tokio::time::timeout(HOST_PATH_DEADLINE, made).await {
                Ok(made) => made.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(failed)?,
                Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
            }
        }
        for volume in &self.record.desired.volumes {
            self.links.host.dirs.create_volume(volume)?;
        }
        Ok(())
    }
}
