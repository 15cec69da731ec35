//! Refuses what cannot become a container, before anything is made. Everything here is pure.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{ContainerError, ContainerPaths};
use crate::namespaces::mount::Propagation;
use crate::spec::{ContainerRequest, MountKind, NamespaceRequest, NamespaceSource};

/// Checks every part of a request that a plan is made of.
pub(super) fn check(request: &ContainerRequest, paths: &ContainerPaths) -> Result<(), ContainerError> {
    if request.args.first().is_none_or(String::is_empty) {
        return Err(ContainerError::NoCommand);
    }
    check_texts(request)?;
    check_namespaces(&request.namespaces)?;
    check_paths(request, paths)?;
    check_mounts(request)?;
    check_working_directory(request.working_dir.as_deref())?;
    check_user(request.user.as_deref().unwrap_or_default())?;
    for group in &request.groups {
        check_group(group)?;
    }
    for (key, value) in &request.sysctls {
        check_sysctl(key, value, &request.namespaces)?;
    }
    for (name, limit) in &request.ulimits {
        if super::limits::number(name).is_none() {
            return Err(ContainerError::Limit { name: name.clone(), reason: "there is no such limit" });
        }
        if limit.soft > limit.hard {
            return Err(ContainerError::Limit { name: name.clone(), reason: "the soft limit is over the hard one" });
        }
    }
    Ok(())
}

fn check_texts(request: &ContainerRequest) -> Result<(), ContainerError> {
    for argument in &request.args {
        if argument.contains('\0') {
            let text = argument.replace('\0', "\\0");
            return Err(ContainerError::Text { what: "argument", text, reason: "it holds a zero byte" });
        }
    }
    for (name, value) in &request.env {
        check_variable(name, value)?;
    }
    if request.hostname.len() > 64 || request.hostname.contains(['\0', '\n', '/']) {
        let text = request.hostname.clone();
        return Err(ContainerError::Text {
            what: "host name",
            text,
            reason: "at most 64 bytes without `/` and line ends",
        });
    }
    Ok(())
}

/// The host's namespaces do not belong to a new user namespace: what they have cannot be mounted in it, and of these it is not
/// bound either.
fn check_namespaces(namespaces: &NamespaceRequest) -> Result<(), ContainerError> {
    if namespaces.user.is_none() {
        return Ok(());
    }
    let hosts = [("pid", &namespaces.pid), ("ipc", &namespaces.ipc)];
    let shared = hosts.into_iter().find(|(_, source)| **source == NamespaceSource::Host).map(|(name, _)| name);
    match shared.or((!namespaces.cgroup).then_some("cgroup")) {
        Some(namespace) => Err(ContainerError::HostNamespace { namespace }),
        None => Ok(()),
    }
}

/// Checks one entry of the environment.
pub(super) fn check_variable(name: &str, value: &str) -> Result<(), ContainerError> {
    let reason = if name.is_empty() || name.contains(['=', '\0']) {
        "a name is not empty and holds no `=`"
    } else if value.contains('\0') {
        "its value holds a zero byte"
    } else {
        return Ok(());
    };
    Err(ContainerError::Text { what: "environment variable", text: name.replace('\0', "\\0"), reason })
}

/// The plan travels as JSON.
fn check_paths(request: &ContainerRequest, paths: &ContainerPaths) -> Result<(), ContainerError> {
    let sources = request.mounts.iter().flat_map(|mount| {
        let source = match &mount.kind {
            MountKind::Bind { source, .. } | MountKind::Volume { source, .. } => Some(source),
            MountKind::Tmpfs { .. } => None,
        };
        source.into_iter().chain([&mount.target])
    });
    let own = [&request.rootfs, &paths.mountpoint, &paths.upper, &paths.work];
    let etc = [&paths.hosts, &paths.hostname, &paths.resolv_conf].into_iter().flatten();
    match sources.chain(own).chain(etc).chain(&request.working_dir).find(|path| path.to_str().is_none()) {
        Some(path) => Err(ContainerError::PathText(path.clone())),
        None => Ok(()),
    }
}

