//! What `up` has to do: the containers that should be, compared with those that are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::control::protocol::{ContainerStatus, Recreate};
use super::desired::Desired;
use crate::spec::ContainerId;

/// Is what is known of a container that exists.
#[derive(Clone, Debug)]
pub struct Existing {
    /// Its state.
    pub status: ContainerStatus,
    /// What it was made from.
    pub config_hash: String,
}

/// Is what `up` does with one container.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is as it should be: start it if it does not run.
    Keep(ContainerId),
    /// It differs: this one goes and a new one takes its place.
    Replace(ContainerId, Box<Desired>),
    /// There is none yet.
    Create(Box<Desired>),
}

/// Is all that `up` has to do.
#[derive(Debug, Default, PartialEq)]
pub struct Convergence {
    /// By service, in order of number.
    pub services: BTreeMap<String, Vec<Change>>,
    /// Containers of services that have fewer now.
    pub surplus: Vec<ContainerId>,
    /// Containers of services that the file does not have.
    pub orphans: Vec<ContainerId>,
}

/// Compares. `selected` are the services that were asked for, with all they depend on.
pub fn converge(
    desired: Vec<Desired>,
    existing: &[Existing],
    recreate: Recreate,
    selected: &BTreeSet<String>,
    in_file: &BTreeSet<String>,
) -> Convergence {
    let mut result = Convergence::default();
    let mut used = BTreeSet::new();
    for wanted in desired.into_iter().filter(|wanted| selected.contains(&wanted.service)) {
        // A container that was renamed in the file is found by service and number.
        let found = existing
            .iter()
            .find(|there| there.status.service == wanted.service && there.status.number == wanted.number);
        let service = wanted.service.clone();
        let change = match found {
            None => Change::Create(Box::new(wanted)),
            Some(there) => {
                used.insert(there.status.id.clone());
                let replace = match recreate {
                    Recreate::Always => true,
                    Recreate::Never => false,
                    Recreate::Changed => there.config_hash != wanted.config_hash,
                };
                let id = there.status.id.clone();
                if replace { Change::Replace(id, Box::new(wanted)) } else { Change::Keep(id) }
            }
        };
        result.services.entry(service).or_default().push(change);
    }
    for there in existing.iter().filter(|there| !used.contains(&there.status.id)) {
        if !in_file.contains(&there.status.service) {
            result.orphans.push(there.status.id.clone());
        } else if selected.contains(&there.status.service) {
            result.surplus.push(there.status.id.clone());
        }
    }
    result
}
