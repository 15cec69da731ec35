use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::FirewallOptions;
use crate::spec::ContainerId;

/// What a supervisor is told when it starts. It crosses the keeper unread and is the same for every successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// The project's name.
    pub project: String,
    /// Where run state lies (`/run/mydocker`).
    pub run_dir: PathBuf,
    /// Where volumes, logs and overlays lie (`/var/lib/mydocker`).
    pub data_dir: PathBuf,
    /// The parent of our cgroups, from each hierarchy's mount root (`/mydocker`).
    pub cgroup_parent: String,
    /// How the firewall's rules are made.
    #[serde(default)]
    pub firewall: FirewallOptions,
    /// A filter for tracing, as `info` or `mydocker=debug`.
    pub log_level: String,
}

impl BootConfig {
    /// Answers whether the project is a container of its own: it has the container's id for a name, and is gone when that is.
    pub fn is_single(&self) -> bool {
        self.project.parse::<ContainerId>().is_ok()
    }
}
