//! Who is called what: names of one network are seen by the containers of that network alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize};

use super::directory::{Change, NameDirectory};
use crate::network::NetworkError;
use crate::spec::ContainerId;
use crate::store::ProcessIdentity;

/// The directory of names that all processes share, below that of networks.
pub(in crate::network) const NAMES: &str = "names";

/// Is one container's place in one network, with all it is called there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEntry {
    /// The network's name.
    pub network: String,
    /// The container; its short id is a name too.
    pub container: ContainerId,
    /// Its name, which is also the answer to the question who has the address.
    pub container_name: String,
    /// Its addresses in this network, those of IPv4 first.
    #[serde(alias = "address", deserialize_with = "one_or_several")]
    pub addresses: Vec<IpAddr>,
    /// The service, aliases, the host name.
    pub names: Vec<String>,
    /// The process with which the container ends; `None` where it outlives whoever wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<ProcessIdentity>,
}

impl NameEntry {
    /// Whether the container may still run: who was killed has not taken his names away.
    fn is_held(&self) -> bool {
        self.holder.as_ref().is_none_or(ProcessIdentity::is_alive)
    }
}

/// Reads the addresses of an entry; one that was written before there was IPv6 has one address.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Addresses {
        Several(Vec<IpAddr>),
        One(Ipv4Addr),
    }
    Ok(match Addresses::deserialize(deserializer)? {
        Addresses::Several(addresses) => addresses,
        Addresses::One(address) => vec![address.into()],
    })
}

/// Is what looking up a name or an address found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// It is ours and visible.
    Here(T),
    /// It is ours, but of a network that the asker is not on: nobody else is to be asked.
    Elsewhere,
    /// It is not ours.
    Nowhere,
}

/// Knows the names of all containers of a project, and of those of others that are on the same networks.
#[derive(Debug, Default)]
pub struct NameTable {
    directory: Option<NameDirectory>,
    /// What is written into each entry of ours.
    holder: Option<ProcessIdentity>,
    networks: RwLock<BTreeMap<String, Vec<Known>>>,
    /// Counts answers, so that the replicas of a service take turns in being first.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Known {
    entry: NameEntry,
    /// Everything the container is called, in lower case.
    called: Vec<String>,
}

impl NameTable {
    /// Makes an empty table that nobody shares.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Makes a table that is one with those of all other processes that were given this run directory.
    pub fn shared(run_dir: &Path) -> Arc<Self> {
        let directory = Some(NameDirectory::new(run_dir.join("networks").join(NAMES)));
        Arc::new(Self { directory, ..Self::default() })
    }

