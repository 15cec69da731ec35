//! From `linux.namespaces` and what depends on them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};

use super::ContainerError;
use super::bundle::Join;
use super::checks::sysctl_path;
use super::planner::refused;
use crate::namespaces::{Namespace, NamespaceSet};
use crate::spec::IdMap;

/// Returns the namespaces that are made new: those without a path.
pub(super) fn created(linux: &Linux) -> NamespaceSet {
    kinds(linux, false).into_iter().collect()
}

/// Returns the namespaces that are joined, the user namespace first.
pub(super) fn joined(linux: &Linux) -> Vec<Namespace> {
    kinds(linux, true)
}

/// Returns every namespace that is named, made new or joined.
pub(super) fn own(linux: &Linux) -> NamespaceSet {
    joined(linux).into_iter().fold(created(linux), NamespaceSet::with)
}

fn kinds(linux: &Linux, joined: bool) -> Vec<Namespace> {
    let list = linux.namespaces().iter().flatten();
    let named = list.filter(|namespace| has_path(namespace.path().as_deref()) == joined);
    let mut kinds: Vec<_> = named.map(|namespace| kind_of(namespace.typ())).collect();
    kinds.sort();
    kinds
}

fn has_path(path: Option<&Path>) -> bool {
    path.is_some_and(|path| !path.as_os_str().is_empty())
}

fn kind_of(kind: LinuxNamespaceType) -> Namespace {
    match kind {
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Time => Namespace::Time,
    }
}

/// Lists what is joined, in the order of [`super::SpawnRequest::join`].
pub(super) fn joins(linux: &Linux) -> Vec<Join> {
    let named = linux.namespaces().iter().flatten();
    let mut joins: Vec<_> = named
        .filter_map(|namespace| {
            let path = namespace.path().clone().filter(|path| has_path(Some(path)))?;
            Some(Join { kind: kind_of(namespace.typ()), path })
        })
        .collect();
    joins.sort_by_key(|join| join.kind);
    joins
}

/// Returns id maps as uid_map has them.
pub(super) fn maps(list: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let map = |one: &LinuxIdMapping| IdMap { inside: one.container_id(), outside: one.host_id(), count: one.size() };
    list.iter().flatten().map(map).collect()
}

/// Returns what is written to /proc/self/timens_offsets (time_namespaces(7)).
pub(super) fn time_offsets(linux: &Linux) -> Result<Option<String>, ContainerError> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else { return Ok(None) };
    if !created(linux).contains(Namespace::Time) {
        return Err(refused("linux.timeOffsets", "the container has no new time namespace"));
    }
    let mut lines: Vec<_> = Vec::new();
    for (clock, offset) in offsets {
        if clock != "monotonic" && clock != "boottime" {
            return Err(refused(&format!("linux.timeOffsets.{clock}"), "the clocks are `monotonic` and `boottime`"));
        }
        lines.push(format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)));
    }
    lines.sort();
    Ok(Some(lines.concat()))
}

/// Refuses what does not fit the namespaces.
pub(super) fn check(spec: &Spec, linux: &Linux) -> Result<(), ContainerError> {
    let named = linux.namespaces().iter().flatten();
    let mut seen = NamespaceSet::default();
    for namespace in named {
        let kind = kind_of(namespace.typ());
        if seen.contains(kind) {
            return Err(refused("linux.namespaces", format!("`{}` is named twice", namespace.typ())));
        }
        if has_path(namespace.path().as_deref()) && !namespace.path().as_ref().is_some_and(|path| path.is_absolute()) {
            return Err(refused("linux.namespaces", format!("the path of `{}` is not absolute", namespace.typ())));
        }
        seen = seen.with(kind);
    }
    if !seen.contains(Namespace::Mount) && seen.contains(Namespace::User) {
        let reason = "in a user namespace nobody may mount for the host: add `{\"type\": \"mount\"}`";
        return Err(refused("linux.namespaces", reason));
    }
    check_user(linux)?;
    for (key, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if name.as_ref().is_some_and(|name| !name.is_empty()) && !seen.contains(Namespace::Uts) {
            return Err(refused(key, "the container has no uts namespace of its own, so this would be the host's"));
        }
    }
    linux.sysctl().iter().flatten().try_for_each(|(name, value)| check_sysctl(name, value, linux))
}

fn check_user(linux: &Linux) -> Result<(), ContainerError> {
    let (uid, gid) = (maps(linux.uid_mappings()), maps(linux.gid_mappings()));
    let is_new = created(linux).contains(Namespace::User);
    if is_new && (uid.is_empty() || gid.is_empty()) {
        return Err(refused("linux.uidMappings", "a new user namespace needs uidMappings and gidMappings"));
    }
    let has_maps = !uid.is_empty() || !gid.is_empty();
    if has_maps && !own(linux).contains(Namespace::User) {
        return Err(refused("linux.uidMappings", "the container has no user namespace to map ids in"));
    }
    Ok(())
}

/// A sysctl has to belong to a namespace of the container's own; as in runc, the host name has a key for itself.
fn check_sysctl(name: &str, value: &str, linux: &Linux) -> Result<(), ContainerError> {
    let key = format!("linux.sysctl.{name}");
    if value.contains(['\n', '\0']) {
        return Err(refused(&key, "its value holds a line end or a zero byte"));
    }
    let path = sysctl_path(name);
    let normal = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    let Some(text) = path.to_str().filter(|_| path.components().all(normal) && path.components().count() > 1) else {
        return Err(refused(&key, "it is not a name like `net.ipv4.ip_forward`"));
    };
    let needed = match text {
        "kernel/hostname" => return Err(refused(&key, "the key `hostname` of the configuration sets it")),
        "kernel/domainname" => Namespace::Uts,
        _ if text.starts_with("net/") => Namespace::Network,
        _ if text.starts_with("fs/mqueue/") || IPC.contains(&text) => Namespace::Ipc,
        _ => return Err(refused(&key, "it is the whole machine's: no namespace of the container's has it")),
    };
    if own(linux).contains(needed) && !is_hosts(needed, linux) {
        return Ok(());
    }
    Err(refused(&key, format!("the container has no {needed} namespace of its own, so this would be the host's")))
}

/// What an IPC namespace has of /proc/sys/kernel (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Says whether the namespace that is joined is the one that we are in.
pub(super) fn is_hosts(kind: Namespace, linux: &Linux) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let ours = inode(&Path::new("/proc/self/ns").join(kind.file_name()));
    joins(linux).iter().any(|join| join.kind == kind && inode(&join.path) == ours)
}
