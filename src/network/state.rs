//! Where networks and attachments are written down: `<run>/networks/`, one small JSON file each.
//!
//! The name of an attachment's file is `<address>_<container>.json`, so a listing of the directory is the table of
//! leases: giving an address away reads no file, and a file whose content was lost still holds its address.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::NetworkError;
use super::dns::{NAMES, remove_all_names, remove_names, sweep_names};
use super::record::{Attachment, NetworkRecord};
use crate::spec::ContainerId;
use crate::store::{self, Durability, FileLock, Loaded, Record, StoreError};

/// Begins the names of files of attachments without an address of ours.
const PLACE: &str = "place_";

impl Record for NetworkRecord {
    const VERSION: u32 = 1;
}

impl Record for Attachment {
    const VERSION: u32 = 1;
}

/// Is what is given away to one container, as the name of its file says: `<addresses>_<container>.json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lease {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
    pub(super) container: ContainerId,
}

impl Lease {
    fn of(attachment: &Attachment) -> Option<Self> {
        let (v4, v6) = (attachment.ip(), attachment.ipv6());
        (v4.is_some() || v6.is_some()).then(|| Self { v4, v6, container: attachment.container.clone() })
    }

    /// Returns the addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    fn file_name(&self) -> String {
        let addresses: Vec<String> = self.addresses().map(|address| address.to_string()).collect();
        format!("{}_{}.json", addresses.join(","), self.container.as_str())
    }

    fn parse(name: &str) -> Option<Self> {
        let (addresses, container) = name.strip_suffix(".json")?.split_once('_')?;
        let container = container.parse().ok()?;
        let (v4, v6) = match addresses.split_once(',') {
            Some((v4, v6)) => (Some(v4.parse().ok()?), Some(v6.parse().ok()?)),
            None => match addresses.parse().ok()? {
                IpAddr::V4(address) => (Some(address), None),
                IpAddr::V6(address) => (None, Some(address)),
            },
        };
        Some(Self { v4, v6, container })
    }
}

