//! From a project's name to a connection with its supervisor, which is started where none answers.
//!
//! The project lock decides between several clients: who gets it starts the keeper, which holds it from then on; the
//! others wait until the socket is there. A socket that nobody answers on is what a killed supervisor left: the keeper
//! starts the next one, and where the keeper is gone too the lock is free.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::report::CliError;
use super::settings::Settings;
use crate::engine::SUPERVISION;
use crate::keeper::{KeeperBoot, KeeperStart, start_keeper};
use crate::namespaces::cgroup::{Cgroup, CgroupPath, Hierarchies};
use crate::spec::{ContainerId, ResourceLimits};
use crate::store::{FileLock, ProjectDirectory, StoreError};
use crate::supervisor::BootConfig;
use crate::sys::Channel;

/// How long our own processes may take from their last breath to their end.
const LEAVING: Duration = Duration::from_millis(500);
/// So long a keeper takes at most to end after its project.
const KEEPER_ENDS: Duration = Duration::from_secs(2);
/// How long somebody may hold the lock without answering on the socket.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look again while somebody else starts or ends the project. A socket's file appears at bind(2) and answers
/// from listen(2) on, which no event tells of; and an inotify(7) instance costs 20 ms when it is closed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Where tools are looked for when the client has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Knows how to reach one project's supervisor.
#[derive(Debug, Clone)]
pub struct Connector {
    settings: Settings,
    project: String,
}

impl Connector {
    /// Names the project.
    pub fn new(settings: &Settings, project: &str) -> Self {
        Self { settings: settings.clone(), project: project.to_owned() }
    }

    /// Answers whether the project is a container of its own.
    pub fn is_single(&self) -> bool {
        self.project.parse::<ContainerId>().is_ok()
    }

