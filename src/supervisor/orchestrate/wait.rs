use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::Work;
use crate::compose::model::DependencyCondition;
use crate::supervisor::container::ContainerHandle;
use crate::supervisor::control::protocol::{ContainerStatus, Failure, Health, State, Step, Up};

/// How far a service is, for those that depend on it.
#[derive(Clone, Debug)]
pub(super) enum Reached {
    Waiting,
    Started(Arc<Vec<ContainerHandle>>),
    Failed,
}

impl Work {
    pub(super) async fn wait_dependencies(
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

    pub(super) async fn wait_running(&self, containers: &[ContainerHandle]) -> Result<(), Failure> {
        for handle in containers {
            let probed = handle.status.borrow().health.is_some();
            if probed {
                self.wait_healthy(handle).await?;
            }
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
