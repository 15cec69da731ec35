use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::wait::Reached;
use super::work::join_all;
use super::{Stopped, Work};
use crate::engine::Places;
use crate::supervisor::container::{ContainerCommand, ContainerHandle};
use crate::supervisor::control::protocol::{Failure, State, Step, Up};
use crate::supervisor::converge::{Change, Convergence};
use crate::supervisor::desired::Desired;
use crate::supervisor::event::Event;

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
        let held = self.hold_ports(&up, &plan, &handles)?;
        self.ensure_networks(&up.project, &plan).await?;
        self.ensure_volumes(&up.project)?;
        for id in plan.surplus.iter().chain(plan.orphans.iter().filter(|_| up.remove_orphans)) {
            if let Some(handle) = handles.get(id.as_str()) {
                self.stop_one(handle, up.timeout, Stopped::ForGood(Places::GivenUp)).await?;
                self.remove_one(handle, false).await?;
            }
        }
        self.stop_dependants(&up, &plan, &handles).await?;
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
        drop(held);
        if up.wait {
            for containers in &started {
                self.wait_running(containers).await?;
            }
        }
        Ok(())
    }

    /// Stops what is to be restarted with containers that are about to be replaced; it is started again in its turn.
    async fn stop_dependants(
        &self,
        up: &Up,
        plan: &Convergence,
        handles: &BTreeMap<String, ContainerHandle>,
    ) -> Result<(), Failure> {
        let running = self.stopped_along(up, plan, handles);
        if running.is_empty() {
            return Ok(());
        }
        self.stop(&up.project.dependencies(), running, up.timeout, Stopped::ForNow).await
    }

    /// Chooses running containers that stay and yet are started anew, with one that is replaced.
    pub(super) fn stopped_along(
        &self,
        up: &Up,
        plan: &Convergence,
        handles: &BTreeMap<String, ContainerHandle>,
    ) -> Vec<ContainerHandle> {
        if up.no_start {
            return Vec::new();
        }
        let replaced = |changes: &[Change]| changes.iter().any(|change| matches!(change, Change::Replace(..)));
        let changed = plan.services.iter().filter(|(_, changes)| replaced(changes)).map(|(name, _)| name.as_str());
        let along = up.project.restarted_with(changed);
        let kept = plan.services.iter().filter(|(name, _)| along.contains(*name)).flat_map(|(_, changes)| changes);
        let kept = kept.filter_map(|change| match change {
            Change::Keep(id) => handles.get(id.as_str()).cloned(),
            Change::Replace(..) | Change::Create(_) => None,
        });
        kept.filter(|handle| handle.status.borrow().state == State::Running).collect()
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
                old.stop(timeout, Places::GivenUp).await?;
                old.ask(|reply| ContainerCommand::Remove { volumes: false, reply }).await?;
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

    pub(super) async fn adopt(&self, desired: Box<Desired>) -> Result<ContainerHandle, Failure> {
        let (reply, answer) = oneshot::channel();
        let ended = || Failure::new("the supervisor is ending".to_owned());
        self.links.events.send(Event::Adopt { command: self.command, desired, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}
