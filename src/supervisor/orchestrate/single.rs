//! Containers by themselves: made without a file, removed one by one.

use std::time::Duration;

use super::work::join_all;
use super::{Stopped, Work};
use crate::engine::{Places, foreground};
use crate::spec::{ContainerId, ExitStatus, SignalNumber};
use crate::store::{Directories, FileLock};
use crate::supervisor::container::{ContainerCommand, ContainerHandle};
use crate::supervisor::control::protocol::{Failure, State};
use crate::supervisor::desired::Desired;
use crate::supervisor::record::Records;
use tokio::task::JoinSet;

/// What fails of `run` before its program does, as Docker has it.
const OURS: u8 = 125;

impl Work {
    /// Makes a container and starts it. `known` is the same one where the request came before: then what is missing is done.
    ///
    /// # Errors
    /// With the code of `run`; nothing of the container is left.
    pub async fn create(&self, desired: Box<Desired>, known: Option<ContainerHandle>) -> Result<(), Failure> {
        let ours = |failure| Failure { code: OURS, ..failure };
        let handle = match known {
            Some(handle) => handle,
            None => self.adopt_named(desired).await.map_err(ours)?,
        };
        if handle.status.borrow().started_at.is_some() {
            return Ok(());
        }
        let Err(failure) = handle.ask(ContainerCommand::Start).await else { return Ok(()) };
        // The code of the first run, which was none, is on record.
        let code = match handle.status.borrow().exit {
            Some(ExitStatus::Code(code)) => u8::try_from(code).unwrap_or(OURS),
            _ => OURS,
        };
        self.remove_one(&handle, true).await.map_err(ours)?;
        Err(Failure { code, ..failure })
    }

    /// Makes a container known under its name, which no other has. Who else gives a name waits meanwhile.
    async fn adopt_named(&self, desired: Box<Desired>) -> Result<ContainerHandle, Failure> {
        let (dirs, name) = (self.links.host.dirs.clone(), desired.name.clone());
        let (own_id, lock_of) = (desired.request.id.clone(), dirs.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let lock = FileLock::acquire_directory(&lock_of.run().join("projects"))
                .map_err(|error| Failure::caused("look for the name of a container", &error))?;
            free_name(&lock_of, &name, &own_id).map(|()| lock)
        });
        let _lock = looked.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        self.adopt(desired).await
    }

    /// Removes containers, one that runs only by force.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn discard(&self, containers: Vec<ContainerHandle>, force: bool, volumes: bool) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for handle in containers {
            let work = self.clone();
            tasks.spawn(async move {
                let status = handle.status();
                let runs = matches!(status.state, State::Running | State::Restarting);
                if runs && !force {
                    let failure = Failure::new(format!("container {} is running", status.name));
                    return Err(Failure {
                        hint: Some("stop it first, or remove it by force: `rm -f`".into()),
                        ..failure
                    });
                }
                if runs {
                    let signal = SignalNumber::KILL;
                    // One that has just ended needs none.
                    let _ = handle.ask(|reply| ContainerCommand::Kill { signal, reply }).await;
                }
                match work.stop_one(&handle, Some(Duration::ZERO), Stopped::ForGood(Places::GivenUp)).await {
                    Err(failure) if !handle.commands.is_closed() => Err(failure),
                    _ => work.remove_one(&handle, volumes).await,
                }
            });
        }
        join_all(tasks).await.map(|_| ())
    }
}

/// Refuses a name that a container of any project has, or of a `run` in the foreground.
///
/// # Errors
/// Names who has it.
fn free_name(dirs: &Directories, name: &str, own_id: &ContainerId) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::caused("look for the name of a container", error);
    let mut taken = foreground::running(dirs.run()).into_iter().find(|one| one.name == name).map(|one| one.id);
    for project in dirs.projects().map_err(|error| failed(&error))? {
        let Some(directory) = dirs.open_project(&project).map_err(|error| failed(&error))? else { continue };
        let (records, _) = Records::of(&directory).look_at_containers().unwrap_or_default();
        let holder = records.into_iter().find(|record| record.status.name == name && record.status.id != *own_id);
        taken = taken.or(holder.map(|record| record.status.id));
    }
    match taken {
        None => Ok(()),
        Some(id) => Err(Failure {
            hint: Some(format!("`mydocker rm {name}` removes it")),
            ..Failure::new(format!("the name `{name}` is in use by container {}", id.short()))
        }),
    }
}
