//! From the OCI's description of a container to the steps that make it. This file holds their order; what each part of the
//! description says is read by `from_mounts`, `from_devices`, `from_namespaces` and `from_process`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Linux, Process, Spec};

use super::describe::{DENY_GROUPS, GROUPS, USER};
use super::from_devices::Maker;
use super::from_mounts::{MountSteps, mount_steps};
use super::plan::{Action, HookCall, LaunchPlan, Role, SecurityLabel, UserChoice};
use super::{CgroupView, Confinement, ContainerError, StartOptions};
use super::{from_devices, from_namespaces, from_process, labels};
use crate::namespaces::Namespace;
use crate::namespaces::mount::{Overlay, Propagation};
use crate::spec::CapabilitySet;

/// Is what a plan is made of besides the description.
pub(super) struct Extras<'a> {
    pub(super) id: &'a str,
    /// What becomes the root; the description's own directory where there is none.
    pub(super) overlay: Option<&'a Overlay>,
    /// The bundle, where the description is somebody else's.
    pub(super) bundle: Option<Bundle<'a>>,
    pub(super) confinement: &'a Confinement,
    pub(super) options: &'a StartOptions,
    pub(super) deny_setgroups: bool,
}

/// Is what holds for a bundle alone.
#[derive(Clone, Copy)]
pub(super) struct Bundle<'a> {
    /// What relative paths of the description start from.
    pub(super) directory: &'a Path,
    /// Changes root without pivot_root(2).
    pub(super) no_pivot: bool,
    /// Makes a session keyring.
    pub(super) new_keyring: bool,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(super) seccomp_flags: u64,
    /// What can be given.
    pub(super) capabilities: CapabilitySet,
    /// The parent may make device nodes for a user namespace.
    pub(super) makes_devices: bool,
}

/// Makes the plan.
pub(super) fn plan(spec: &Spec, extras: &Extras<'_>) -> Result<LaunchPlan, ContainerError> {
    let unprivileged = Process::default();
    let process = spec.process().as_ref();
    let linux = spec.linux().clone().unwrap_or_default();
    let created = from_namespaces::created(&linux);
    let (mut create, mut descriptors) = (Vec::new(), Vec::new());
    if let CgroupView::Controllers(names) | CgroupView::Directories { joined: names, .. } = &extras.options.cgroups
        && !names.is_empty()
    {
        create.push(Action::JoinCgroups);
        descriptors.extend(names.iter().cloned().map(Role::CgroupTasks));
    }
    if created.contains(Namespace::Cgroup) {
        create.push(Action::UnshareCgroupNamespace);
    }
    create.extend(process.and_then(Process::oom_score_adj).map(Action::SetOomScore));
    if extras.bundle.is_some_and(|bundle| bundle.new_keyring) {
        let label = process.and_then(labels::key_label);
        create.extend(label.clone().map(|label| Action::SetLabel(SecurityLabel::SelinuxKeys(label))));
        create.push(Action::JoinKeyring(format!("_ses.{}", extras.id)));
        create.extend(label.map(|_| Action::SetLabel(SecurityLabel::SelinuxKeys(String::new()))));
    }
    if created.contains(Namespace::User) && extras.overlay.is_some() {
        descriptors.extend([Role::LowerLayer, Role::UpperLayer]);
    }
    let mut mounts = mount_steps(spec, extras)?;
    descriptors.append(&mut mounts.descriptors);
    let late = std::mem::take(&mut mounts.late);
    root_steps(spec, &linux, extras, mounts, &mut create)?;
    descriptors.extend(create.iter().filter_map(|step| match step {
        Action::PlaceDevice { number, .. } => Some(Role::Device(*number)),
        _ => None,
    }));
    inside_steps(spec, process.unwrap_or(&unprivileged), &linux, extras, late, &mut create)?;
    // A description without a process can be created, not started.
    let mut start = process.map_or(Ok(Vec::new()), |process| from_process::start_steps(spec, process, extras))?;
    install_asking_filter(&mut create, &mut start);
    Ok(LaunchPlan {
        id: extras.id.to_owned(),
        create,
        start,
        start_at_once: extras.options.start_at_once,
        descriptors,
        preserved: 0,
    })
}

/// Who answers for a filter gets its listener while the container is created, as with other runtimes: agents get ready before `start`.
/// The process has its privileges still: the kernel does not ask for no_new_privs.
fn install_asking_filter(create: &mut Vec<Action>, start: &mut Vec<Action>) {
    const LISTENS: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let asks = |action: &Action| matches!(action, Action::InstallSeccompWith { flags, .. } if flags & LISTENS != 0);
    if let Some(at) = start.iter().position(asks) {
        create.push(start.remove(at));
    }
}