    /// Makes a table like [`NameTable::shared`] for a process that takes its containers along when it ends: their names are
    /// nobody's from then on.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn while_we_live(run_dir: &Path) -> Result<Arc<Self>, NetworkError> {
        let directory = Some(NameDirectory::new(run_dir.join("networks").join(NAMES)));
        Ok(Arc::new(Self { directory, holder: Some(ProcessIdentity::own()?), ..Self::default() }))
    }

    /// Takes a container's names up, in place of those it had in this network. Once it returns they are known to all.
    ///
    /// # Errors
    /// The names cannot be written down; nobody knows them then.
    pub fn insert(&self, entry: NameEntry) -> Result<(), NetworkError> {
        let entry = NameEntry { holder: entry.holder.or_else(|| self.holder.clone()), ..entry };
        if let Some(directory) = &self.directory {
            directory.write(&entry)?;
        }
        self.take_up(entry);
        Ok(())
    }

    fn take_up(&self, entry: NameEntry) {
        let mut called = vec![lower(&entry.container_name), entry.container.short().to_owned()];
        called.extend(entry.names.iter().map(|name| lower(name)));
        called.sort();
        called.dedup();
        let mut networks = self.networks.write().unwrap_or_else(PoisonError::into_inner);
        let known = networks.entry(entry.network.clone()).or_default();
        known.retain(|known| known.entry.container != entry.container);
        known.push(Known { entry, called });
    }

    /// Forgets a container in all networks. Once it returns it is known to nobody.
    pub fn remove(&self, container: &ContainerId) {
        let mut networks = Vec::new();
        self.retain(|entry| {
            let goes = entry.container == *container;
            networks.extend(goes.then(|| entry.network.clone()));
            !goes
        });
        for (directory, network) in
            self.directory.iter().flat_map(|directory| networks.iter().map(move |n| (directory, n)))
        {
            // What stays is taken away with the container's place.
            if let Err(error) = directory.remove(network, container) {
                tracing::warn!(%error, network, container = container.short(), "names stay behind");
            }
        }
    }

    /// Forgets a container in one network.
    fn remove_from(&self, network: &str, container: &ContainerId) {
        self.retain(|entry| entry.container != *container || entry.network != network);
    }

    /// Learns what others have changed.
    fn refresh(&self, networks: &[String]) {
        let Some(directory) = &self.directory else { return };
        for change in directory.changes(networks) {
            match change {
                Change::Container(network, container) => match directory.read(&network, &container) {
                    Some(entry) => self.take_up(entry),
                    None => self.remove_from(&network, &container),
                },
                Change::Network(network) => {
                    let entries = directory.list(&network);
                    self.retain(|known| {
                        known.network != network || entries.iter().any(|entry| entry.container == known.container)
                    });
                    entries.into_iter().for_each(|entry| self.take_up(entry));
                }
            }
        }
    }

    /// Returns what a container on these networks may see; the first that knows a name answers.
    pub fn view(self: &Arc<Self>, networks: impl IntoIterator<Item = String>) -> NameView {
        NameView { table: Arc::clone(self), networks: networks.into_iter().collect(), links: Arc::default() }
    }

    fn retain(&self, mut keep: impl FnMut(&NameEntry) -> bool) {
        let mut networks = self.networks.write().unwrap_or_else(PoisonError::into_inner);
        networks.retain(|_, known| {
            known.retain(|known| keep(&known.entry));
            !known.is_empty()
        });
    }
}

/// Is what one container may see of a [`NameTable`].
#[derive(Clone, Debug)]
pub struct NameView {
    table: Arc<NameTable>,
    networks: Arc<[String]>,
    /// What the asker alone calls others, in lower case, and what they are called.
    links: Arc<BTreeMap<String, String>>,
}

impl NameView {
    /// Adds names that the asker alone knows others by: (its name, theirs).
    pub fn with_links(mut self, links: impl IntoIterator<Item = (String, String)>) -> Self {
        self.links = Arc::new(links.into_iter().map(|(own, theirs)| (lower(&own), theirs)).collect());
        self
    }

    /// Looks a name up, `web` or `web.<network>`; the addresses take turns in being first.
    pub(super) fn addresses(&self, name: &str) -> Found<Vec<IpAddr>> {
        let name = lower(name.trim_end_matches('.'));
        let name = self.links.get(&name).map_or(name, |theirs| lower(theirs));
        self.table.refresh(&self.networks);
        let networks = self.table.networks.read().unwrap_or_else(PoisonError::into_inner);
        for network in self.networks.iter() {
            let bare = name.strip_suffix(&lower(network)).and_then(|rest| rest.strip_suffix('.'));
            let known = networks.get(network).into_iter().flatten();
            let mut called: Vec<&Known> = known
                .filter(|known| known.called.iter().any(|called| *called == name || Some(called.as_str()) == bare))
                .filter(|known| known.entry.is_held())
                .collect();
            if !called.is_empty() {
                let turn = self.table.turn.fetch_add(1, Ordering::Relaxed) % called.len();
                called.rotate_left(turn);
                return Found::Here(called.iter().flat_map(|known| known.entry.addresses.iter().copied()).collect());
            }
        }
        let all = || networks.values().flatten();
        // Nobody outside has names below `project_network`: a stopped container's full name is not to be asked for there.
        let below = |network: &String| network.contains('_') && name.ends_with(&format!(".{}", lower(network)));
        if self.networks.iter().any(below) || all().any(|known| known.called.contains(&name) && known.entry.is_held()) {
            Found::Elsewhere
        } else {
            Found::Nowhere
        }
    }

