//! What is written down of containers and of the project, so that whoever comes next can go on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::control::protocol::{ContainerStatus, Up};
use super::desired::Desired;
use crate::spec::ContainerId;
use crate::store::{self, Durability, Loaded, ProcessIdentity, ProjectDirectory, Record, StoreError};

/// Is the record of one container, `<run>/projects/<project>/containers/<id>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// What `ps` shows.
    pub status: ContainerStatus,
    /// What it was made from.
    pub desired: Desired,
    /// Whether it is meant to run.
    pub intent: Intent,
    /// What of it may exist in the kernel.
    pub phase: Phase,
    /// PID 1, while there may be one.
    pub process: Option<ProcessIdentity>,
    /// How often it was restarted since its last good run: the wait before the next follows from it.
    pub restarts_in_a_row: u32,
}

/// Says what the user wants of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// It is to run, and to be restarted as its policy says.
    Run,
    /// It was stopped, or never started.
    Stop,
    /// It is to go.
    Remove,
}

/// Says what of a container may exist in the kernel: written before it is made, and after it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing.
    Idle,
    /// Anything: a start is under way, or the remains of a run are being cleared.
    Changing,
    /// The process of `process`, its networks, its cgroup.
    Running,
}

impl Record for ContainerRecord {
    const VERSION: u32 = 1;
}

/// Is the record of a project, `<run>/projects/<project>/project.json`: the last `up`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// What was asked for.
    pub up: Up,
}

impl Record for ProjectRecord {
    const VERSION: u32 = 1;
}

/// Reads and writes a project's records.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
}

impl Records {
    /// Names the records of a project.
    pub fn of(project: &ProjectDirectory) -> Self {
        Self { directory: project.path().to_owned() }
    }

    /// Makes the directory for containers' records and clears what killed writers left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prepare(&self) -> Result<(), StoreError> {
        let path = self.directory.join("containers");
        match std::fs::create_dir(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Directory { path, source });
            }
            _ => {}
        }
        store::remove_temporaries(&self.directory)?;
        store::remove_temporaries(&path)
    }

    /// Returns the file of one container's record.
    fn container(&self, id: &ContainerId) -> PathBuf {
        self.directory.join("containers").join(format!("{}.json", id.as_str()))
    }

    /// Writes one container's record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write_container(&self, record: &ContainerRecord) -> Result<(), StoreError> {
        store::write_record(&self.container(&record.status.id), record, Durability::Process)
    }

    /// Removes one container's record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        store::remove(&self.container(id))
    }

    /// Reads the records of all containers by name; damaged ones are moved aside and told of as warnings.
    ///
    /// # Errors
    /// [`StoreError::Newer`], or a directory that cannot be read.
    pub fn containers(&self) -> Result<(Vec<ContainerRecord>, Vec<String>), StoreError> {
        let directory = self.directory.join("containers");
        let entries = match std::fs::read_dir(&directory) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            other => other.map_err(|source| StoreError::Read { path: directory.clone(), source })?,
        };
        let (mut records, mut warnings) = (Vec::new(), Vec::new());
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match store::load_record::<ContainerRecord>(&path)? {
                Loaded::Record(record) => records.push(record),
                Loaded::Absent => {}
                Loaded::SetAside { moved_to, reason } => {
                    warnings.push(format!("{reason}; moved to {}", moved_to.display()));
                }
            }
        }
        records.sort_by(|a, b| {
            (&a.status.service, a.status.number, &a.status.id).cmp(&(&b.status.service, b.status.number, &b.status.id))
        });
        Ok((records, warnings))
    }

    /// Writes the project's record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write_project(&self, record: &ProjectRecord) -> Result<(), StoreError> {
        store::write_record(&self.directory.join("project.json"), record, Durability::Process)
    }

    /// Reads the project's record; a damaged one is moved aside.
    ///
    /// # Errors
    /// [`StoreError::Newer`].
    pub fn project(&self) -> Result<Option<ProjectRecord>, StoreError> {
        match store::load_record(&self.directory.join("project.json"))? {
            Loaded::Record(record) => Ok(Some(record)),
            Loaded::Absent | Loaded::SetAside { .. } => Ok(None),
        }
    }
}