/// From the host's tree to the container's own, entered.
fn root_steps(
    spec: &Spec,
    linux: &Linux,
    extras: &Extras<'_>,
    mounts: MountSteps,
    steps: &mut Vec<Action>,
) -> Result<(), ContainerError> {
    steps.extend(mounts.sources);
    let propagation = root_propagation(linux)?;
    // A shared root would carry our mounts to the host; what the OCI means by it holds for the binds and for the root itself.
    let slave = matches!(propagation, Propagation::Slave | Propagation::RecursiveSlave);
    // Without a mount namespace of its own, the mounts are the host's.
    let hosts_mounts = needs_host_mounts(spec);
    if !hosts_mounts {
        let private = if slave { Propagation::RecursiveSlave } else { Propagation::RecursivePrivate };
        steps.push(Action::SetPropagation(private));
    }
    let bind = match extras.overlay {
        Some(_) => None,
        None => Some(Action::BindRoot { source: root_directory(spec, extras)? }),
    };
    let in_user_namespace = from_namespaces::own(linux).contains(Namespace::User);
    if in_user_namespace {
        steps.extend(extras.overlay.map(|overlay| Action::OpenMountpoint(overlay.mountpoint.clone())));
        steps.extend(bind.clone());
        steps.push(Action::BecomeNamespaceRoot { keep_groups: extras.bundle.is_some() && keeps_groups(spec) });
    } else {
        steps.extend(bind);
    }
    if hosts_mounts {
        steps.push(Action::SetRootPropagation(Propagation::RecursivePrivate));
    }
    steps.extend(extras.overlay.map(|overlay| Action::MountOverlay(overlay.clone())));
    steps.extend(mounts.mounts);
    if mounts.own_dev {
        let maker = match extras.bundle {
            _ if !in_user_namespace => Maker::Itself,
            Some(bundle) if bundle.makes_devices => Maker::Parent,
            _ => Maker::Nobody,
        };
        steps.extend(from_devices::device_steps(linux, maker)?);
    }
    let process = spec.process().as_ref();
    if process.and_then(Process::terminal).unwrap_or(false) {
        let size = process.and_then(Process::console_size).and_then(from_process::console_size);
        steps.push(Action::OpenTerminal { console: true, size });
    }
    steps.extend(hook_steps(spec, extras)?);
    let move_root = extras.bundle.is_some_and(|bundle| bundle.no_pivot);
    steps.push(match hosts_mounts {
        true => Action::ChangeRoot,
        false if move_root => Action::EnterRootByMove,
        false => Action::EnterRoot,
    });
    let own = matches!(propagation, Propagation::Private | Propagation::RecursivePrivate) || slave;
    steps.extend((!own).then_some(Action::SetRootPropagation(propagation)));
    Ok(())
}

fn root_propagation(linux: &Linux) -> Result<Propagation, ContainerError> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(Propagation::RecursivePrivate),
        Some(text) => text.parse().map_err(|()| ContainerError::Propagation(text.to_owned())),
    }
}

fn root_directory(spec: &Spec, extras: &Extras<'_>) -> Result<PathBuf, ContainerError> {
    let root = spec.root().as_ref().ok_or_else(|| refused("root", "it is missing"))?;
    Ok(extras.bundle.map_or_else(|| root.path().clone(), |bundle| bundle.directory.join(root.path())))
}

/// The hooks between the namespaces and the new root: the runtime's, for which we wait, and the container's.
fn hook_steps(spec: &Spec, extras: &Extras<'_>) -> Result<Vec<Action>, ContainerError> {
    let (Some(hooks), Some(bundle)) = (spec.hooks(), extras.bundle) else { return Ok(Vec::new()) };
    let mut steps = Vec::new();
    let runtime = [hooks.prestart(), hooks.create_runtime()];
    if runtime.iter().any(|list| list.as_ref().is_some_and(|list| !list.is_empty())) {
        steps.push(Action::AwaitHooks);
    }
    for hook in hooks.create_container().iter().flatten() {
        let mut call = hook_call("createContainer", hook, spec, extras)?;
        call.directory = Some(bundle.directory.to_owned());
        steps.push(Action::RunHook(call));
    }
    Ok(steps)
}

/// Describes a call of one of the hooks that the new process runs itself.
pub(super) fn hook_call(kind: &str, hook: &Hook, spec: &Spec, extras: &Extras<'_>) -> Result<HookCall, ContainerError> {
    let key = || format!("hooks.{kind}");
    if !hook.path().is_absolute() {
        return Err(refused(&format!("{}.path", key()), "it is not absolute"));
    }
    let timeout = match hook.timeout() {
        Some(seconds) if seconds <= 0 => {
            return Err(refused(&format!("{}.timeout", key()), "it is not greater than zero"));
        }
        seconds => seconds.and_then(|seconds| u64::try_from(seconds).ok()),
    };
    // Its environment stands, its program does not run (runtime specification, "State").
    let mut state = serde_json::json!({ "ociVersion": spec.version(), "id": extras.id, "status": "created" });
    state["bundle"] = extras.bundle.map_or("".into(), |bundle| bundle.directory.to_string_lossy().into());
    if let Some(notes) = spec.annotations() {
        let notes = notes.iter().map(|(name, value)| (name.clone(), serde_json::Value::from(value.as_str())));
        state["annotations"] = serde_json::Value::Object(notes.collect());
    }
    Ok(HookCall {
        kind: kind.to_owned(),
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone(),
        timeout,
        directory: None,
        state: state.to_string(),
    })
}

