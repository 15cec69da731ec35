//! What was made, written down before it is: one file a network in `<run>/polycube/`, changed under the network's lock.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::PolycubeError;
use crate::network::cni::PortMap;
use crate::store::{self, Durability, FileLock, Loaded, Record};

/// Is what is known of one network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct NetworkState {
    /// Its name, from which all other names follow.
    pub(super) network: String,
    /// Cubes whose names people chose and that were there before us: they stay.
    #[serde(default)]
    pub(super) foreign: Vec<String>,
    /// Cubes whose names people chose and that we made.
    #[serde(default)]
    pub(super) made: Vec<String>,
    /// The subnet, where we give addresses ourselves.
    pub(super) subnet: Option<Ipv4Network>,
    /// The pair between router and host, where there is one.
    pub(super) uplink: Option<UplinkState>,
    /// The interface of the host's that the router has, where there is one.
    #[serde(default)]
    pub(super) netdev: Option<String>,
    /// Whether the nat cube may have an entry that nobody has a number of, or lack some: then it is made anew.
    #[serde(default)]
    pub(super) nat_is_doubtful: bool,
    /// The attachments, by `container/interface`.
    #[serde(default)]
    pub(super) attachments: BTreeMap<String, AttachmentState>,
}

/// Is the pair between a router and the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UplinkState {
    /// The host's end.
    pub(super) host_link: String,
    /// The router's end, which gives it its address.
    pub(super) router_link: String,
    /// The host's address with the prefix.
    pub(super) host: Ipv4Network,
    /// The router's.
    pub(super) router: Ipv4Network,
}

/// Says how far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// ADD is at work, or was killed.
    Adding,
    /// All of it is there.
    Attached,
    /// Address and pair are gone; what polycubed has of it is to be removed when it answers again.
    Leaving,
}

/// Is one attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttachmentState {
    pub(super) phase: Phase,
    /// The container and its interface.
    pub(super) container: String,
    pub(super) ifname: String,
    /// The address; what we gave away ourselves is taken until the record goes.
    pub(super) address: Option<Ipv4Addr>,
    /// Published ports, with polycubed's number of each where it is known.
    #[serde(default)]
    pub(super) ports: Vec<PublishedEntry>,
}

/// Is a published port as the nat cube has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublishedEntry {
    pub(super) port: PortMap,
    /// Where the nat cube listens, written before it is told to.
    pub(super) external: Ipv4Addr,
    pub(super) id: Option<u64>,
}

impl Record for NetworkState {
    const VERSION: u32 = 1;
}

/// Is the directory with the records and locks of all networks.
#[derive(Clone, Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

/// Names an attachment within its network.
pub(super) fn attachment_key(container: &str, ifname: &str) -> String {
    format!("{container}/{ifname}")
}

impl Records {
    /// Names the directory; it is made with the first lock.
    pub(super) fn below(run_dir: &Path) -> Self {
        Self { dir: run_dir.join("polycube") }
    }

    /// Takes a network's lock, or one that is for all networks.
    pub(super) fn lock(&self, name: &str) -> Result<FileLock, PolycubeError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|source| PolycubeError::File { operation: "make the directory", path: self.dir.clone(), source })?;
        let path = self.dir.join(format!("{name}.lock"));
        match FileLock::acquire(&path) {
            // Whoever was last has taken the directory away between the two.
            Err(_) if !self.dir.exists() => self.lock(name),
            other => Ok(other?),
        }
    }

    /// Reads a network's record; one that was damaged is moved aside, and its network found again by its names.
    pub(super) fn load(&self, hash: &str, network: &str) -> Result<NetworkState, PolycubeError> {
        let fresh = || NetworkState::of(network);
        match store::load_record::<NetworkState>(&self.path(hash))? {
            Loaded::Record(state) if state.network != network => Err(PolycubeError::Configuration(format!(
                "the network's name has the digest of {}, which is in use: choose another",
                state.network
            ))),
            Loaded::Record(state) => Ok(state),
            Loaded::Absent => Ok(fresh()),
            Loaded::SetAside { moved_to, reason } => {
                tracing::warn!(aside = %moved_to.display(), %reason, "damaged record moved aside");
                Ok(fresh())
            }
        }
    }

    /// Writes a network down.
    pub(super) fn save(&self, hash: &str, state: &NetworkState) -> Result<(), PolycubeError> {
        Ok(store::write_record(&self.path(hash), state, Durability::Process)?)
    }

    /// Forgets a network.
    pub(super) fn forget(&self, hash: &str) -> Result<(), PolycubeError> {
        store::remove(&self.path(hash))?;
        if self.dir.exists() {
            store::remove_set_aside(&self.path(hash))?;
        }
        Ok(())
    }

    /// Removes a network's lock where there is no record any more; the caller holds it. Who waits for it finds that the file is gone,
    /// and makes a new one.
    pub(super) fn tidy(&self, hash: &str) -> Result<(), PolycubeError> {
        if self.path(hash).exists() { Ok(()) } else { self.remove_lock(hash) }
    }

    /// Removes a lock; the caller holds it.
    fn remove_lock(&self, name: &str) -> Result<(), PolycubeError> {
        Ok(store::remove(&self.dir.join(format!("{name}.lock")))?)
    }

    /// Removes the locks that are for all networks, and the directory, where there is no network any more.
    pub(super) fn clear(&self, common: &[&str]) -> Result<(), PolycubeError> {
        for name in common {
            let lock = self.lock(name)?;
            if self.is_empty()? {
                self.remove_lock(name)?;
            }
            drop(lock);
        }
        // Fails where somebody begins again.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Reads the records of all networks but one.
    pub(super) fn others(&self, hash: &str) -> Result<Vec<NetworkState>, PolycubeError> {
        let own = format!("{hash}.json");
        let names = self.names()?.into_iter().filter(|name| name.ends_with(".json") && *name != own);
        let mut found = Vec::new();
        for name in names {
            // A damaged one says nothing, and is its own network's to move aside.
            found.extend(store::read_record(&self.dir.join(name)).unwrap_or_default());
        }
        Ok(found)
    }

    /// Says whether any network has a record.
    pub(super) fn is_empty(&self) -> Result<bool, PolycubeError> {
        Ok(!self.names()?.iter().any(|name| name.ends_with(".json")))
    }

    /// Says whether any network has a way into the host, for which that forwards.
    pub(super) fn has_uplinks(&self) -> Result<bool, PolycubeError> {
        Ok(self.others("")?.iter().any(|network| network.uplink.is_some()))
    }

    fn names(&self) -> Result<Vec<String>, PolycubeError> {
        match fs::read_dir(&self.dir) {
            Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(PolycubeError::File { operation: "list", path: self.dir.clone(), source }),
        }
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.dir.join(format!("{hash}.json"))
    }
}

impl NetworkState {
    /// Says what is known of a network that is not there.
    pub(super) fn of(network: &str) -> Self {
        Self { network: network.to_owned(), ..Self::default() }
    }

    /// Returns the attachments that count: those whose removal has not begun.
    pub(super) fn live(&self) -> impl Iterator<Item = &AttachmentState> {
        self.attachments.values().filter(|attachment| attachment.phase != Phase::Leaving)
    }
}
