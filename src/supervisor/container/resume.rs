//! Taking a container over from an earlier supervisor.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Container;
use super::command::{ContainerCommand, EndSource};
use super::run::{Carried, Run, key};
use crate::engine::{self, Guest, LaunchError, Live, Networking, Output};
use crate::spec::ExitStatus;
use crate::supervisor::control::protocol::State;
use crate::supervisor::record::{Intent, Phase};

/// A dead container's status is on its way from shim or keeper; after this time nobody has it.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);

/// Is what the keeper kept, by name.
pub type Inherited = BTreeMap<String, OwnedFd>;

impl Container {
    /// Brings the container back to where it was: a running one goes on, a half-made or half-removed one is cleared
    /// and, where it is meant to run, made anew.
    pub async fn resume(&mut self, inherited: &mut Inherited) {
        match (self.record.phase, self.record.intent) {
            (Phase::Running, _) => match self.adopt(inherited).await {
                Ok(()) => self.watch_for_lost_status(),
                Err(error) => {
                    tracing::warn!(container = %self.record.status.name, error = %error.chain().join(": "), "taking over");
                    self.start_over().await;
                }
            },
            (Phase::Changing, _) => self.start_over().await,
            (Phase::Idle, Intent::Run) if self.record.status.state == State::Restarting => {
                self.set_retry(Instant::now());
            }
            (Phase::Idle, _) => {}
        }
    }

    async fn adopt(&mut self, inherited: &mut Inherited) -> Result<(), LaunchError> {
        let process = self.record.process.clone().ok_or(LaunchError::Died)?;
        let id = self.record.status.id.as_str().to_owned();
        let mut take = |what: &str| inherited.remove(&key(&id, what));
        let pidfd = match take("pidfd") {
            Some(pidfd) => pidfd,
            None => process.open_pidfd()?.ok_or(LaunchError::Died)?,
        };
        let output = match (take("stdout"), take("stderr"), take("terminal")) {
            (Some(stdout), Some(stderr), _) => Output::Pipes { stdout, stderr },
            (_, _, Some(master)) => Output::Terminal(master),
            _ => return Err(LaunchError::Died),
        };
        let stdin = take("stdin");
        let cgroup = self.links.host.open_cgroup(&self.links.cgroup_path(&id))?.ok_or(LaunchError::Died)?;
        let names = self.names();
        let guest = Guest {
            id: &self.record.status.id,
            name: &self.record.status.name,
            names: &names,
            wishes: &self.record.desired.networks,
            dns: &self.record.desired.request.dns,
        };
        let networking = Networking::resume(&self.links.host, guest, process.pid, &mut take)?;
        let kept: Vec<_> = ["pidfd", "stdout", "stderr", "terminal", "stdin"]
            .into_iter()
            .map(str::to_owned)
            .chain(networking.kept().into_iter().map(|(name, _)| name))
            .map(|what| key(&id, &what))
            .collect();
        let output = Carried::start(&self.links, &self.record, output, kept);
        let live = Live { process, pidfd, cgroup, networking };
        let run = Run::resumed(live, output, stdin, age(self.record.status.started_at));
        self.note_running(run.pid());
        self.run = Some(run);
        self.follow_health();
        self.schedule_probe();
        if self.record.intent != Intent::Run {
            // It was being stopped: the grace period begins anew.
            self.set_stop_deadline(Instant::now() + self.record.desired.request.stop_grace_period);
        }
        self.save();
        Ok(())
    }

    /// A container that has ended while nobody of ours lived has a status that nobody can tell.
    fn watch_for_lost_status(&self) {
        let Some(run) = &self.run else { return };
        let (process, inbox) = (run.live().process.clone(), self.own_inbox());
        if process.is_alive() {
            return;
        }
        let pid = process.pid;
        self.links.later(STATUS_PATIENCE, async move {
            let Some(inbox) = inbox.upgrade() else { return };
            let lost = ContainerCommand::Ended { pid, status: ExitStatus::Unknown, source: EndSource::Nobody };
            let _ = inbox.send(lost).await;
        });
    }

    /// Clears whatever there may be and begins again where the container is meant to run.
    async fn start_over(&mut self) {
        let id = self.record.status.id.clone();
        let mut errors = engine::clear_remains(
            &self.links.host,
            &id,
            &self.links.cgroup_path(id.as_str()),
            self.record.process.as_ref(),
        )
        .await;
        errors.extend(self.record.desired.passing.remove_unused(&self.links.host).await);
        self.report(errors);
        self.record.phase = Phase::Idle;
        self.record.process = None;
        self.record.status.pid = None;
        if self.record.intent == Intent::Run {
            // Written down before it is done: a successor goes on from here.
            self.record.status.state = State::Restarting;
            self.set_retry(Instant::now());
        } else if self.record.status.started_at.is_some() {
            self.record.status.state = State::Exited;
        }
        self.save();
    }
}

fn age(started_at: Option<u64>) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    started_at.map_or(Duration::ZERO, |started| now.saturating_sub(Duration::from_secs(started)))
}
