//! From a request to everything that is needed to start it, without touching the kernel.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{ContainerError, LaunchPlan, SpawnRequest};
use crate::namespaces::mount::Overlay;
use crate::namespaces::user::SetGroups;
use crate::spec::{ContainerRequest, IdMaps};

/// Says where a container's own files lie on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPaths {
    /// The mountpoint of its root: an empty directory.
    pub mountpoint: PathBuf,
    /// The overlay's writable layer.
    pub upper: PathBuf,
    /// The overlay's work directory; beside `upper`, in the same parent.
    pub work: PathBuf,
    /// What becomes /etc/hosts inside, where there is one.
    pub hosts: Option<PathBuf>,
    /// What becomes /etc/hostname inside, where there is one.
    pub hostname: Option<PathBuf>,
    /// What becomes /etc/resolv.conf inside, where there is one.
    pub resolv_conf: Option<PathBuf>,
}

/// Says what the container's process may do; resolved against the host by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Capabilities as a bit mask, less what the host itself lacks.
    pub capabilities: u64,
    /// The seccomp program (`struct sock_filter` array), `None` for no filter.
    pub seccomp: Option<Vec<u8>>,
}

/// Says which cgroup file systems the container is to see at /sys/fs/cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupView {
    /// None.
    #[default]
    Hidden,
    /// The unified hierarchy.
    Unified,
    /// These v1 controllers, each in a directory of its name; the container's process joins each through a `tasks` descriptor
    /// ([`super::Role::CgroupTasks`]) in this order.
    Controllers(Vec<String>),
}

/// Says how a container is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Goes on from create to start without waiting ([`LaunchPlan::start_at_once`]).
    pub start_at_once: bool,
    /// Dies with its parent: foreground `run`.
    pub die_with_parent: bool,
    /// What it sees of the cgroups.
    pub cgroups: CgroupView,
}

/// Is everything that is needed to start a container.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The container as the OCI describes it.
    pub spec: Spec,
    /// What the new process does.
    pub plan: LaunchPlan,
    /// What clone3(2) makes.
    pub spawn: SpawnRequest,
    /// What the parent does for the user namespace, where there is one, before it sends the plan.
    pub user_namespace: Option<UserNamespacePlan>,
}

/// Is the parent's part of a user namespace: write the maps, map the layers, send those with the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserNamespacePlan {
    /// The maps.
    pub maps: IdMaps,
    /// Whether setgroups(2) works inside.
    pub groups: SetGroups,
    /// The root file system whose layers are to be mapped.
    pub overlay: Overlay,
}

impl ContainerPaths {
    /// Names the usual places below a container's directory: `root`, `layers/upper`, `layers/work` and, where `etc` says
    /// so, `hosts`, `hostname` and `resolv.conf`.
    pub fn below(directory: &Path, etc: bool) -> Self {
        let file = |name: &str| etc.then(|| directory.join(name));
        Self {
            mountpoint: directory.join("root"),
            upper: directory.join("layers/upper"),
            work: directory.join("layers/work"),
            hosts: file("hosts"),
            hostname: file("hostname"),
            resolv_conf: file("resolv.conf"),
        }
    }
}

/// Turns a request into a plan.
///
/// # Errors
/// [`ContainerError`]: one variant for each thing that can be wrong with a request.
pub fn prepare(
    request: &ContainerRequest,
    _paths: &ContainerPaths,
    _confinement: &Confinement,
    _options: &StartOptions,
) -> Result<Prepared, ContainerError> {
    Err(ContainerError::Spec { field: request.name.clone(), reason: "not yet" })
}
