//! From the OCI's description of a container to the steps that make it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, Process, Spec};

use super::describe::{COPY_UP, DENY_GROUPS, GROUPS, INIT, SUBPATH, USER};
use super::plan::{Action, FilterProgram, LaunchPlan, ResourceLimit, Role, UserChoice};
use super::{CgroupView, Confinement, ContainerError, StartOptions};
use crate::namespaces::mount::{BindMount, Device, DeviceKind, FilesystemMount, MountAttributes, Overlay, Propagation};
use crate::namespaces::{Namespace, NamespaceSet};
use crate::spec::CapabilitySet;

/// Is what a plan is made of besides the description.
pub(super) struct Extras<'a> {
    pub(super) id: &'a str,
    /// What becomes the root; the description's own directory where there is none.
    pub(super) overlay: Option<&'a Overlay>,
    /// What relative paths of the description start from.
    pub(super) bundle: Option<&'a Path>,
    pub(super) confinement: &'a Confinement,
    pub(super) options: &'a StartOptions,
    pub(super) deny_setgroups: bool,
}

/// Makes the plan.
pub(super) fn plan(spec: &Spec, extras: &Extras<'_>) -> Result<LaunchPlan, ContainerError> {
    let process = spec.process().as_ref().ok_or(missing("process"))?;
    let linux = spec.linux().as_ref().ok_or(missing("linux"))?;
    let created = created_namespaces(linux);
    let mut create = Vec::new();
    let mut descriptors = Vec::new();
    if let CgroupView::Controllers(names) = &extras.options.cgroups
        && !names.is_empty()
    {
        create.push(Action::JoinCgroups);
        descriptors.extend(names.iter().cloned().map(Role::CgroupTasks));
    }
    if created.contains(Namespace::Cgroup) {
        create.push(Action::UnshareCgroupNamespace);
    }
    create.extend(process.oom_score_adj().map(Action::SetOomScore));
    if created.contains(Namespace::User) && extras.overlay.is_some() {
        descriptors.extend([Role::LowerLayer, Role::UpperLayer]);
    }
    root_steps(spec, linux, created, extras, &mut create)?;
    inside_steps(spec, process, linux, created, extras, &mut create)?;
    Ok(LaunchPlan {
        id: extras.id.to_owned(),
        create,
        start: start_steps(spec, process, extras)?,
        start_at_once: extras.options.start_at_once,
        descriptors,
        preserved: 0,
    })
}

/// Returns the namespaces that are made new: those without a path.
pub(super) fn created_namespaces(linux: &Linux) -> NamespaceSet {
    namespaces(linux, false).into_iter().collect()
}

/// Returns the namespaces that are joined, the user namespace first.
pub(super) fn joined_namespaces(linux: &Linux) -> Vec<Namespace> {
    namespaces(linux, true)
}

fn namespaces(linux: &Linux, joined: bool) -> Vec<Namespace> {
    let list = linux.namespaces().iter().flatten().filter(|ns| ns.path().is_some() == joined);
    let mut kinds: Vec<_> = list.filter_map(|namespace| namespace_of(namespace.typ())).collect();
    kinds.sort();
    kinds
}
/// Finds the kind of a namespace of the description.
pub(super) fn namespace_of(kind: LinuxNamespaceType) -> Option<Namespace> {
    Some(match kind {
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Time => return None,
    })
}

/// From the host's tree to the container's own, entered.
fn root_steps(
    spec: &Spec,
    linux: &Linux,
    created: NamespaceSet,
    extras: &Extras<'_>,
    steps: &mut Vec<Action>,
) -> Result<(), ContainerError> {
    let mounts: Vec<_> = spec.mounts().iter().flatten().map(parse_mount).collect::<Result<_, _>>()?;
    let binds = mounts.iter().filter_map(|mount| match mount {
        Parsed::Bind { source, below, recursive, .. } => Some((source, below, *recursive)),
        Parsed::Filesystem(_) => None,
    });
    steps.extend(binds.enumerate().map(|(number, (source, below, recursive))| Action::OpenSource {
        number,
        source: source.clone(),
        below: below.clone(),
        recursive,
    }));
    let propagation = linux.rootfs_propagation().as_deref().unwrap_or("rprivate");
    let propagation: Propagation =
        propagation.parse().map_err(|()| ContainerError::Propagation(propagation.to_owned()))?;
    // A shared root would carry our mounts to the host; what the OCI means by it holds for the binds.
    let propagation =
        if propagation == Propagation::RecursiveSlave { propagation } else { Propagation::RecursivePrivate };
    steps.push(Action::SetPropagation(propagation));
    if created.contains(Namespace::User) {
        steps.extend(extras.overlay.map(|overlay| Action::OpenMountpoint(overlay.mountpoint.clone())));
        steps.push(Action::BecomeNamespaceRoot);
    }
    match extras.overlay {
        Some(overlay) => steps.push(Action::MountOverlay(overlay.clone())),
        None => {
            let root = spec.root().as_ref().ok_or(missing("root"))?;
            let below = extras.bundle.unwrap_or(Path::new("/"));
            steps.push(Action::BindRoot { source: below.join(root.path()) });
        }
    }
    let mut number = 0;
    for mount in mounts {
        match mount {
            Parsed::Filesystem(mount) if mount.fstype == "cgroup" || mount.fstype == "cgroup2" => {
                steps.extend(cgroup_mounts(mount, &extras.options.cgroups).into_iter().map(Action::Mount));
            }
            Parsed::Filesystem(mount) => steps.push(Action::Mount(mount)),
            Parsed::Bind { mut bind, .. } => {
                bind.source = number;
                number += 1;
                steps.push(Action::Bind(bind));
            }
        }
    }
    let in_user_namespace = created.contains(Namespace::User);
    steps.extend(devices().map(|d| if in_user_namespace { Action::BindDevice(d) } else { Action::MakeDevice(d) }));
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    steps.extend(links.map(|(to, path)| Action::Symlink { points_to: to.to_owned(), path: PathBuf::from(path) }));
    if spec.process().as_ref().and_then(Process::terminal).unwrap_or(false) {
        steps.push(Action::OpenTerminal { console: true });
    }
    steps.push(Action::EnterRoot);
    Ok(())
}

