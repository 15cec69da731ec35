use std::time::Duration;

use tokio::task::JoinSet;

use super::Reporter;
use crate::engine::Places;
use crate::spec::SignalNumber;
use crate::supervisor::container::{ContainerCommand, ContainerHandle};
use crate::supervisor::control::protocol::{Failure, State, Step};
use crate::supervisor::links::Shared;

/// Says what a stop is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It stays so; its places in networks are given up or left to go with them.
    ForGood(Places),
    /// It is started again right after.
    ForNow,
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

impl Work {
    /// Starts a container that does not run.
    pub(super) async fn start_one(&self, handle: &ContainerHandle) -> Result<(), Failure> {
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

    pub(super) async fn stop_one(
        &self,
        handle: &ContainerHandle,
        timeout: Option<Duration>,
        how: Stopped,
    ) -> Result<(), Failure> {
        let stop = async || match how {
            Stopped::ForGood(places) => handle.stop(timeout, places).await,
            Stopped::ForNow => handle.stop_for_now(timeout).await,
        };
        let status = handle.status();
        let name = &status.name;
        if matches!(status.state, State::Created | State::Exited | State::Dead) {
            // It may be between two states: the container itself knows.
            return stopped_or_gone(handle, stop().await);
        }
        self.report.container(name, Step::Stopping);
        let outcome = stopped_or_gone(handle, stop().await);
        self.report.container(name, if outcome.is_ok() { Step::Stopped } else { Step::Error });
        outcome
    }

    pub(super) async fn remove_one(&self, handle: &ContainerHandle, volumes: bool) -> Result<(), Failure> {
        let name = handle.status.borrow().name.clone();
        self.report.container(&name, Step::Removing);
        let outcome = match handle.ask(|reply| ContainerCommand::Remove { volumes, reply }).await {
            // One that goes when it has ended was faster.
            Err(_) if handle.commands.is_closed() => Ok(()),
            outcome => outcome,
        };
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
            tasks.spawn(async move { work.remove_one(&handle, false).await });
        }
        join_all(tasks).await.map(|_| ())
    }
}

/// One that goes when it has ended may be gone before it hears that it is to stop.
fn stopped_or_gone(handle: &ContainerHandle, outcome: Result<(), Failure>) -> Result<(), Failure> {
    if handle.commands.is_closed() { Ok(()) } else { outcome }
}

/// Waits for all; returns the first failure after that.
pub(super) async fn join_all<T: 'static>(mut tasks: JoinSet<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
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
