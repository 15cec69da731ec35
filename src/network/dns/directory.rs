//! Names that other processes see: `<run>/networks/names/<network>/<container>.json`, a file for each container's place.
//!
//! Each supervisor and each `run` writes the names of its own containers and reads those of all that are on the same
//! networks. inotify(7) queues a change inside the system call that makes it, and who answers a question reads that queue
//! first: once the writer's call has returned, no answer anywhere is older. Nobody polls, and no message can be lost with
//! its receiver; files outlive whoever wrote them, as the containers do.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::names::NameEntry;
use crate::network::NetworkError;
use crate::spec::ContainerId;
use crate::store::{self, Durability, Record, StoreError};

/// Room for some dozens of changes; more are read in turns.
const BUFFER: usize = 8192;

impl Record for NameEntry {
    const VERSION: u32 = 1;
}

/// Says what is to be looked at again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One container's names on a network.
    Container(String, ContainerId),
    /// All names on a network.
    Network(String),
}

/// Is the directory of names.
#[derive(Debug)]
pub(super) struct NameDirectory {
    root: PathBuf,
    watch: Mutex<Watch>,
}

/// Is what we follow, and how we hear of it.
#[derive(Debug, Default)]
struct Watch {
    /// `None` where the host has no more of them to give (fs.inotify.max_user_instances): then we look each time.
    queue: Option<OwnedFd>,
    /// By network; those without a number are looked at each time.
    followed: BTreeMap<String, Option<i32>>,
}

impl NameDirectory {
    /// Takes this directory; nothing is made or read before it is used.
    pub(super) fn new(root: PathBuf) -> Self {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let queue = queue.inspect_err(|error| tracing::debug!(%error, "names are looked for at each question")).ok();
        Self { root, watch: Mutex::new(Watch { queue, followed: BTreeMap::new() }) }
    }

    /// Makes a container's names known to all.
    pub(super) fn write(&self, entry: &NameEntry) -> Result<(), NetworkError> {
        self.make(&entry.network)?;
        Ok(store::write_record(&self.path(&entry.network, &entry.container), entry, Durability::Process)?)
    }

    /// Forgets a container's names.
    pub(super) fn remove(&self, network: &str, container: &ContainerId) -> Result<(), StoreError> {
        store::remove(&self.path(network, container))
    }

    /// Lists what has changed since the last call. Names of `networks` that we did not follow yet count as changed.
    pub(super) fn changes(&self, networks: &[String]) -> Vec<Change> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let new = networks.iter().filter(|network| watch.follow(&self.root, network)).cloned();
        let mut changes: Vec<Change> = new.map(Change::Network).collect();
        let Watch { queue, followed } = &mut *watch;
        if let Some(queue) = queue {
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut reader = inotify::Reader::new(queue, &mut buffer);
            while let Ok(event) = reader.next() {
                changes.extend(changes_of(&event, followed));
            }
        }
        let unheard = followed.iter().filter(|(_, number)| number.is_none());
        changes.extend(unheard.map(|(network, _)| Change::Network(network.clone())));
        changes
    }

    /// Reads one container's names; `None` where there are none, or none that can be read.
    pub(super) fn read(&self, network: &str, container: &ContainerId) -> Option<NameEntry> {
        let path = self.path(network, container);
        let read = store::read_record::<NameEntry>(&path);
        let entry = read.inspect_err(|error| tracing::debug!(%error, "names that cannot be read")).ok().flatten();
        entry.filter(|entry| entry.network == network && entry.container == *container)
    }

    /// Reads all names of a network.
    pub(super) fn list(&self, network: &str) -> Vec<NameEntry> {
        let entries = fs::read_dir(self.root.join(network)).into_iter().flatten().flatten();
        entries.filter_map(|entry| self.read(network, &container_of(entry.file_name().to_str()?)?)).collect()
    }

    fn path(&self, network: &str, container: &ContainerId) -> PathBuf {
        name_file(&self.root, network, container)
    }

    fn make(&self, network: &str) -> Result<(), NetworkError> {
        let path = self.root.join(network);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| NetworkError::State { operation: "make the directory", path, source })
    }
}

impl Watch {
    /// Begins to hear of a network's names. True where that is new, and they have to be read.
    fn follow(&mut self, root: &Path, network: &str) -> bool {
        if self.followed.contains_key(network) {
            return false;
        }
        let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let number = match &self.queue {
            None => None,
            Some(queue) => match inotify::add_watch(queue, root.join(network), flags) {
                Ok(number) => Some(number),
                // Nobody has a name there yet.
                Err(Errno::NOENT) => return false,
                Err(_) => None,
            },
        };
        self.followed.insert(network.to_owned(), number);
        true
    }
}