/// What is done inside the new root before the process waits.
fn inside_steps(
    spec: &Spec,
    process: &Process,
    linux: &Linux,
    created: NamespaceSet,
    extras: &Extras<'_>,
    steps: &mut Vec<Action>,
) -> Result<(), ContainerError> {
    if created.contains(Namespace::Uts) {
        steps.extend(spec.hostname().clone().map(Action::SetHostname));
        steps.extend(spec.domainname().clone().map(Action::SetDomainname));
    }
    if created.contains(Namespace::Network) {
        steps.push(Action::RaiseLoopback);
    }
    let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
    sysctls.sort();
    steps.extend(sysctls.into_iter().map(|(key, value)| Action::WriteSysctl {
        key: key.clone(),
        value: value.clone(),
        optional: key == "net.ipv4.ping_group_range" || key == "net.ipv4.ip_unprivileged_port_start",
    }));
    steps.extend(linux.readonly_paths().iter().flatten().map(|path| Action::ProtectPath(PathBuf::from(path))));
    if created.contains(Namespace::Cgroup) && matches!(extras.options.cgroups, CgroupView::Controllers(_)) {
        steps.push(Action::ProtectPath(PathBuf::from("/sys/fs/cgroup")));
    }
    steps.extend(linux.masked_paths().iter().flatten().map(|path| Action::MaskPath(PathBuf::from(path))));
    steps.push(Action::OpenDirectory { path: process.cwd().clone(), make: true });
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        steps.push(Action::ProtectRoot);
    }
    steps.push(Action::SetUmask(process.user().umask().unwrap_or(0o022)));
    steps.push(Action::ResolveUser(user_choice(spec, process, extras.deny_setgroups)));
    steps.extend(limits(process)?.into_iter().map(Action::SetLimit));
    Ok(())
}

/// The last steps: after them the process is what the request allows it to be.
pub(super) fn start_steps(spec: &Spec, process: &Process, extras: &Extras<'_>) -> Result<Vec<Action>, ContainerError> {
    let init = note(spec, INIT) == "true";
    let bounding = capability_set(process, |set| set.bounding().clone());
    let permitted = capability_set(process, |set| set.permitted().clone());
    let mut steps = vec![Action::LimitBounding(bounding)];
    if !init {
        steps.push(Action::StartSession);
    }
    let identity = [Action::SetIdentity, Action::EnterDirectory, Action::SetCapabilities(permitted)];
    let filter = extras.confinement.seccomp.clone().map(|bytes| Action::InstallSeccomp(FilterProgram(bytes)));
    let die = extras.options.die_with_parent.then_some(Action::DieWithParent);
    if process.no_new_privileges().unwrap_or(false) {
        steps.extend(identity);
        steps.extend(die);
        steps.push(Action::ForbidNewPrivileges);
        steps.extend(filter);
    } else {
        steps.extend(filter);
        steps.extend(identity);
        steps.extend(die);
    }
    let args = process.args().clone().filter(|args| !args.is_empty()).ok_or(ContainerError::NoCommand)?;
    steps.push(Action::Execute { args, env: process.env().clone().unwrap_or_default(), init });
    Ok(steps)
}

/// Says whether the container has a user namespace of its own.
pub(super) fn has_user_namespace(spec: &Spec) -> bool {
    spec.linux().as_ref().is_some_and(|linux| created_namespaces(linux).contains(Namespace::User))
}

/// Says whether setgroups(2) is denied inside.
pub(super) fn denies_setgroups(spec: &Spec) -> bool {
    has_user_namespace(spec) && note(spec, DENY_GROUPS) == "true"
}

pub(super) fn note<'a>(spec: &'a Spec, key: &str) -> &'a str {
    spec.annotations().as_ref().and_then(|notes| notes.get(key)).map_or("", String::as_str)
}

