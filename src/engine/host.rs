use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::detacher::Detacher;
use super::error::LaunchError;
use super::launch::clear_remains;
use super::ports::ReservedPorts;
use crate::container::CgroupView;
use crate::namespaces::cgroup::{Cgroup, CgroupError, CgroupPath, Hierarchies};
use crate::network::dns::NameTable;
use crate::network::{FirewallOptions, Networks};
use crate::spec::{ContainerId, ResourceLimits};
use crate::store::Directories;

/// The cgroup of keeper, shim and supervisor, below the project's.
pub const SUPERVISION: &str = "supervision";
/// So long a cgroup without processes may take to be removed.
const LEAVING: Duration = Duration::from_millis(500);

/// Is all that containers of one host share.
#[derive(Debug)]
pub struct Host {
    /// Where our files lie.
    pub dirs: Directories,
    /// The cgroup file systems.
    pub hierarchies: Hierarchies,
    /// The networks of this run directory.
    pub networks: Networks,
    /// Who is called what on which network.
    pub names: Arc<NameTable>,
    /// Ports of the host that are held for containers about to start.
    pub ports: ReservedPorts,
    /// Takes containers off them.
    pub detacher: Detacher,
    /// Whose servers answer names that are not ours.
    pub resolv_conf: PathBuf,
}

impl Host {
    /// Finds out what the host has.
    ///
    /// # Errors
    /// [`LaunchError`]: no cgroups, a run directory that cannot be used.
    pub fn open(dirs: Directories, firewall: FirewallOptions) -> Result<Self, LaunchError> {
        let networks = Networks::open(dirs.run())?.with_data_directory(dirs.data()).with_firewall(firewall);
        Ok(Self {
            hierarchies: Hierarchies::discover()?,
            networks,
            names: NameTable::shared(dirs.run()),
            ports: ReservedPorts::default(),
            detacher: Detacher::default(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            dirs,
        })
    }

    /// Makes a container's cgroup with its limits, or takes the one that is there.
    ///
    /// # Errors
    /// [`LaunchError::Cgroup`].
    pub fn create_cgroup(&self, path: &str, limits: &ResourceLimits) -> Result<Cgroup, LaunchError> {
        Ok(self.hierarchies.create(&CgroupPath::new(path)?, limits)?)
    }

    /// Opens the cgroup of a container that is there already; `None` where it has none.
    ///
    /// # Errors
    /// [`LaunchError::Cgroup`].
    pub fn open_cgroup(&self, path: &str) -> Result<Option<Cgroup>, LaunchError> {
        Ok(self.hierarchies.open(&CgroupPath::new(path)?)?)
    }

    /// Says what a container sees at /sys/fs/cgroup.
    pub fn cgroup_view(&self, cgroup: &Cgroup) -> CgroupView {
        cgroup_view(cgroup)
    }

    /// Clears what no record knows of: containers of this project that were killed between their making and their
    /// record's, found by their cgroups. The files of those in `lost` stay.
    pub async fn sweep(
        &self,
        parent: &str,
        project: &str,
        known: &BTreeSet<ContainerId>,
        lost: &BTreeSet<ContainerId>,
    ) -> Vec<LaunchError> {
        let mut errors = Vec::new();
        let Ok(path) = CgroupPath::new(&format!("{parent}/{project}")) else { return errors };
        for name in self.hierarchies.children(&path).unwrap_or_default() {
            let Ok(id) = name.parse::<ContainerId>() else { continue };
            if !known.contains(&id) {
                tracing::warn!(container = %id, "clearing a container without a record");
                errors.extend(clear_remains(self, &id, &format!("{parent}/{project}/{name}"), None).await);
                if !lost.contains(&id) {
                    errors.extend(self.dirs.remove_container(id.as_str()).map_err(LaunchError::from).err());
                }
            }
        }
        errors
    }

    /// Takes this process, and those beside it, out of the cgroup of a project that is gone, and removes that. Where they may not
    /// go elsewhere it stays.
    pub fn leave_cgroup(&self, parent: &str, project: &str) {
        let left = || -> Result<(), CgroupError> {
            let path = CgroupPath::new(&format!("{parent}/{project}/{SUPERVISION}"))?;
            let Some(cgroup) = self.hierarchies.open(&path)? else { return Ok(()) };
            self.hierarchies.move_to_root(&cgroup)?;
            cgroup.remove(LEAVING)?;
            self.hierarchies.remove_empty_parents(&path);
            Ok(())
        };
        if let Err(error) = left() {
            tracing::debug!(%error, "the cgroup of our own processes stays");
        }
    }

    /// Removes the cgroups of a project that has no containers any more.
    pub fn remove_empty_cgroups(&self, parent: &str, project: &str) {
        if let Ok(path) = CgroupPath::new(&format!("{parent}/{project}/none")) {
            self.hierarchies.remove_empty_parents(&path);
        }
    }
}

/// Says what a container with this cgroup sees at /sys/fs/cgroup.
pub(super) fn cgroup_view(cgroup: &Cgroup) -> CgroupView {
    seen_cgroups(cgroup.v1_names(), cgroup.clone_into().is_some())
}

/// Says what a container sees that has a cgroup in these hierarchies of version 1, and in version 2.
pub(super) fn seen_cgroups(controllers: Vec<String>, has_v2: bool) -> CgroupView {
    match (controllers.is_empty(), has_v2) {
        (false, _) => CgroupView::Controllers(controllers),
        (true, true) => CgroupView::Unified,
        (true, false) => CgroupView::Hidden,
    }
}
