//! From a bundle's config.json to everything that is needed to start its container.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Spec, User};

use super::plan::{Action, LaunchPlan};
use super::planner::{self, Bundle, Extras, refused};
use super::{
    CgroupView, Confinement, ContainerError, Prepared, SpawnRequest, StartOptions, UserNamespacePlan, from_mounts,
    from_namespaces, from_net_devices, from_process,
};
use crate::capabilities::intersect_host;
use crate::namespaces::Namespace;
use crate::namespaces::mount::Device;
use crate::namespaces::user::SetGroups;
use crate::seccomp::SpecFilter;
use crate::spec::{CapabilitySet, IdMaps};
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
    /// The filter that config.json asks for ([`crate::seccomp::compile_spec`]). With a listener, [`super::InitEvent::SeccompListener`] comes
    /// after `Start`.
    pub seccomp: Option<SpecFilter>,
    /// Changes root by moving the new one over the old (`--no-pivot`).
    pub no_pivot: bool,
    /// Makes a session keyring for the container; not with `--no-new-keyring`.
    pub new_keyring: bool,
    /// The caller may map no groups but its own: setgroups(2) is denied inside.
    pub deny_setgroups: bool,
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
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("it is no {} namespace", self.kind));
        let bits = namespace_kind(file.as_fd()).map_err(|_| error(wrong()))?;
        if bits == self.kind.bits() { Ok(file.into()) } else { Err(error(wrong())) }
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
    let linux = spec.linux().clone().unwrap_or_default();
    from_namespaces::check(spec, &linux)?;
    // Without a process it can be created, not started.
    if spec.process().is_some() {
        check_process(spec)?;
    }
    let mut warnings = Vec::new();
    let capabilities = grantable(spec, &linux, &mut warnings)?;
    let seccomp = options.seccomp.as_ref().map(|filter| filter.program.as_bytes().to_vec());
    let confinement = Confinement { capabilities: CapabilitySet::EMPTY, seccomp, devices: Vec::new() };
    let start = StartOptions {
        start_at_once: options.start_at_once,
        die_with_parent: options.die_with_parent,
        cgroups: options.cgroups.clone(),
    };
    let bundle = Bundle {
        directory: bundle,
        no_pivot: options.no_pivot,
        new_keyring: options.new_keyring,
        seccomp_flags: options.seccomp.as_ref().map_or(0, |filter| filter.flags),
        capabilities,
        makes_devices: rustix::process::geteuid().is_root(),
    };
    let extras = Extras {
        id,
        overlay: None,
        bundle: Some(bundle),
        confinement: &confinement,
        options: &start,
        deny_setgroups: options.deny_setgroups,
    };
    let plan = planner::plan(spec, &extras)?;
    let spawn = SpawnRequest {
        create: from_namespaces::created(&linux),
        join: from_namespaces::joined(&linux),
        time_offsets: from_namespaces::time_offsets(&linux)?,
        drop_groups: options.deny_setgroups,
    };
    let maps =
        IdMaps { uid: from_namespaces::maps(linux.uid_mappings()), gid: from_namespaces::maps(linux.gid_mappings()) };
    let groups = if options.deny_setgroups { SetGroups::Deny } else { SetGroups::Allow };
    let user_namespace =
        spawn.create.contains(Namespace::User).then_some(UserNamespacePlan { maps, groups, overlay: None });
    let mapped_sources = from_mounts::mapped_sources(spec, bundle.directory)?;
    let joins = from_namespaces::joins(&linux);
    let devices = placed_devices(&plan);
    let net_devices = from_net_devices::net_devices(&linux)?;
    Ok(Prepared {
        spec: spec.clone(),
        plan,
        spawn,
        joins,
        user_namespace,
        mapped_sources,
        devices,
        net_devices,
        warnings,
    })
}

/// Lists the device nodes that the parent makes.
fn placed_devices(plan: &LaunchPlan) -> Vec<Device> {
    let steps = plan.create.iter().filter_map(|step| match step {
        Action::PlaceDevice { device, .. } => Some(device.clone()),
        _ => None,
    });
    steps.collect()
}

/// Refuses a process that could not be one.
pub(super) fn check_process(spec: &Spec) -> Result<(), ContainerError> {
    let process = spec.process().as_ref().ok_or_else(|| refused("process", "it is missing"))?;
    if !process.cwd().is_absolute() {
        return Err(refused("process.cwd", format!("`{}` is not absolute", process.cwd().display())));
    }
    let texts = process.args().iter().chain(process.env()).flatten();
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(refused("process", "an argument or a variable of the environment holds a zero byte"));
    }
    check_ids(process.user())?;
    match process.args().as_deref() {
        None | Some([]) => Err(refused("process.args", "there is no program")),
        Some(_) => Ok(()),
    }
}

/// The greatest number means "no change" to the kernel (setresuid(2)): the process would stay root.
fn check_ids(user: &User) -> Result<(), ContainerError> {
    let more = user.additional_gids().iter().flatten().map(|gid| ("process.user.additionalGids", *gid));
    let all = [("process.user.uid", user.uid()), ("process.user.gid", user.gid())];
    match all.into_iter().chain(more).find(|(_, id)| *id == u32::MAX) {
        Some((key, id)) => Err(refused(key, format!("{id} is no id: they go from 0 to {}", u32::MAX - 1))),
        None => Ok(()),
    }
}

/// Says what can be given: everything in a user namespace of its own, what we have otherwise. What is asked for beyond that is
/// worth a warning (runtime specification, "Linux Process").
pub(super) fn grantable(
    spec: &Spec,
    linux: &Linux,
    warnings: &mut Vec<String>,
) -> Result<CapabilitySet, ContainerError> {
    if from_namespaces::own(linux).contains(Namespace::User) {
        return Ok(CapabilitySet::all());
    }
    let (host, _) = intersect_host(CapabilitySet::all())?;
    let asked = spec.process().as_ref().map_or(CapabilitySet::EMPTY, from_process::all_capabilities);
    let missing = asked.difference(host);
    if !missing.is_empty() {
        warnings.push(format!("process.capabilities: this host cannot give {missing}"));
    }
    Ok(host)
}
