//! What is written down of containers and of the project, so that whoever comes next can go on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

    /// Reads the records of all containers by name; damaged ones are moved aside and told of as warnings. The caller is
    /// the project's supervisor.
    ///
    /// # Errors
    /// [`StoreError::Newer`], or a directory that cannot be read.
    pub fn containers(&self) -> Result<(Vec<ContainerRecord>, Vec<String>), StoreError> {
        self.read_containers(|path| {
            Ok(match store::load_record::<ContainerRecord>(path)? {
                Loaded::Record(record) => Ok(Some(record)),
                Loaded::Absent => Ok(None),
                Loaded::SetAside { moved_to, reason } => Err(set_aside_warning(&reason, &moved_to)),
            })
        })
    }

    /// Reads the records of all containers by name, for whoever only looks: damaged ones stay, and are told of as warnings.
    ///
    /// # Errors
    /// As [`Records::containers`].
    pub fn look_at_containers(&self) -> Result<(Vec<ContainerRecord>, Vec<String>), StoreError> {
        self.read_containers(|path| match store::read_record::<ContainerRecord>(path) {
            Err(reason @ StoreError::Corrupt { .. }) => Ok(Err(with_cause(&reason))),
            other => other.map(Ok),
        })
    }

    /// Lists the containers whose record was moved aside: they are gone, their logs and files are still there.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn lost_containers(&self) -> Result<BTreeSet<ContainerId>, StoreError> {
        let mut lost = BTreeSet::new();
        for path in self.container_files()? {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(store::name_before);
            let id = name.and_then(|name| name.strip_suffix(".json")?.parse::<ContainerId>().ok());
            lost.extend(id.filter(|id| !self.container(id).exists()));
        }
        Ok(lost)
    }

    fn container_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.directory.join("containers");
        match std::fs::read_dir(&directory) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(StoreError::Read { path: directory, source }),
            Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        }
    }

    fn read_containers(
        &self,
        read: impl Fn(&Path) -> Result<Result<Option<ContainerRecord>, String>, StoreError>,
    ) -> Result<(Vec<ContainerRecord>, Vec<String>), StoreError> {
        let (mut records, mut warnings) = (Vec::new(), Vec::new());
        for path in self.container_files()? {
            if path.extension().is_some_and(|extension| extension == "json") {
                match read(&path)? {
                    Ok(record) => records.extend(record),
                    Err(warning) => warnings.push(warning),
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

    /// Reads the project's record; a damaged one is moved aside and told of as a warning.
    ///
    /// # Errors
    /// [`StoreError::Newer`].
    pub fn project(&self) -> Result<(Option<ProjectRecord>, Option<String>), StoreError> {
        Ok(match store::load_record(&self.directory.join("project.json"))? {
            Loaded::Record(record) => (Some(record), None),
            Loaded::Absent => (None, None),
            Loaded::SetAside { moved_to, reason } => (None, Some(set_aside_warning(&reason, &moved_to))),
        })
    }
}

fn set_aside_warning(reason: &StoreError, moved_to: &Path) -> String {
    format!("{}; it was moved to {}", with_cause(reason), moved_to.display())
}

fn with_cause(reason: &StoreError) -> String {
    match std::error::Error::source(reason) {
        Some(cause) => format!("{reason}: {cause}"),
        None => reason.to_string(),
    }
}
