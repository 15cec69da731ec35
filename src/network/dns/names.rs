//! Who is called what: names of one network are seen by the containers of that network alone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::spec::ContainerId;

/// Is one container's place in one network, with all it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The network's name.
    pub network: String,
    /// The container; its short id is a name too.
    pub container: ContainerId,
    /// Its name, which is also the answer to the question who has the address.
    pub container_name: String,
    /// Its address in this network.
    pub address: Ipv4Addr,
    /// The service, aliases, the host name.
    pub names: Vec<String>,
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

/// Knows the names of all containers of a project.
#[derive(Debug, Default)]
pub struct NameTable {
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
    /// Makes an empty table.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes a container's names up, in place of those it had in this network.
    pub fn insert(&self, entry: NameEntry) {
        let mut called = vec![lower(&entry.container_name), entry.container.short().to_owned()];
        called.extend(entry.names.iter().map(|name| lower(name)));
        called.sort();
        called.dedup();
        let mut networks = self.networks.write().unwrap_or_else(PoisonError::into_inner);
        let known = networks.entry(entry.network.clone()).or_default();
        known.retain(|known| known.entry.container != entry.container);
        known.push(Known { entry, called });
    }

    /// Forgets a container in all networks.
    pub fn remove(&self, container: &ContainerId) {
        self.retain(|entry| entry.container != *container);
    }

    /// Forgets a container in one network.
    pub fn remove_from(&self, network: &str, container: &ContainerId) {
        self.retain(|entry| entry.container != *container || entry.network != network);
    }

    /// Returns what a container on these networks may see; the first that knows a name answers.
    pub fn view(self: &Arc<Self>, networks: impl IntoIterator<Item = String>) -> NameView {
        NameView { table: Arc::clone(self), networks: networks.into_iter().collect(), links: Arc::default() }
    }

    fn retain(&self, keep: impl Fn(&NameEntry) -> bool) {
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
    pub(super) fn addresses(&self, name: &str) -> Found<Vec<Ipv4Addr>> {
        let name = lower(name.trim_end_matches('.'));
        let name = self.links.get(&name).map_or(name, |theirs| lower(theirs));
        let networks = self.table.networks.read().unwrap_or_else(PoisonError::into_inner);
        for network in self.networks.iter() {
            let bare = name.strip_suffix(&lower(network)).and_then(|rest| rest.strip_suffix('.'));
            let known = networks.get(network).into_iter().flatten();
            let called = known
                .filter(|known| known.called.iter().any(|called| *called == name || Some(called.as_str()) == bare));
            let mut addresses: Vec<Ipv4Addr> = called.map(|known| known.entry.address).collect();
            if !addresses.is_empty() {
                let turn = self.table.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
                addresses.rotate_left(turn);
                return Found::Here(addresses);
            }
        }
        let all = || networks.values().flatten();
        // Nobody outside has names below `project_network`: a stopped container's full name is not to be asked for there.
        let below = |network: &String| network.contains('_') && name.ends_with(&format!(".{}", lower(network)));
        if self.networks.iter().any(below) || all().any(|known| known.called.contains(&name)) {
            Found::Elsewhere
        } else {
            Found::Nowhere
        }
    }

    /// Says who has an address: `<container>.<network>`.
    pub(super) fn name_of(&self, address: Ipv4Addr) -> Found<String> {
        let networks = self.table.networks.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = networks.values().flatten().map(|known| &known.entry).filter(|entry| entry.address == address);
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
            address: Ipv4Addr::new(10, 11, 0, last),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn names_are_seen_within_their_network_alone() {
        let table = NameTable::new();
        let web = entry("p_front", "p-web-1", 2, &["web", "Alias"]);
        let db = entry("p_back", "p-db-1", 3, &["db"]);
        table.insert(web.clone());
        table.insert(db.clone());
        let front = table.view(["p_front".to_owned()]);
        for name in ["web", "WEB", "alias", "p-web-1", "web.p_front", "web.", web.container.short()] {
            assert_eq!(front.addresses(name), Found::Here(vec![web.address]), "{name}");
        }
        assert_eq!(front.addresses("db"), Found::Elsewhere);
        assert_eq!(front.addresses("example.test"), Found::Nowhere);
        assert_eq!(front.addresses("web.p_back"), Found::Nowhere);
        assert_eq!(front.addresses("gone.p_front"), Found::Elsewhere);
        assert_eq!(front.name_of(web.address), Found::Here("p-web-1.p_front".to_owned()));
        assert_eq!(front.name_of(db.address), Found::Elsewhere);
        let both = table.view(["p_back".to_owned(), "p_front".to_owned()]);
        assert_eq!(both.addresses("db"), Found::Here(vec![db.address]));
        table.remove(&db.container);
        assert_eq!(both.addresses("db"), Found::Nowhere);
    }

    #[test]
    fn replicas_take_turns_and_a_restart_replaces() {
        let table = NameTable::new();
        let mut first = entry("n", "web-1", 2, &["web"]);
        table.insert(first.clone());
        table.insert(entry("n", "web-2", 3, &["web"]));
        let view = table.view(["n".to_owned()]);
        let firsts: Vec<u8> = (0..4)
            .map(|_| match view.addresses("web") {
                Found::Here(addresses) if addresses.len() == 2 => addresses[0].octets()[3],
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(firsts == [2, 3, 2, 3] || firsts == [3, 2, 3, 2], "{firsts:?}");
        first.address = Ipv4Addr::new(10, 11, 0, 9);
        table.insert(first.clone());
        assert_eq!(view.addresses("web-1"), Found::Here(vec![first.address]));
        table.remove_from("n", &first.container);
        assert_eq!(view.addresses("web-1"), Found::Nowhere);
    }
}