fn changes_of(event: &inotify::Event<'_>, followed: &mut BTreeMap<String, Option<i32>>) -> Vec<Change> {
    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
        return followed.keys().cloned().map(Change::Network).collect();
    }
    let watched = followed.iter().find(|(_, number)| **number == Some(event.wd())).map(|(network, _)| network.clone());
    let Some(network) = watched else { return Vec::new() };
    if event.events().contains(ReadFlags::IGNORED) {
        // The directory has gone with its network. One that is made anew is another.
        followed.remove(&network);
        return vec![Change::Network(network)];
    }
    let name = event.file_name().and_then(|name| name.to_str().ok());
    name.and_then(container_of).map(|container| Change::Container(network, container)).into_iter().collect()
}

fn name_file(root: &Path, network: &str, container: &ContainerId) -> PathBuf {
    root.join(network).join(format!("{}.json", container.as_str()))
}

fn container_of(file_name: &str) -> Option<ContainerId> {
    file_name.strip_suffix(".json")?.parse().ok()
}

/// Forgets one container's names. `root` is the directory of all names.
pub(in crate::network) fn remove_names(root: &Path, network: &str, container: &ContainerId) -> Result<(), StoreError> {
    store::remove(&name_file(root, network, container))
}

/// Forgets what nobody has taken back: names of containers that are not to stay. The caller holds the lock under which places
/// on the network are given. What a writer was killed over goes with the network: others may be writing.
pub(in crate::network) fn sweep_names(
    root: &Path,
    network: &str,
    stays: impl Fn(&ContainerId) -> bool,
) -> Result<(), StoreError> {
    let directory = root.join(network);
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let container = entry.file_name().to_str().and_then(container_of);
        if let Some(container) = container.filter(|container| !stays(container)) {
            remove_names(root, network, &container)?;
        }
    }
    Ok(())
}

/// Takes away the directory of a network that is being removed.
pub(in crate::network) fn remove_all_names(root: &Path, network: &str) -> Result<(), NetworkError> {
    let path = root.join(network);
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(NetworkError::State { operation: "remove", path, source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::entry;
    use super::*;

    fn container(name: &str, entry: &NameEntry) -> Change {
        Change::Container(name.to_owned(), entry.container.clone())
    }

    #[test]
    fn changes_are_there_when_the_writer_s_call_returns() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (NameDirectory::new(dir.path().to_owned()), NameDirectory::new(dir.path().to_owned()));
        let networks = ["p_n".to_owned()];
        let web = entry("p_n", "p-web-1", 2, &["web"]);
        assert_eq!(ours.changes(&networks), [], "nobody is there, and there is nothing to follow");
        theirs.write(&web).unwrap();
        assert_eq!(ours.changes(&networks), [Change::Network("p_n".to_owned())]);
        assert_eq!((ours.changes(&networks), ours.list("p_n")), (vec![], vec![web.clone()]));
        theirs.write(&entry("p_other", "p-db-1", 3, &["db"])).unwrap();
        assert_eq!(ours.changes(&networks), [], "another network is nothing of ours");
        theirs.write(&web).unwrap();
        assert_eq!(ours.changes(&networks), [container("p_n", &web)]);
        theirs.remove("p_n", &web.container).unwrap();
        assert_eq!(ours.changes(&networks), [container("p_n", &web)]);
        assert_eq!(ours.read("p_n", &web.container), None);
        // The network goes and another of its name comes.
        remove_all_names(dir.path(), "p_n").unwrap();
        assert_eq!(ours.changes(&networks), [Change::Network("p_n".to_owned())]);
        theirs.write(&web).unwrap();
        assert_eq!(ours.changes(&networks), [Change::Network("p_n".to_owned())]);
    }

    #[test]
    fn what_is_damaged_or_lies_elsewhere_is_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let ours = NameDirectory::new(dir.path().to_owned());
        let web = entry("p_n", "p-web-1", 2, &["web"]);
        ours.write(&web).unwrap();
        fs::create_dir(dir.path().join("p_m")).unwrap();
        fs::copy(name_file(dir.path(), "p_n", &web.container), name_file(dir.path(), "p_m", &web.container)).unwrap();
        assert_eq!(ours.list("p_m"), []);
        fs::write(name_file(dir.path(), "p_n", &web.container), "{").unwrap();
        assert_eq!(ours.list("p_n"), []);
    }

    #[test]
    fn names_without_a_place_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let ours = NameDirectory::new(dir.path().to_owned());
        let (web, db) = (entry("p_n", "p-web-1", 2, &["web"]), entry("p_n", "p-db-1", 3, &["db"]));
        ours.write(&web).unwrap();
        ours.write(&db).unwrap();
        sweep_names(dir.path(), "p_n", |container| *container == web.container).unwrap();
        assert_eq!(ours.list("p_n"), [web]);
        sweep_names(dir.path(), "p_nobody", |_| false).unwrap();
    }
}
