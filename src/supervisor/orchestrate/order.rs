use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::work::join_all;
use super::{Stopped, Work};
use crate::supervisor::container::ContainerHandle;
use crate::supervisor::control::protocol::Failure;

impl Work {
    /// Stops containers, those first that others do not depend on.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn stop(
        &self,
        dependencies: &BTreeMap<String, BTreeSet<String>>,
        containers: Vec<ContainerHandle>,
        timeout: Option<Duration>,
        how: Stopped,
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
                let outcome = work.stop_one(&handle, timeout, how).await;
                if let Some(count) = gone.get(&service) {
                    count.send_modify(|left| *left -= 1);
                }
                outcome
            });
        }
        join_all(tasks).await.map(|_| ())
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
