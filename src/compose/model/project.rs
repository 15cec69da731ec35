use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Network, Service, Volume};

/// Is one compose project: what all its files together ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// The project's name: `[a-z0-9][a-z0-9_-]*`.
    pub name: String,
    /// The project directory, absolute; relative paths of the file were resolved against it.
    pub working_dir: PathBuf,
    /// The files it was loaded from, in merge order; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Services of the active profiles, by name.
    pub services: BTreeMap<String, Service>,
    /// Networks that some service uses, by their key in the file; `default` among them where a service names none.
    pub networks: BTreeMap<String, Network>,
    /// Named volumes, by their key in the file.
    pub volumes: BTreeMap<String, Volume>,
    /// Services left out because none of their profiles is active, each with its profiles.
    pub inactive: BTreeMap<String, Vec<String>>,
}

impl Project {
    /// Returns the services that each service needs (`depends_on`).
    pub fn dependencies(&self) -> BTreeMap<String, BTreeSet<String>> {
        let needs = |service: &Service| service.depends_on.keys().cloned().collect();
        self.services.values().map(|service| (service.name.clone(), needs(service))).collect()
    }

    /// Returns the services that are to be restarted when these are: those that say so in `depends_on`, and those that
    /// say so of them.
    pub fn restarted_with<'a>(&'a self, services: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let mut open: Vec<&str> = services.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(changed) = open.pop() {
            for service in self.services.values() {
                let restarts = service.depends_on.get(changed).is_some_and(|dependency| dependency.restart);
                if restarts && found.insert(service.name.clone()) {
                    open.push(&service.name);
                }
            }
        }
        found
    }
}

/// Hashes the JSON form of a value: 64 hexadecimal digits, the same for equal values.
pub(super) fn hash_of(value: &impl Serialize) -> String {
    // serde_json keeps struct order and every map in the model is a BTreeMap, so equal values give equal text.
    let text = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
}