/// Is the directory in which networks are written down.
#[derive(Clone, Debug)]
pub(super) struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Returns the run directory that it lies in.
    pub(super) fn run_dir(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// Opens the directory, made where it is missing.
    pub(super) fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let root = run_dir.join("networks");
        for dir in [root.join("records"), root.join("attachments"), root.join(NAMES)] {
            make_dir(&dir)?;
        }
        Ok(Self { root })
    }

    /// Takes the lock of this name, shared with every mydocker that has this run directory.
    ///
    /// The uncontended case takes it at once; else a thread of the blocking pool waits, so that the caller's runtime goes on.
    pub(super) async fn lock(&self, name: &'static str) -> Result<FileLock, NetworkError> {
        let path = self.root.join(name);
        match FileLock::try_acquire(&path) {
            Err(StoreError::Locked { .. }) => {}
            other => return Ok(other?),
        }
        let waiting = tokio::task::spawn_blocking(move || FileLock::acquire(&path));
        Ok(waiting.await.map_err(|_| NetworkError::WorkerLost("wait for a lock"))??)
    }

    /// Reads all networks, by name.
    pub(super) fn networks(&self) -> Result<Vec<NetworkRecord>, NetworkError> {
        let dir = self.records_dir();
        let mut records = Vec::new();
        for name in file_names(&dir)? {
            if name.ends_with(".json")
                && let Some(record) = read(&dir.join(name))?
            {
                records.push(record);
            }
        }
        records.sort_by(|a: &NetworkRecord, b| a.config.name.cmp(&b.config.name));
        Ok(records)
    }

    /// Finds a network by its name, its id or the first digits of its id (at least 12).
    pub(super) fn find(&self, key: &str) -> Result<Option<NetworkRecord>, NetworkError> {
        let direct = self.record_path(key);
        if is_plain(key)
            && direct.exists()
            && let Some(record) = read(&direct)?
        {
            return Ok(Some(record));
        }
        let by_id = |record: &NetworkRecord| key.len() >= 12 && record.id.starts_with(key);
        Ok(self.networks()?.into_iter().find(by_id))
    }

    /// Writes a network down. Its directory of attachments comes with the first of them: whatever a kill leaves has a record that
    /// names it.
    pub(super) fn write_network(&self, record: &NetworkRecord) -> Result<(), NetworkError> {
        write(&self.record_path(&record.config.name), record)
    }

    /// Forgets a network, the record last.
    pub(super) fn remove_network(&self, record: &NetworkRecord) -> Result<(), NetworkError> {
        let dir = self.attachment_dir(&record.id);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(NetworkError::State { operation: "remove", path: dir, source });
            }
            _ => {}
        }
        remove_all_names(&self.names_dir(), &record.config.name)?;
        store::remove(&self.record_path(&record.config.name))?;
        Ok(store::remove_set_aside(&self.record_path(&record.config.name))?)
    }

    /// Lists the networks whose record was damaged and has not been written again.
    pub(super) fn lost_networks(&self) -> Result<BTreeSet<String>, NetworkError> {
        let names = file_names(&self.records_dir())?;
        let damaged = names.iter().filter_map(|name| store::name_before(name)?.strip_suffix(".json"));
        Ok(damaged.filter(|name| !self.record_path(name).exists()).map(str::to_owned).collect())
    }

    /// Forgets a network whose record was lost, and the places in it.
    pub(super) fn remove_lost(&self, name: &str, id: Option<&str>) -> Result<(), NetworkError> {
        if let Some(dir) = id.map(|id| self.attachment_dir(id))
            && let Err(source) = fs::remove_dir_all(&dir)
            && source.kind() != ErrorKind::NotFound
        {
            return Err(NetworkError::State { operation: "remove", path: dir, source });
        }
        remove_all_names(&self.names_dir(), name)?;
        Ok(store::remove_set_aside(&self.record_path(name))?)
    }

    /// Finds the id of a network whose record was lost: a directory of attachments has it for a name, and no record. `digits` are
    /// its first, where the bridge is named by them.
    pub(super) fn lost_id(
        &self,
        name: &str,
        digits: Option<&str>,
        records: &[NetworkRecord],
    ) -> Result<Option<String>, NetworkError> {
        let mut ids = file_names(&self.root.join("attachments"))?;
        ids.retain(|id| !records.iter().any(|record| record.id == *id));
        let of_name = |id: &String| {
            self.attachments(id).is_ok_and(|places| places.iter().any(|place| place.network_name == name))
        };
        let is_it = |id: &String| digits.is_some_and(|digits| id.starts_with(digits)) || of_name(id);
        Ok(ids.into_iter().find(is_it))
    }

    /// Lists the places whose record was damaged: of them the addresses and the container are known, from the file's name.
    pub(super) fn damaged_attachments(&self, network_id: &str) -> Result<Vec<Lease>, NetworkError> {
        let names = file_names(&self.attachment_dir(network_id))?;
        Ok(names.iter().filter_map(|name| Lease::parse(store::name_before(name)?)).collect())
    }

    /// Lists which addresses of a network are given away, from the names of files alone.
    pub(super) fn leases(&self, network_id: &str) -> Result<Vec<Lease>, NetworkError> {
        let names = file_names(&self.attachment_dir(network_id))?;
        // Also what is damaged: the container still has the address.
        let mut leases: Vec<Lease> =
            names.iter().filter_map(|name| Lease::parse(store::name_before(name).unwrap_or(name))).collect();
        leases.sort();
        leases.dedup();
        Ok(leases)
    }

    /// Reads all attachments of a network, by address.
    pub(super) fn attachments(&self, network_id: &str) -> Result<Vec<Attachment>, NetworkError> {
        let dir = self.attachment_dir(network_id);
        let mut found = Vec::new();
        for lease in self.leases(network_id)? {
            if let Some(attachment) = read(&dir.join(lease.file_name()))? {
                found.push(attachment);
            }
        }
        for name in file_names(&dir)?.iter().filter(|name| name.starts_with(PLACE) && name.ends_with(".json")) {
            found.extend(read(&dir.join(name))?);
        }
        Ok(found)
    }

    /// Reads one container's attachment to a network.
    pub(super) fn attachment(
        &self,
        network_id: &str,
        container: &ContainerId,
    ) -> Result<Option<Attachment>, NetworkError> {
        let lease = self.leases(network_id)?.into_iter().find(|lease| lease.container == *container);
        let name = lease.map_or_else(|| place_name(container), |lease| lease.file_name());
        read(&self.attachment_dir(network_id).join(name))
    }

    /// Writes an attachment down.
    pub(super) fn write_attachment(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        make_dir(&self.attachment_dir(&attachment.network))?;
        let path = self.attachment_path(attachment);
        write(&path, attachment)?;
        Ok(store::remove_set_aside(&path)?)
    }

    /// Forgets an attachment, and the names of a container that could not take them back itself.
    pub(super) fn remove_attachment(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        remove_names(&self.names_dir(), &attachment.network_name, &attachment.container)?;
        let path = self.attachment_path(attachment);
        store::remove(&path)?;
        if path.parent().is_some_and(Path::is_dir) {
            store::remove_set_aside(&path)?;
        }
        Ok(())
    }

    /// Gives addresses back without looking into their file.
    pub(super) fn remove_lease(&self, network_id: &str, lease: &Lease) -> Result<(), NetworkError> {
        let path = self.attachment_dir(network_id).join(lease.file_name());
        store::remove(&path)?;
        Ok(store::remove_set_aside(&path)?)
    }

    /// Removes what writers that were killed left half-written; the caller holds the lock.
    pub(super) fn sweep(&self) -> Result<(), NetworkError> {
        store::remove_temporaries(&self.root)?;
        store::remove_temporaries(&self.root.join("records"))?;
        for network in self.networks()? {
            let dir = self.attachment_dir(&network.id);
            make_dir(&dir)?;
            store::remove_temporaries(&dir)?;
            let places = self.containers_on(&network.id)?;
            sweep_names(&self.names_dir(), &network.config.name, |container| places.contains(container))?;
        }
        Ok(())
    }

    /// Lists who has a place on a network, from the names of files alone.
    fn containers_on(&self, network_id: &str) -> Result<BTreeSet<ContainerId>, NetworkError> {
        let names = file_names(&self.attachment_dir(network_id))?;
        let place = |name: &String| name.strip_prefix(PLACE)?.strip_suffix(".json")?.parse().ok();
        let mut found: BTreeSet<ContainerId> = names.iter().filter_map(place).collect();
        found.extend(self.leases(network_id)?.into_iter().map(|lease| lease.container));
        Ok(found)
    }

    /// Reads a file of this directory, `None` where it is not there or was set aside.
    pub(super) fn read<T: Record>(&self, name: &str) -> Result<Option<T>, NetworkError> {
        read(&self.root.join(name))
    }

    /// Writes a file of this directory.
    pub(super) fn write<T: Record>(&self, name: &str, value: &T) -> Result<(), NetworkError> {
        write(&self.root.join(name), value)
    }

    /// Removes a file of this directory.
    pub(super) fn remove(&self, name: &str) -> Result<(), NetworkError> {
        store::remove(&self.root.join(name))?;
        Ok(store::remove_set_aside(&self.root.join(name))?)
    }

    /// Says whether a file of this directory was damaged and set aside.
    pub(super) fn was_damaged(&self, name: &str) -> Result<bool, NetworkError> {
        Ok(file_names(&self.root)?.iter().any(|file| store::name_before(file) == Some(name)))
    }

    fn names_dir(&self) -> PathBuf {
        self.root.join(NAMES)
    }

    fn records_dir(&self) -> PathBuf {
        self.root.join("records")
    }

    fn record_path(&self, network: &str) -> PathBuf {
        self.records_dir().join(format!("{network}.json"))
    }

    fn attachment_dir(&self, network_id: &str) -> PathBuf {
        self.root.join("attachments").join(network_id)
    }

    fn attachment_path(&self, attachment: &Attachment) -> PathBuf {
        let name = match Lease::of(attachment).filter(|_| attachment.is_lease()) {
            Some(lease) => lease.file_name(),
            None => place_name(&attachment.container),
        };
        self.attachment_dir(&attachment.network).join(name)
    }
}

