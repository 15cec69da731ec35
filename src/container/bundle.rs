//! From a bundle's config.json to everything that is needed to start its container.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, Spec};

use super::planner::{self, Extras};
use super::{CgroupView, Confinement, ContainerError, Prepared, SpawnRequest, StartOptions, UserNamespacePlan};
use crate::namespaces::Namespace;
use crate::namespaces::user::SetGroups;
use crate::spec::{CapabilitySet, IdMap, IdMaps};
use crate::sys::namespace_kind;

/// Says how a bundle's container is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleOptions {
    /// Goes on from create to start without waiting ([`super::LaunchPlan::start_at_once`]).
    pub start_at_once: bool,
    /// Dies with its parent.
    pub die_with_parent: bool,
    /// What the mounts of type `cgroup` show.
    pub cgroups: CgroupView,
    /// The seccomp program (`struct sock_filter` array) that config.json asks for.
    pub seccomp: Option<Vec<u8>>,
}

/// Is a namespace that the container joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its kind.
    pub kind: Namespace,
    /// The file that holds it.
    pub path: PathBuf,
}

impl Join {
    /// Opens the namespace.
    ///
    /// # Errors
    /// [`ContainerError::Namespace`], also where the file is of another kind.
    pub fn open(&self) -> Result<OwnedFd, ContainerError> {
        let error = |source| ContainerError::Namespace { kind: self.kind, path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(error)?;
        let bits = namespace_kind(file.as_fd()).map_err(error)?;
        if bits != self.kind.bits() {
            let text = format!("it is no {} namespace", self.kind);
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        Ok(file.into())
    }
}

/// Turns the configuration of the bundle in `bundle` into a plan. The directory that `root.path` names is the container's
/// root as it is.
///
/// The caller opens [`Prepared::joins`], spawns, calls [`Prepared::set_up`] and sends the plan with the `tasks` files and what
/// that returned.
///
/// # Errors
/// [`ContainerError`], which names the key of config.json.
pub fn prepare_bundle(
    spec: &Spec,
    bundle: &Path,
    id: &str,
    options: &BundleOptions,
) -> Result<Prepared, ContainerError> {
    let confinement = Confinement { capabilities: CapabilitySet::EMPTY, seccomp: options.seccomp.clone() };
    let start = StartOptions {
        start_at_once: options.start_at_once,
        die_with_parent: options.die_with_parent,
        cgroups: options.cgroups.clone(),
    };
    let extras = Extras {
        id,
        overlay: None,
        bundle: Some(bundle),
        confinement: &confinement,
        options: &start,
        deny_setgroups: false,
    };
    let plan = planner::plan(spec, &extras)?;
    let linux = spec.linux().clone().unwrap_or_default();
    let spawn = SpawnRequest { create: planner::created_namespaces(&linux), join: planner::joined_namespaces(&linux) };
    if !spawn.namespaces().contains(Namespace::Mount) {
        let reason = "without a mount namespace its mounts would be the host's";
        return Err(ContainerError::Spec { field: "linux.namespaces".to_owned(), reason });
    }
    let user_namespace = spawn.create.contains(Namespace::User).then(|| UserNamespacePlan {
        maps: IdMaps { uid: maps(linux.uid_mappings()), gid: maps(linux.gid_mappings()) },
        groups: SetGroups::Allow,
        overlay: None,
    });
    Ok(Prepared { spec: spec.clone(), plan, spawn, joins: joins(&linux), user_namespace, warnings: Vec::new() })
}

/// Lists what is joined, in the order of [`SpawnRequest::join`].
fn joins(linux: &Linux) -> Vec<Join> {
    let paths = linux.namespaces().iter().flatten().filter_map(|namespace| {
        let kind = planner::namespace_of(namespace.typ())?;
        namespace.path().clone().map(|path| Join { kind, path })
    });
    let mut joins: Vec<_> = paths.collect();
    joins.sort_by_key(|join| join.kind);
    joins
}

fn maps(list: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let map = |one: &LinuxIdMapping| IdMap { inside: one.container_id(), outside: one.host_id(), count: one.size() };
    list.iter().flatten().map(map).collect()
}