    /// Says who has an address: `<container>.<network>`.
    pub(super) fn name_of(&self, address: IpAddr) -> Found<String> {
        self.table.refresh(&self.networks);
        let networks = self.table.networks.read().unwrap_or_else(PoisonError::into_inner);
        let has = |entry: &&NameEntry| entry.addresses.contains(&address) && entry.is_held();
        let mut known = networks.values().flatten().map(|known| &known.entry).filter(has);
        match known.clone().find(|entry| self.networks.contains(&entry.network)) {
            Some(entry) => Found::Here(format!("{}.{}", entry.container_name, entry.network)),
            None if known.next().is_some() => Found::Elsewhere,
            None => Found::Nowhere,
        }
    }
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::network::dns) fn entry(network: &str, name: &str, last: u8, names: &[&str]) -> NameEntry {
        NameEntry {
            network: network.to_owned(),
            container: ContainerId::generate(),
            container_name: name.to_owned(),
            addresses: vec![IpAddr::from([10, 11, 0, last])],
            names: names.iter().map(|&name| name.to_owned()).collect(),
            holder: None,
        }
    }

    fn last(address: &IpAddr) -> u8 {
        match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        }
    }

    #[test]
    fn entries_of_before_ipv6_are_read() {
        let mut written = serde_json::to_value(entry("n", "web-1", 2, &[])).unwrap();
        let fields = written.as_object_mut().unwrap();
        fields.remove("addresses");
        fields.insert("address".to_owned(), "10.11.0.2".into());
        let read: NameEntry = serde_json::from_value(written).unwrap();
        assert_eq!(read.addresses, ["10.11.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn names_are_seen_within_their_network_alone() {
        let table = NameTable::new();
        let web = entry("p_front", "p-web-1", 2, &["web", "Alias"]);
        let db = entry("p_back", "p-db-1", 3, &["db"]);
        table.insert(web.clone()).unwrap();
        table.insert(db.clone()).unwrap();
        let front = table.view(["p_front".to_owned()]);
        for name in ["web", "WEB", "alias", "p-web-1", "web.p_front", "web.", web.container.short()] {
            assert_eq!(front.addresses(name), Found::Here(web.addresses.clone()), "{name}");
        }
        assert_eq!(front.addresses("db"), Found::Elsewhere);
        assert_eq!(front.addresses("example.test"), Found::Nowhere);
        assert_eq!(front.addresses("web.p_back"), Found::Nowhere);
        assert_eq!(front.addresses("gone.p_front"), Found::Elsewhere);
        assert_eq!(front.name_of(web.addresses[0]), Found::Here("p-web-1.p_front".to_owned()));
        assert_eq!(front.name_of(db.addresses[0]), Found::Elsewhere);
        let both = table.view(["p_back".to_owned(), "p_front".to_owned()]);
        assert_eq!(both.addresses("db"), Found::Here(db.addresses.clone()));
        table.remove(&db.container);
        assert_eq!(both.addresses("db"), Found::Nowhere);
    }

    #[test]
    fn replicas_take_turns_and_a_restart_replaces() {
        let table = NameTable::new();
        let mut first = entry("n", "web-1", 2, &["web"]);
        table.insert(first.clone()).unwrap();
        table.insert(entry("n", "web-2", 3, &["web"])).unwrap();
        let view = table.view(["n".to_owned()]);
        let firsts: Vec<u8> = (0..4)
            .map(|_| match view.addresses("web") {
                Found::Here(addresses) if addresses.len() == 2 => last(&addresses[0]),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(firsts == [2, 3, 2, 3] || firsts == [3, 2, 3, 2], "{firsts:?}");
        first.addresses = vec!["10.11.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        table.insert(first.clone()).unwrap();
        assert_eq!(view.addresses("web-1"), Found::Here(first.addresses.clone()));
        table.remove_from("n", &first.container);
        assert_eq!(view.addresses("web-1"), Found::Nowhere);
    }

    fn last_octets(view: &NameView, name: &str) -> Vec<u8> {
        match view.addresses(name) {
            Found::Here(addresses) => {
                let mut octets: Vec<u8> = addresses.iter().map(last).collect();
                octets.sort_unstable();
                octets
            }
            Found::Elsewhere | Found::Nowhere => Vec::new(),
        }
    }

    #[test]
    fn tables_of_one_run_directory_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (NameTable::shared(dir.path()), NameTable::shared(dir.path()));
        let (mut web, other) = (entry("net", "a-web-1", 2, &["web"]), entry("net", "b-web-1", 3, &["web"]));
        theirs.insert(web.clone()).unwrap();
        let (us, them) = (ours.view(["net".to_owned()]), theirs.view(["net".to_owned()]));
        assert_eq!(last_octets(&us, "web"), [2], "what was there before");
        ours.insert(other.clone()).unwrap();
        assert_eq!((last_octets(&us, "web"), last_octets(&them, "web")), (vec![2, 3], vec![2, 3]));
        let first = || match us.addresses("web") {
            Found::Here(addresses) => addresses[0],
            other => panic!("{other:?}"),
        };
        assert_ne!(first(), first(), "they take turns");
        assert_eq!(us.name_of(web.addresses[0]), Found::Here("a-web-1.net".to_owned()));
        assert_eq!(ours.view(["mine".to_owned()]).addresses("web"), Found::Elsewhere);
        web.addresses = vec!["10.11.0.9".parse().unwrap()];
        theirs.insert(web.clone()).unwrap();
        assert_eq!(last_octets(&us, "web"), [3, 9], "it has another address now");
        theirs.remove(&web.container);
        assert_eq!((last_octets(&us, "web"), us.addresses("a-web-1")), (vec![3], Found::Nowhere));
        // Who dies takes nothing along, and who comes later finds it.
        drop((ours, us));
        assert_eq!(last_octets(&NameTable::shared(dir.path()).view(["net".to_owned()]), "web"), [3]);
    }

    #[test]
    fn who_was_killed_is_not_answered_for() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (NameTable::shared(dir.path()), NameTable::shared(dir.path()));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let holder = ProcessIdentity::of(child.id().cast_signed()).unwrap();
        let run = NameEntry { holder, ..entry("net", "run-1", 2, &["web"]) };
        theirs.insert(run.clone()).unwrap();
        theirs.insert(entry("net", "web-1", 3, &["web"])).unwrap();
        let us = ours.view(["net".to_owned()]);
        assert_eq!(last_octets(&us, "web"), [2, 3]);
        assert_eq!(us.name_of(run.addresses[0]), Found::Here("run-1.net".to_owned()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((last_octets(&us, "web"), us.addresses("run-1")), (vec![3], Found::Nowhere));
        assert_eq!(us.name_of(run.addresses[0]), Found::Nowhere);
        let mine = NameTable::while_we_live(dir.path()).unwrap();
        mine.insert(entry("net", "mine", 4, &[])).unwrap();
        assert_eq!(last_octets(&us, "mine"), [4]);
    }

    #[test]
    fn more_changes_than_the_kernel_keeps_are_no_loss() {
        let queued = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let queued: usize = queued.trim().parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (NameTable::shared(dir.path()), NameTable::shared(dir.path()));
        let (first, second) = (entry("net", "a-1", 2, &["a"]), entry("net", "b-1", 3, &["b"]));
        theirs.insert(first.clone()).unwrap();
        let us = ours.view(["net".to_owned()]);
        assert_eq!(last_octets(&us, "a"), [2]);
        theirs.remove(&first.container);
        theirs.insert(second).unwrap();
        // Names that come and go: equal changes in a row would count as one.
        let passing = ["c", "d"].map(|name| entry("net", name, 4, &[]).container);
        for number in 0..=queued {
            let file = dir.path().join("networks/names/net").join(format!("{}.json", passing[number % 2].as_str()));
            std::fs::write(&file, "").unwrap();
            std::fs::remove_file(&file).unwrap();
        }
        assert_eq!((last_octets(&us, "a"), last_octets(&us, "b")), (vec![], vec![3]));
    }
}
