//! From a request to everything that is needed to start it, without touching the kernel.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::process::Pid;

use super::describe::describe;
use super::planner::{self, Extras};
use super::{ContainerError, LaunchPlan, SpawnRequest, checks};
use crate::namespaces::mount::Overlay;
use crate::namespaces::user::{OwnedLayers, SetGroups, UserNamespaceError, map_layers, write_maps};
use crate::spec::{CapabilitySet, ContainerRequest, IdMaps};

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
    /// Capabilities, less what the host itself lacks.
    pub capabilities: CapabilitySet,
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

    /// Makes the directories that are missing. The upper layer takes mode and owner of `rootfs`, since the overlay shows
    /// its root with those of its upper layer.
    ///
    /// # Errors
    /// [`ContainerError::Root`] where `rootfs` is no directory; [`ContainerError::MakeDirectory`].
    pub fn create(&self, rootfs: &Path) -> Result<(), ContainerError> {
        let root = |source| ContainerError::Root { path: rootfs.to_owned(), source };
        let metadata = std::fs::metadata(rootfs).map_err(root)?;
        if !metadata.is_dir() {
            return Err(root(io::ErrorKind::NotADirectory.into()));
        }
        make_directory(&self.mountpoint)?;
        make_directory(&self.work)?;
        // The kernel's mark of an unsynced layer that was in use: it refuses to mount it again until that is gone.
        let mark = self.work.join("work");
        if !make_directory(&self.upper)? {
            return match std::fs::remove_dir_all(&mark) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(ContainerError::MakeDirectory { path: mark, source })
                }
                _ => Ok(()),
            };
        }
        let error = |source| ContainerError::MakeDirectory { path: self.upper.clone(), source };
        std::os::unix::fs::chown(&self.upper, Some(metadata.uid()), Some(metadata.gid())).map_err(error)?;
        std::fs::set_permissions(&self.upper, metadata.permissions()).map_err(error)
    }
}

/// Makes a directory and what leads to it; says whether it was missing.
fn make_directory(path: &Path) -> Result<bool, ContainerError> {
    let error = |source| ContainerError::MakeDirectory { path: path.to_owned(), source };
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path).map(|()| true).map_err(error)
        }
        Err(source) => Err(error(source)),
    }
}

/// Turns a request into a plan.
///
/// # Errors
/// [`ContainerError`]: one variant for each thing that can be wrong with a request.
pub fn prepare(
    request: &ContainerRequest,
    paths: &ContainerPaths,
    confinement: &Confinement,
    options: &StartOptions,
) -> Result<Prepared, ContainerError> {
    checks::check(request, paths)?;
    let spec = describe(request, paths, confinement)?;
    let maps = request.namespaces.user.as_ref();
    let overlay = Overlay {
        lower: vec![request.rootfs.clone()],
        upper: paths.upper.clone(),
        work: paths.work.clone(),
        mountpoint: paths.mountpoint.clone(),
        user_xattr: maps.is_some(),
        volatile: true,
    };
    let deny_setgroups = planner::denies_setgroups(&spec);
    let groups = if deny_setgroups { SetGroups::Deny } else { SetGroups::Allow };
    let extras = Extras { id: &request.id, overlay: Some(&overlay), confinement, options, deny_setgroups };
    let plan = planner::plan(&spec, &extras)?;
    let linux = spec.linux().clone().unwrap_or_default();
    let spawn = SpawnRequest { create: planner::created_namespaces(&linux), join: planner::joined_namespaces(&linux) };
    let user_namespace = maps.map(|maps| UserNamespacePlan { maps: maps.clone(), groups, overlay });
    Ok(Prepared { spec, plan, spawn, user_namespace })
}

impl UserNamespacePlan {
    /// Writes the maps of the namespace that `pid` was cloned into, and maps the layers through it. The result goes with
    /// the plan: lower, upper, after the `tasks` files.
    ///
    /// # Errors
    /// [`UserNamespaceError`], with a hint where the file system cannot be id-mapped.
    pub fn set_up(&self, pid: Pid) -> Result<OwnedLayers, UserNamespaceError> {
        write_maps(pid, &self.maps, self.groups)?;
        map_layers(pid, &self.overlay)
    }
}