fn check_mounts(request: &ContainerRequest) -> Result<(), ContainerError> {
    let mut seen = BTreeSet::new();
    for mount in &request.mounts {
        let target = check_target(&mount.target)?;
        if !seen.insert(target) {
            return Err(ContainerError::DuplicateTarget(mount.target.clone()));
        }
        if let MountKind::Bind { source, propagation, .. } = &mount.kind {
            if let Some(text) = propagation
                && text.parse::<Propagation>().is_err()
            {
                return Err(ContainerError::Propagation(text.clone()));
            }
            if !source.is_absolute() {
                return Err(ContainerError::Target { target: source.clone(), reason: "the source is not absolute" });
            }
        }
    }
    Ok(())
}

/// Checks a mount's target and returns it without superfluous slashes and dots.
pub(super) fn check_target(target: &Path) -> Result<PathBuf, ContainerError> {
    let refused = |reason| Err(ContainerError::Target { target: target.to_owned(), reason });
    if !target.is_absolute() {
        return refused("it is not absolute");
    }
    if target.components().any(|part| part == Component::ParentDir) {
        return refused("it holds `..`");
    }
    let clean: PathBuf = target.components().collect();
    if clean == Path::new("/") {
        return refused("the root itself cannot be mounted over");
    }
    if clean.starts_with("/proc") {
        return refused("nothing may be mounted over /proc or in it");
    }
    if clean == Path::new("/sys") || clean == Path::new("/dev") {
        return refused("it is the container's own; mount below it");
    }
    Ok(clean)
}

/// Checks a working directory.
pub(super) fn check_working_directory(path: Option<&Path>) -> Result<(), ContainerError> {
    let Some(path) = path else { return Ok(()) };
    let refused = |reason| Err(ContainerError::WorkingDirectory { path: path.to_owned(), reason });
    if !path.is_absolute() {
        return refused("it is not absolute");
    }
    if path.starts_with("/proc") {
        return refused("a directory below /proc can lead out of the container");
    }
    if path.to_string_lossy().contains('\0') {
        return refused("it holds a zero byte");
    }
    Ok(())
}

/// Checks `user[:group]` as far as that needs no passwd file.
pub(super) fn check_user(text: &str) -> Result<(), ContainerError> {
    let refused = |reason| Err(ContainerError::User { user: text.to_owned(), reason });
    if text.is_empty() {
        return Ok(());
    }
    let parts: Vec<_> = text.split(':').collect();
    if parts.len() > 2 {
        return refused("it has more than one colon (`user`, `uid`, `user:group` or `uid:gid`)");
    }
    for part in parts {
        if part.is_empty() {
            return refused("a name is missing (`user`, `uid`, `user:group` or `uid:gid`)");
        }
        if part.starts_with('-') {
            return refused("an id is a number from 0 to 4294967294");
        }
        if part.bytes().all(|b| b.is_ascii_digit()) && !is_id(part) {
            return refused("an id is a number from 0 to 4294967294");
        }
        if part.contains(['\n', '\0', '/']) {
            return refused("a name holds no `/` and no line end");
        }
    }
    Ok(())
}

/// Checks a supplementary group, a name or a number.
fn check_group(text: &str) -> Result<(), ContainerError> {
    let reason =
        if text.starts_with('-') || (text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() && !is_id(text)) {
            "an id is a number from 0 to 4294967294"
        } else if text.is_empty() || text.contains(['\n', '\0', '/', ':']) {
            "a name is not empty and holds no `/`, `:` and line end"
        } else {
            return Ok(());
        };
    Err(ContainerError::Group { group: text.to_owned(), reason })
}

