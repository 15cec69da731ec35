//! Containers that share the network of another: who that is, and what follows when it runs in a new namespace.
//!
//! A network namespace lasts as long as somebody is in it, but its interfaces go when their owner ends. Whoever shared it
//! would go on with `lo` alone, so it is started anew, in the owner's new namespace.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::container::ContainerCommand;
use super::links::Links;
use super::record::{ContainerRecord, Phase};
use crate::engine::{LaunchError, RunningContainer, foreground, shown};
use crate::namespaces::Namespace;
use crate::spec::ContainerId;
use crate::store::{Directories, read_record};

/// Names the container whose network another shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkOwner {
    /// The first container of a service of the project.
    Service(String),
    /// A container of any project, by its name or the beginning of its id.
    Container(String),
}

impl std::fmt::Display for NetworkOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service `{name}`"),
            Self::Container(name) => write!(f, "container `{name}`"),
        }
    }
}

impl NetworkOwner {
    fn is(&self, id: &ContainerId, name: &str, first_of: Option<&str>) -> bool {
        match self {
            Self::Service(service) => first_of == Some(service),
            Self::Container(text) => text == name || (!text.is_empty() && id.as_str().starts_with(text.as_str())),
        }
    }

    fn error(&self, reason: &'static str) -> LaunchError {
        LaunchError::Share { what: "network", owner: self.to_string(), reason }
    }
}

/// Is the network of a running container, with what its processes expect to be the same.
#[derive(Debug)]
pub struct SharedNetwork {
    /// The owner.
    pub id: ContainerId,
    /// Its network namespace.
    pub netns: OwnedFd,
    /// Its host name.
    pub hostname: String,
    /// Its NIS domain name.
    pub domainname: Option<String>,
    /// The directory of its hosts, hostname and resolv.conf.
    pub directory: PathBuf,
}

/// Knows the project's running containers.
#[derive(Debug, Default)]
pub struct Running(Mutex<BTreeMap<ContainerId, Entry>>);

/// Is a running container.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    /// The service that it is the first container of.
    first_of: Option<String>,
    pid: i32,
    hostname: String,
    domainname: Option<String>,
    shares: Option<NetworkOwner>,
    inbox: mpsc::WeakSender<ContainerCommand>,
}

impl Running {
    /// Notes that a container runs. Returns the inboxes of those that are to run in another namespace now: that of the
    /// container whose network they share.
    pub fn insert(
        &self,
        record: &ContainerRecord,
        pid: i32,
        inbox: mpsc::WeakSender<ContainerCommand>,
    ) -> Vec<mpsc::Sender<ContainerCommand>> {
        let (status, desired) = (&record.status, &record.desired);
        let entry = Entry {
            name: status.name.clone(),
            first_of: (status.number == 1).then(|| status.service.clone()),
            pid,
            hostname: desired.request.hostname.clone(),
            domainname: desired.request.domainname.clone(),
            shares: desired.shares_network_of.clone(),
            inbox,
        };
        let mut all = self.lock();
        all.insert(status.id.clone(), entry);
        let stale = |sharer: &&Entry| {
            let owner = sharer.shares.as_ref().and_then(|owner| find(&all, owner).ok().flatten());
            owner.is_some_and(|(_, owner)| {
                let (there, here) = (namespace_of(owner.pid), namespace_of(sharer.pid));
                there.is_some() && here.is_some() && there != here
            })
        };
        all.values().filter(stale).filter_map(|sharer| sharer.inbox.upgrade()).collect()
    }

    /// Notes that a container runs no more.
    pub fn remove(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds a running container of the project; a name goes before an id.
fn find<'a>(
    all: &'a BTreeMap<ContainerId, Entry>,
    owner: &NetworkOwner,
) -> Result<Option<(&'a ContainerId, &'a Entry)>, LaunchError> {
    let mut found = all.iter().filter(|(id, entry)| owner.is(id, &entry.name, entry.first_of.as_deref()));
    let named = |text: &str| all.iter().find(|(_, entry)| entry.name == text);
    match (found.next(), found.next(), owner) {
        (_, Some(_), NetworkOwner::Container(text)) => {
            named(text).map(Some).ok_or_else(|| owner.error("the id begins that of several containers"))
        }
        (first, ..) => Ok(first),
    }
}

fn namespace_of(pid: i32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|found| found.ino())
}

