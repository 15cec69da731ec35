//! `ps --filter`.

use crate::cli::args::{UsageError, shown};
use crate::cli::table::{health_word, state_word};
use crate::supervisor::control::protocol::ContainerStatus;

const KNOWN: &str = "known are id, name, label, status, exited, health, network and ancestor";

/// Is what has to hold of a container: of several with one key one is enough, as Docker has it; of labels all have to.
#[derive(Debug)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads `KEY=VALUE`.
    pub(super) fn of(list: &[String]) -> Result<Self, UsageError> {
        let mut filters = Vec::new();
        for text in list {
            let bad = || UsageError::new(format!("`--filter {}` is not KEY=VALUE", shown(text))).hint(KNOWN);
            let (key, value) = text.split_once('=').ok_or_else(bad)?;
            if !["id", "name", "label", "status", "exited", "health", "network", "ancestor"].contains(&key) {
                return Err(UsageError::new(format!("there is no filter `{}`", shown(key))).hint(KNOWN));
            }
            filters.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(filters))
    }

    /// Says whether somebody asks for containers by their state: those that ended are listed then, too.
    pub(super) fn name_states(&self) -> bool {
        self.0.iter().any(|(key, _)| key == "status" || key == "exited")
    }

    pub(super) fn hold(&self, container: &ContainerStatus) -> bool {
        self.0.iter().all(|(key, value)| match key.as_str() {
            "label" => holds(container, key, value),
            _ => self.0.iter().any(|(other, value)| other == key && holds(container, key, value)),
        })
    }
}

fn holds(container: &ContainerStatus, key: &str, value: &str) -> bool {
    match key {
        "id" => container.id.as_str().starts_with(value),
        "name" => container.name.contains(value.strip_prefix('/').unwrap_or(value)),
        "status" => state_word(container.state) == value,
        "exited" => {
            container.exit.and_then(crate::spec::ExitStatus::code).is_some_and(|code| code.to_string() == value)
        }
        "health" => match health_word(container.health) {
            "" => value == "none",
            word => word == value,
        },
        "network" => container.addresses.contains_key(value),
        "ancestor" => container.image == value,
        _ => match value.split_once('=') {
            Some((label, value)) => container.labels.get(label).is_some_and(|found| found == value),
            None => container.labels.contains_key(value),
        },
    }
}
