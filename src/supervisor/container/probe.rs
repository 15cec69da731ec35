//! Commands beside PID 1: probes of its health, and what `exec` asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::Container;
use super::command::ExecRunning;
use crate::engine::{self, ExecJob};
use crate::spec::{ContainerRequest, ExitStatus};
use crate::supervisor::control::protocol::{Exec, Failure, Health};
use crate::supervisor::health::HealthTracker;
use crate::supervisor::links::Shared;
use crate::sys::pidfd::send_signal;

/// Is the result of one probe.
#[derive(Debug)]
pub struct ProbeEnded {
    /// Of which process: a late probe of an earlier run means nothing.
    pid: i32,
    succeeded: bool,
}

impl Container {
    /// Has the next probe run when it is due.
    pub(super) fn schedule_probe(&mut self) {
        let (Some(run), Some(tracker)) = (&self.run, &mut self.health) else { return };
        let delay = tracker.next_probe(run.age());
        let target = match run.target() {
            Ok(target) => target,
            Err(error) => return tracing::error!(%error, "a probe cannot be made"),
        };
        let probe = Probe {
            links: self.links.clone(),
            request: self.record.desired.request.clone(),
            command: tracker.check().command.clone(),
            timeout: tracker.check().timeout,
        };
        let pid = run.pid();
        self.probes.spawn(async move {
            tokio::time::sleep(delay).await;
            let succeeded = match probe.run(target).await {
                Ok(status) => status.success(),
                Err(error) => {
                    tracing::debug!(container = %probe.request.name, error = %error.chain().join(": "), "a probe failed");
                    false
                }
            };
            ProbeEnded { pid, succeeded }
        });
    }

    /// Begins to follow the health of a run.
    pub(super) fn follow_health(&mut self) {
        self.health = self.record.desired.healthcheck.clone().map(HealthTracker::new);
        self.record.status.health = self.health.as_ref().map(|_| Health::Starting);
    }

    pub(super) async fn probe_ended(&mut self, ended: ProbeEnded) {
        let (Some(run), Some(tracker)) = (&self.run, &mut self.health) else { return };
        if run.pid() != ended.pid {
            return;
        }
        let changed = tracker.probe_ended(ended.succeeded, run.age());
        self.record.status.health = Some(tracker.health());
        if changed {
            self.save();
        }
        self.schedule_probe();
    }

    pub(super) async fn exec(&mut self, exec: Exec, fds: Vec<OwnedFd>) -> Result<ExecRunning, Failure> {
        let name = self.record.status.name.clone();
        let run = self.run.as_ref().ok_or_else(|| Failure::exec(format!("container {name} is not running")))?;
        let target = run.target().map_err(|error| Failure::exec(format!("enter container {name}: {error}")))?;
        let key = exec_key(&self.record.desired.request);
        let ended = self.links.execs.expect(&key);
        let job = ExecJob {
            key: &key,
            request: &self.record.desired.request,
            target: &target,
            args: &exec.args,
            env: &exec.env,
            user: exec.user.as_deref(),
            working_dir: exec.working_dir.as_deref(),
            tty: exec.tty,
            privileged: exec.privileged,
        };
        let stdio = if exec.tty { None } else { <[OwnedFd; 3]>::try_from(fds).ok() };
        match engine::exec(&self.links.host, &self.links.shim, &job, stdio).await {
            Ok(executed) => Ok(ExecRunning { pid: executed.pid, terminal: executed.terminal, ended }),
            Err(error) => Err(Failure::of_exec(&name, &error)),
        }
    }
}

/// Names one exec to the shim.
fn exec_key(request: &ContainerRequest) -> String {
    format!("exec-{}-{}", request.id.short(), &crate::spec::random_hex()[..16])
}

struct Probe {
    links: Shared,
    request: ContainerRequest,
    command: Vec<String>,
    timeout: Duration,
}

impl Probe {
    async fn run(&self, target: engine::ExecTarget) -> Result<ExitStatus, engine::LaunchError> {
        let key = exec_key(&self.request);
        let ended = self.links.execs.expect(&key);
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let null = |()| null().map_err(engine::LaunchError::Null);
        let stdio = [null(())?, null(())?, null(())?];
        let job = ExecJob {
            key: &key,
            request: &self.request,
            target: &target,
            args: &self.command,
            env: &BTreeMap::new(),
            user: None,
            working_dir: None,
            tty: false,
            privileged: false,
        };
        let executed = engine::exec(&self.links.host, &self.links.shim, &job, Some(stdio)).await?;
        match tokio::time::timeout(self.timeout, ended).await {
            Ok(status) => Ok(status.unwrap_or(ExitStatus::Unknown)),
            Err(_) => {
                executed.kill_group();
                // It leads the group, unless it was killed before it could.
                let _ = send_signal(executed.pidfd.as_fd(), libc::SIGKILL);
                Ok(ExitStatus::Unknown)
            }
        }
    }
}