fn open_namespace(pid: i32) -> Option<OwnedFd> {
    fs::File::open(format!("/proc/{pid}/ns/net")).ok().map(OwnedFd::from)
}

/// Opens the network of a container: of this project, or of any other with the same run directory.
///
/// # Errors
/// [`LaunchError::Share`]: it does not run, or the id does not say which.
pub fn network_of(links: &Links, owner: &NetworkOwner) -> Result<SharedNetwork, LaunchError> {
    let own = find(&links.running.lock(), owner)?.map(|(id, entry)| (id.clone(), entry.clone()));
    if let Some((id, entry)) = own {
        let netns = open_namespace(entry.pid).ok_or_else(|| owner.error("it has just ended"))?;
        let directory = links.host.dirs.container(id.as_str());
        let Entry { hostname, domainname, .. } = entry;
        return Ok(SharedNetwork { id, netns, hostname, domainname, directory });
    }
    let NetworkOwner::Container(text) = owner else { return Err(owner.error("it does not run")) };
    let mut found = of_projects(&links.host.dirs, text, Some(&links.config.project));
    found.extend(in_foreground(&links.host.dirs, text));
    let found = one_named(found, text, "network")?;
    let netns = found.open(Namespace::Network)?;
    let RunningContainer { id, hostname, domainname, directory, .. } = found;
    Ok(SharedNetwork { id, netns, hostname, domainname, directory })
}

/// Finds the running container of that name, of any project or in the foreground of any `run`, or whose id begins so; a namespace
/// of it is wanted.
///
/// # Errors
/// [`LaunchError::Share`]: none runs, or more than one is meant.
pub fn find_running(dirs: &Directories, text: &str, kind: Namespace) -> Result<RunningContainer, LaunchError> {
    let mut found = of_projects(dirs, text, None);
    found.extend(in_foreground(dirs, text));
    one_named(found, text, shown(kind))
}

fn in_foreground(dirs: &Directories, text: &str) -> impl Iterator<Item = RunningContainer> {
    foreground::running(dirs.run()).into_iter().filter(move |container| is_meant(container, text))
}

/// A name goes before an id.
fn one_named(
    mut found: Vec<RunningContainer>,
    text: &str,
    what: &'static str,
) -> Result<RunningContainer, LaunchError> {
    if found.iter().any(|container| container.name == text) {
        found.retain(|container| container.name == text);
    }
    let error = |reason| Err(LaunchError::Share { what, owner: format!("container `{text}`"), reason });
    match (found.pop(), found.is_empty()) {
        (Some(container), true) => Ok(container),
        (Some(_), false) => error("several containers have this name, or an id that begins so"),
        (None, _) => error("no container of this name or id runs"),
    }
}

fn is_meant(container: &RunningContainer, text: &str) -> bool {
    container.name == text || (!text.is_empty() && container.id.as_str().starts_with(text))
}

/// Lists running containers of all projects, one excepted, that are meant. Their records are read and never touched: they are
/// their own supervisor's.
fn of_projects(dirs: &Directories, text: &str, except: Option<&str>) -> Vec<RunningContainer> {
    let projects = dirs.projects().unwrap_or_default();
    let others = projects.iter().filter(|project| Some(project.as_str()) != except);
    let files = others.filter_map(|project| fs::read_dir(dirs.project(project).join("containers")).ok());
    let paths = files.flatten().flatten().map(|entry| entry.path());
    let records = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| read_record::<ContainerRecord>(&path).ok().flatten());
    let running = records.filter(|record| record.phase == Phase::Running).filter_map(|record| as_seen(dirs, record));
    running.filter(|container| is_meant(container, text)).collect()
}

fn as_seen(dirs: &Directories, record: ContainerRecord) -> Option<RunningContainer> {
    let directory = record.status.log.as_deref().and_then(std::path::Path::parent).map(PathBuf::from);
    Some(RunningContainer {
        process: record.process?,
        hostname: record.desired.request.hostname,
        domainname: record.desired.request.domainname,
        directory: directory.unwrap_or_else(|| dirs.container(record.status.id.as_str())),
        name: record.status.name,
        id: record.status.id,
    })
}