/// Returns the user as written where we wrote it, the OCI's numbers otherwise.
pub(super) fn user_choice(spec: &Spec, process: &Process, keep_groups: bool) -> UserChoice {
    let split = |text: &str| text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    if spec.annotations().as_ref().is_some_and(|notes| notes.contains_key(USER)) {
        return UserChoice { user: note(spec, USER).to_owned(), groups: split(note(spec, GROUPS)), keep_groups };
    }
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().map(u32::to_string).collect();
    UserChoice { user: format!("{}:{}", user.uid(), user.gid()), groups, keep_groups }
}

pub(super) fn limits(process: &Process) -> Result<Vec<ResourceLimit>, ContainerError> {
    let list = process.rlimits().iter().flatten();
    list.map(|limit| {
        let name = serde_json::to_value(limit.typ()).ok().and_then(|value| value.as_str().map(str::to_owned));
        let name = name.as_deref().and_then(|name| name.strip_prefix("RLIMIT_")).map(str::to_ascii_lowercase);
        let name = name.ok_or(missing("process.rlimits.type"))?;
        Ok(ResourceLimit { name, soft: limit.soft(), hard: limit.hard() })
    })
    .collect()
}

fn capability_set(
    process: &Process,
    pick: impl Fn(&oci_spec::runtime::LinuxCapabilities) -> Option<oci_spec::runtime::Capabilities>,
) -> CapabilitySet {
    let Some(set) = process.capabilities().as_ref().and_then(pick) else { return CapabilitySet::EMPTY };
    let names: Vec<String> = set
        .iter()
        .filter_map(|one| serde_json::to_value(one).ok().and_then(|value| value.as_str().map(str::to_owned)))
        .collect();
    CapabilitySet::try_from(names).unwrap_or(CapabilitySet::EMPTY)
}

enum Parsed {
    Bind { source: PathBuf, below: Option<PathBuf>, recursive: bool, bind: BindMount },
    Filesystem(FilesystemMount),
}

/// Splits fstab options into flags of the mount, propagation, and options of the file system.
fn parse_mount(mount: &Mount) -> Result<Parsed, ContainerError> {
    let mut attributes = MountAttributes::default();
    let mut propagation = Propagation::default();
    let (mut bind, mut recursive, mut copy_up) = (mount.typ().as_deref() == Some("bind"), false, false);
    let (mut below, mut rest) = (None, Vec::new());
    for option in mount.options().iter().flatten() {
        if attributes.take(option) {
            continue;
        }
        match (option.as_str(), option.parse()) {
            (_, Ok(parsed)) => propagation = parsed,
            ("bind", _) => bind = true,
            ("rbind", _) => (bind, recursive) = (true, true),
            (COPY_UP, _) => copy_up = true,
            (text, _) if text.starts_with(SUBPATH) => below = text.strip_prefix(SUBPATH).map(PathBuf::from),
            ("defaults", _) => {}
            (text, _) => rest.push(match text.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (text.to_owned(), None),
            }),
        }
    }
    let target = mount.destination().clone();
    if bind {
        let source = mount.source().clone().ok_or(missing("mounts.source"))?;
        let bind = BindMount { source: 0, target, attributes, propagation, copy_up };
        return Ok(Parsed::Bind { source, below, recursive, bind });
    }
    let fstype = mount.typ().clone().ok_or(missing("mounts.type"))?;
    let source = mount.source().as_ref().map_or(fstype.clone(), |path| path.to_string_lossy().into_owned());
    let plain_target = ["/proc", "/sys", "/dev"].iter().any(|own| target.starts_with(own));
    Ok(Parsed::Filesystem(FilesystemMount { fstype, source, target, options: rest, attributes, plain_target }))
}

/// Puts the hierarchies that the container has a cgroup in where the description says `cgroup`.
fn cgroup_mounts(asked: FilesystemMount, view: &CgroupView) -> Vec<FilesystemMount> {
    match view {
        CgroupView::Hidden => Vec::new(),
        CgroupView::Unified => vec![FilesystemMount { fstype: "cgroup2".to_owned(), ..asked }],
        CgroupView::Controllers(names) => {
            let directory = FilesystemMount {
                fstype: "tmpfs".to_owned(),
                source: "tmpfs".to_owned(),
                options: vec![("mode".to_owned(), Some("755".to_owned()))],
                attributes: MountAttributes { read_only: false, ..asked.attributes },
                ..asked.clone()
            };
            let controller = |name: &String| FilesystemMount {
                fstype: "cgroup".to_owned(),
                target: asked.target.join(name),
                options: vec![(name.clone(), None)],
                ..asked.clone()
            };
            std::iter::once(directory).chain(names.iter().map(controller)).collect()
        }
    }
}

/// The six that every program may expect.
fn devices() -> impl Iterator<Item = Device> {
    let six = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("random", 1, 8), ("urandom", 1, 9)];
    six.into_iter().map(|(name, major, minor)| Device {
        path: Path::new("/dev").join(name),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

fn missing(field: &str) -> ContainerError {
    ContainerError::Spec { field: field.to_owned(), reason: "it is missing or not understood" }
}