/// What is done inside the new root before the process waits.
fn inside_steps(
    spec: &Spec,
    process: &Process,
    linux: &Linux,
    extras: &Extras<'_>,
    late: Vec<Action>,
    steps: &mut Vec<Action>,
) -> Result<(), ContainerError> {
    let own = from_namespaces::own(linux);
    if own.contains(Namespace::Uts) {
        steps.extend(spec.hostname().clone().filter(|name| !name.is_empty()).map(Action::SetHostname));
        steps.extend(spec.domainname().clone().filter(|name| !name.is_empty()).map(Action::SetDomainname));
    }
    if from_namespaces::created(linux).contains(Namespace::Network) {
        steps.push(Action::RaiseLoopback);
    }
    let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
    sysctls.sort();
    steps.extend(sysctls.into_iter().map(|(key, value)| Action::WriteSysctl {
        key: key.clone(),
        value: value.clone(),
        optional: extras.bundle.is_none()
            && (key == "net.ipv4.ping_group_range" || key == "net.ipv4.ip_unprivileged_port_start"),
    }));
    steps.extend(linux.readonly_paths().iter().flatten().map(|path| Action::ProtectPath(PathBuf::from(path))));
    steps.extend(late);
    steps.extend(linux.masked_paths().iter().flatten().map(|path| Action::MaskPath(PathBuf::from(path))));
    steps.push(Action::OpenDirectory { path: process.cwd().clone(), make: true });
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        steps.push(Action::ProtectRoot);
    }
    if let (Some(_), Some(process)) = (extras.bundle, spec.process()) {
        steps.push(from_process::find_program(process)?);
    }
    steps.push(Action::SetUmask(process.user().umask().unwrap_or(0o022)));
    steps.push(Action::ResolveUser(match extras.bundle {
        Some(_) => numeric_user(process, extras.deny_setgroups || keeps_groups(spec)),
        None => requested_user(spec, extras.deny_setgroups),
    }));
    steps.extend(from_process::limits(process)?.into_iter().map(Action::SetLimit));
    steps.extend(from_process::scheduling_steps(process, linux)?);
    steps.extend(labels::program_steps(process)?);
    Ok(())
}

/// Says whether the container's mounts are the host's, for want of a mount namespace.
pub fn needs_host_mounts(spec: &Spec) -> bool {
    !spec.linux().as_ref().is_some_and(|linux| from_namespaces::own(linux).contains(Namespace::Mount))
}

/// Says whether the container has a user namespace of its own.
pub(super) fn has_user_namespace(spec: &Spec) -> bool {
    spec.linux().as_ref().is_some_and(|linux| from_namespaces::own(linux).contains(Namespace::User))
}

/// Says whether a bundle's process keeps the supplementary groups of its creator: podman's `--group-add keep-groups`, by crun's name.
pub(super) fn keeps_groups(spec: &Spec) -> bool {
    matches!(note(spec, "run.oci.keep_original_groups"), "1" | "true")
}

/// Says whether setgroups(2) is denied inside.
pub(super) fn denies_setgroups(spec: &Spec) -> bool {
    has_user_namespace(spec) && note(spec, DENY_GROUPS) == "true"
}

pub(super) fn note<'a>(spec: &'a Spec, key: &str) -> &'a str {
    spec.annotations().as_ref().and_then(|notes| notes.get(key)).map_or("", String::as_str)
}

/// Returns the user of a request, as it is written there.
pub(super) fn requested_user(spec: &Spec, keep_groups: bool) -> UserChoice {
    let groups = note(spec, GROUPS).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    UserChoice { user: note(spec, USER).to_owned(), groups, keep_groups, numeric: false }
}

/// Returns the user of a bundle: the OCI's numbers. An annotation there may be anybody's, and says nothing about a user.
pub(super) fn numeric_user(process: &Process, keep_groups: bool) -> UserChoice {
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().map(u32::to_string).collect();
    UserChoice { user: format!("{}:{}", user.uid(), user.gid()), groups, keep_groups, numeric: true }
}

/// Says that a key of config.json cannot be carried out.
pub(super) fn refused(field: &str, reason: impl Into<String>) -> ContainerError {
    ContainerError::Spec { field: field.to_owned(), reason: reason.into() }
}