    /// Returns the project's name.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Connects, and starts the project's processes where nobody has.
    ///
    /// # Errors
    /// [`CliError::Store`], [`CliError::Keeper`], [`CliError::Busy`] and [`CliError::Connection`].
    pub fn connect(&self) -> Result<Channel, CliError> {
        self.settings.directories.create()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Made anew each time: the last `down` removes it, and ours may be without a name by now.
            let directory = self.settings.directories.create_project(&self.project)?;
            if let Some(channel) = self.try_connect(&directory)? {
                return Ok(channel);
            }
            match FileLock::try_acquire(&directory.path().join("lock")) {
                Ok(lock) => self.start(&directory, lock)?,
                Err(StoreError::Locked { holder, .. }) => self.wait_or_give_up(deadline, holder)?,
                // Removed under us: made again in the next turn.
                Err(_) if Instant::now() < deadline && !directory.path().exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Connects if the project's supervisor runs, or is just being started; `None` where nobody works on the project.
    ///
    /// # Errors
    /// [`CliError::Store`], [`CliError::Busy`] and [`CliError::Connection`].
    pub fn connect_running(&self) -> Result<Option<Channel>, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(directory) = self.open_directory()? else { return Ok(None) };
            if let Some(channel) = self.try_connect(&directory)? {
                return Ok(Some(channel));
            }
            if !directory.path().join("lock").exists() {
                return Ok(None);
            }
            match FileLock::try_acquire(&directory.path().join("lock")) {
                Ok(_) => return Ok(None),
                Err(StoreError::Locked { holder, .. }) => self.wait_or_give_up(deadline, holder)?,
                Err(_) if !directory.path().exists() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Says whether the project's supervisor runs.
    pub fn answers(&self) -> bool {
        let channel = self.open_directory().ok().flatten().map(|directory| self.try_connect(&directory));
        matches!(channel, Some(Ok(Some(_))))
    }

    /// Opens the project's directory; `None` where there is none.
    ///
    /// # Errors
    /// [`CliError::Store`].
    pub fn open_directory(&self) -> Result<Option<ProjectDirectory>, CliError> {
        Ok(self.settings.directories.open_project(&self.project)?)
    }

    /// Opens the project's lock file as it is now; `None` where there is none.
    pub fn lock_file(&self) -> Option<File> {
        let directory = self.open_directory().ok().flatten()?;
        File::open(directory.path().join("lock")).ok()
    }

    /// Waits until nothing of a project that was removed is left, our own three processes and their cgroup neither. `running` is its
    /// lock file as it was before: what was started then holds that, the rest a later one.
    pub fn see_off(&self, running: Option<File>) {
        if let Some(lock) = running.or_else(|| self.lock_file()) {
            wait_for_keeper(&lock);
        }
        self.remove_supervision_cgroup();
    }

    fn try_connect(&self, directory: &ProjectDirectory) -> Result<Option<Channel>, CliError> {
        match UnixStream::connect(directory.socket()) {
            Ok(stream) => Ok(Some(Channel::new(stream.into()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(source) => Err(self.connection_failed(source)),
        }
    }

    fn wait_or_give_up(&self, deadline: Instant, holder: Option<i32>) -> Result<(), CliError> {
        if Instant::now() >= deadline {
            return Err(CliError::Busy { project: self.project.clone(), holder });
        }
        thread::sleep(LOOK_AGAIN);
        Ok(())
    }

    fn start(&self, directory: &ProjectDirectory, lock: FileLock) -> Result<(), CliError> {
        let config = BootConfig {
            project: self.project.clone(),
            run_dir: self.settings.directories.run().to_owned(),
            data_dir: self.settings.directories.data().to_owned(),
            cgroup_parent: self.settings.cgroup_parent.clone(),
            firewall: self.settings.firewall.clone(),
            log_level: self.settings.log_level.as_str().to_owned(),
        };
        let config = serde_json::to_value(config).map_err(|error| self.connection_failed(error.into()))?;
        let boot = KeeperBoot { project: self.project.clone(), config };
        let path = env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into());
        let cgroup = self.supervision_cgroup().and_then(|cgroup| cgroup.clone_into()?.try_clone_to_owned().ok());
        start_keeper(&boot, KeeperStart { lock: lock.into_fd(), log: open_log(directory)?, path, cgroup })?;
        Ok(())
    }

    /// Makes the cgroup of a project's own three processes. Without one they live in ours, and nothing else changes.
    fn supervision_cgroup(&self) -> Option<Cgroup> {
        let path =
            CgroupPath::new(&self.settings.cgroup_parent).ok()?.join(&self.project).ok()?.join(SUPERVISION).ok()?;
        let hierarchies = Hierarchies::discover().ok().filter(Hierarchies::has_v2)?;
        hierarchies.create(&path, &ResourceLimits::default()).ok()
    }

    /// Removes the cgroup of a project's own processes when they are gone, and those above it that are empty.
    fn remove_supervision_cgroup(&self) {
        let Some(cgroup) = self.supervision_cgroup() else { return };
        // Somebody may have started the project again: then it is in use, and theirs.
        // A dying process gives up its files, the lock among them, a moment before its cgroup.
        if cgroup.remove(LEAVING).is_ok()
            && let Ok(hierarchies) = Hierarchies::discover()
        {
            hierarchies.remove_empty_parents(cgroup.path());
        }
    }

    /// Makes the error of a connection that failed.
    pub fn connection_failed(&self, source: io::Error) -> CliError {
        CliError::Connection { project: self.project.clone(), source }
    }
}

/// Waits until nobody holds the lock. Not for ever: an `up` that somebody else began meanwhile may hold it, and keep it.
fn wait_for_keeper(lock: &File) {
    let deadline = Instant::now() + KEEPER_ENDS;
    while rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        && Instant::now() < deadline
    {
        thread::sleep(Duration::from_micros(500));
    }
}

/// Opens the file that takes what the three processes have to tell.
fn open_log(directory: &ProjectDirectory) -> Result<File, CliError> {
    let path = directory.path().join("supervision.log");
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    opened.map_err(|source| StoreError::Write { path, source }.into())
}