/// Names the file of an attachment whose address is not ours to give.
fn place_name(container: &ContainerId) -> String {
    format!("{PLACE}{}.json", container.as_str())
}

/// Whether the text may stand in a file name: names of networks are checked before they are written, keys are not.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && !key.contains('/') && !key.starts_with('.')
}

fn make_dir(dir: &Path) -> Result<(), NetworkError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| NetworkError::State {
        operation: "make the directory",
        path: dir.to_owned(),
        source,
    })
}

fn file_names(dir: &Path) -> Result<Vec<String>, NetworkError> {
    let failed = |source| NetworkError::State { operation: "list", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    entries
        .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
        .collect::<Result<_, _>>()
        .map_err(failed)
}

fn write<T: Record>(path: &Path, value: &T) -> Result<(), NetworkError> {
    Ok(store::write_record(path, value, Durability::Process)?)
}

/// Reads a file; one that is damaged is moved aside and reported, a later format is an error.
fn read<T: Record>(path: &Path) -> Result<Option<T>, NetworkError> {
    match store::load_record(path)? {
        Loaded::Record(value) => Ok(Some(value)),
        Loaded::Absent => Ok(None),
        Loaded::SetAside { moved_to, reason } => {
            tracing::warn!(path = %path.display(), aside = %moved_to.display(), %reason, "damaged record moved aside");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkConfig;

    fn record(name: &str) -> NetworkRecord {
        let config = NetworkConfig { name: name.to_owned(), ..NetworkConfig::default() };
        NetworkRecord { id: crate::spec::random_hex(), config, bridge: None, lan: None, cni: None }
    }

    #[test]
    fn networks_are_found_by_name_and_id() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (a, b) = (record("p_a"), record("p_b"));
        state.write_network(&a).unwrap();
        state.write_network(&b).unwrap();
        assert_eq!(state.networks().unwrap(), [a.clone(), b.clone()]);
        assert_eq!(state.find("p_a").unwrap(), Some(a.clone()));
        assert_eq!(state.find(&b.id).unwrap(), Some(b.clone()));
        assert_eq!(state.find(b.short_id()).unwrap(), Some(b));
        for key in ["", "p", "../lock", "."] {
            assert_eq!(state.find(key).unwrap(), None);
        }
        state.remove_network(&a).unwrap();
        state.remove_network(&a).unwrap();
        assert_eq!(state.find("p_a").unwrap(), None);
    }

    #[test]
    fn broken_files_are_moved_aside_and_later_formats_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for content in ["", "{", "{\"version\":1}", "\0\0\0"] {
            fs::write(state.record_path("n"), content).unwrap();
            assert_eq!(state.find("n").unwrap(), None, "{content:?}");
            assert!(!state.record_path("n").exists());
        }
        fs::write(state.record_path("n"), r#"{"version":2,"made_by":"mydocker 9","record":1}"#).unwrap();
        assert!(matches!(state.find("n"), Err(NetworkError::Store(StoreError::Newer { version: 2, .. }))));
    }

    #[test]
    fn leases_are_the_names_of_files() {
        let container = ContainerId::generate();
        let (v4, v6) = ("10.11.0.2".parse().ok(), "fd00::2".parse().ok());
        for (v4, v6, begins) in [(v4, None, "10.11.0.2_"), (v4, v6, "10.11.0.2,fd00::2_"), (None, v6, "fd00::2_")] {
            let lease = Lease { v4, v6, container: container.clone() };
            assert!(lease.file_name().starts_with(begins), "{}", lease.file_name());
            assert_eq!(Lease::parse(&lease.file_name()), Some(lease));
        }
        let id = container.as_str();
        for addresses in ["", "fd00::2,10.11.0.2", "10.11.0.2,10.11.0.3", "10.11.0.2,", "x"] {
            assert_eq!(Lease::parse(&format!("{addresses}_{id}.json")), None, "{addresses}");
        }
        for name in ["x.json", "10.11.0.2.json", "10.11.0.2_ab.json", "10.11.0.2_.tmp1"] {
            assert_eq!(Lease::parse(name), None);
        }
    }
}