/// Says whether the kernel can take this number as an id: the greatest one means "no change" to it (setresuid(2)).
fn is_id(digits: &str) -> bool {
    digits.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

/// Checks that a sysctl belongs to a namespace of the container's own.
fn check_sysctl(key: &str, value: &str, namespaces: &NamespaceRequest) -> Result<(), ContainerError> {
    let own = |source: &NamespaceSource| *source == NamespaceSource::Private;
    let refused = |reason| Err(ContainerError::Sysctl { key: key.to_owned(), reason });
    if value.contains(['\n', '\0']) {
        return refused("its value holds a line end");
    }
    let path = sysctl_path(key);
    if path.components().any(|part| !matches!(part, Component::Normal(_))) || path.as_os_str().is_empty() {
        return refused("it is not a name like `net.ipv4.ip_forward`");
    }
    let text = path.to_string_lossy();
    if text.starts_with("net/") {
        return if own(&namespaces.network) {
            Ok(())
        } else {
            refused("the container has no network namespace of its own")
        };
    }
    let ipc = ["kernel/shm", "kernel/msg"].iter().any(|prefix| text.starts_with(prefix));
    if ipc || text == "kernel/sem" || text.starts_with("fs/mqueue/") {
        return if own(&namespaces.ipc) { Ok(()) } else { refused("the container has no IPC namespace of its own") };
    }
    refused(
        "it is the whole machine's: only net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem are a container's",
    )
}

/// Returns the path below /proc/sys of a sysctl: `net.ipv4.conf.eth0/100.x` and `net/ipv4/conf/eth0.100/x` are both understood
/// (sysctl(8)).
pub(super) fn sysctl_path(key: &str) -> PathBuf {
    let slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let swapped: String = key
        .chars()
        .map(|c| match c {
            '.' if !slashes => '/',
            '/' if !slashes => '.',
            other => other,
        })
        .collect();
    PathBuf::from(swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_ids() {
        for text in ["", "root", "1000", "1000:1000", "www-data:adm", "0:0", "4294967294"] {
            assert!(check_user(text).is_ok(), "{text}");
        }
        for text in ["-1", "4294967295", "1:2:3", "99999999999", "0:", ":0", "a/b"] {
            assert!(check_user(text).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_are_names_or_ids() {
        assert!(["0", "4294967294", "audio", "www-data"].iter().all(|text| check_group(text).is_ok()));
        for text in ["", "-1", "4294967295", "a:b", "a/b"] {
            assert!(check_group(text).is_err(), "{text}");
        }
    }

    #[test]
    fn targets_stay_off_the_kernels_own() {
        for text in ["/", "//", "/proc", "/proc/self/attr", "/./proc", "/sys", "/dev", "data", "/a/../b"] {
            assert!(check_target(Path::new(text)).is_err(), "{text}");
        }
        for text in ["/data", "/dev/shm", "/sys/fs/cgroup", "/process", "/a//b/"] {
            assert!(check_target(Path::new(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn sysctls_are_those_of_namespaces() {
        let hosts = NamespaceRequest { network: NamespaceSource::Host, ..NamespaceRequest::private() };
        let own = NamespaceRequest::private();
        for key in ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.sem"] {
            assert!(check_sysctl(key, "1", &own).is_ok(), "{key}");
            assert_eq!(check_sysctl(key, "1", &hosts).is_ok(), !key.starts_with("net."), "{key}");
        }
        let hosts = NamespaceRequest { ipc: NamespaceSource::Host, ..NamespaceRequest::private() };
        assert!(check_sysctl("kernel.sem", "1", &hosts).is_err());
        for key in [
            "kernel.panic",
            "kernel.hostname",
            "vm.swappiness",
            "net.//.kernel.panic",
            "net",
            "",
            "/etc/passwd",
            "fs/mqueue/../x",
        ] {
            assert!(check_sysctl(key, "1", &own).is_err(), "{key}");
        }
        assert!(check_sysctl("net.ipv4.ip_forward", "1\n2", &own).is_err());
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/100.forwarding"), Path::new("net/ipv4/conf/eth0.100/forwarding"));
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/forwarding"), Path::new("net/ipv4/conf/eth0.100/forwarding"));
    }

    #[test]
    fn a_user_namespace_has_nothing_of_the_host_s() {
        let user = Some(crate::spec::IdMaps::ancestor());
        let mapped = NamespaceRequest { user, ..NamespaceRequest::private() };
        assert!(check_namespaces(&mapped).is_ok());
        let (network, uts) = (NamespaceSource::Host, NamespaceSource::Host);
        assert!(check_namespaces(&NamespaceRequest { network, uts, ..mapped.clone() }).is_ok());
        assert!(check_namespaces(&NamespaceRequest { pid: NamespaceSource::Host, ..mapped.clone() }).is_err());
        assert!(check_namespaces(&NamespaceRequest { cgroup: false, ..mapped }).is_err());
        assert!(check_namespaces(&NamespaceRequest { cgroup: false, ..NamespaceRequest::private() }).is_ok());
    }

    #[test]
    fn working_directories_are_absolute_and_not_of_proc() {
        assert!(check_working_directory(Some(Path::new("/srv"))).is_ok());
        for text in ["srv", "./x", "/proc/self/fd/7", "/proc"] {
            assert!(check_working_directory(Some(Path::new(text))).is_err(), "{text}");
        }
    }
}
