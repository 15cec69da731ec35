//! From a request to the OCI's description of a container.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType,
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};

use super::{Confinement, ContainerError, ContainerPaths, HostDevice};
use crate::namespaces::mount::DeviceKind;
use crate::spec::{
    CapabilityBase, CapabilitySet, ContainerRequest, IdMap, KernelFiles, MountKind, MountRequest, NamespaceSource,
};

/// The user as written: the OCI has numbers only, and names can be looked up only inside the container.
pub(super) const USER: &str = "io.mydocker.user";
/// Supplementary groups as written, separated by commas.
pub(super) const GROUPS: &str = "io.mydocker.groups";
/// `true` for the built-in init.
pub(super) const INIT: &str = "io.mydocker.init";
/// `true` where the user namespace denies setgroups(2).
pub(super) const DENY_GROUPS: &str = "io.mydocker.deny-setgroups";
/// The mount option that fills an empty volume.
pub(super) const COPY_UP: &str = "x-mydocker.copy-up";

/// The mount option of a source that the parent sends ([`super::Role::Source`]).
pub(super) const SENT: &str = "x-mydocker.sent";

/// The mount option that names what of the source is mounted.
pub(super) const SUBPATH: &str = "x-mydocker.subpath=";

/// Where programs are looked for that are named without a path, unless the request says so.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's list of what tells of the host or speaks to its hardware.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's list of kernel settings that are readable and not writable.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Describes a checked request.
pub(super) fn describe(
    request: &ContainerRequest,
    paths: &ContainerPaths,
    confinement: &Confinement,
) -> Result<Spec, ContainerError> {
    let bad = |error: oci_spec::OciSpecError| ContainerError::Describe(error);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(request).map_err(bad)?)
        .sysctl(sysctls(request))
        .rootfs_propagation("rprivate");
    // Said also where there are none: the builder has lists of its own.
    let listed = |paths: &[&str]| match request.kernel_files {
        KernelFiles::Protected => paths.iter().map(|path| (*path).to_owned()).collect(),
        KernelFiles::Unmasked | KernelFiles::Open => Vec::new(),
    };
    linux = linux.masked_paths(listed(&MASKED)).readonly_paths(listed(&READ_ONLY));
    if request.namespaces.user.is_none() {
        linux = linux.devices(devices(&confinement.devices).map_err(bad)?);
    }
    if let Some(maps) = &request.namespaces.user {
        linux = linux.uid_mappings(id_mappings(&maps.uid).map_err(bad)?);
        linux = linux.gid_mappings(id_mappings(&maps.gid).map_err(bad)?);
    }
    let mut notes: HashMap<String, String> = request.labels.clone().into_iter().collect();
    notes.insert(USER.to_owned(), request.user.clone().unwrap_or_default());
    notes.insert(GROUPS.to_owned(), request.groups.join(","));
    // The ancestor's namespaces deny setgroups(2); programs that change their user, as most images' do, need it.
    let deny = request.namespaces.user.is_some() && request.capabilities.base == CapabilityBase::Ancestor;
    notes.insert(DENY_GROUPS.to_owned(), deny.to_string());
    notes.insert(INIT.to_owned(), request.init.to_string());
    let root = RootBuilder::default().path(&paths.mountpoint).readonly(request.read_only).build().map_err(bad)?;
    let mut spec = SpecBuilder::default();
    if let Some(domainname) = &request.domainname {
        spec = spec.domainname(domainname);
    }
    spec.version("1.2.0")
        .root(root)
        .hostname(&request.hostname)
        .process(process(request, confinement).map_err(bad)?)
        .mounts(mounts(request, paths, confinement).map_err(bad)?)
        .annotations(notes)
        .linux(linux.build().map_err(bad)?)
        .build()
        .map_err(bad)
}

fn process(request: &ContainerRequest, confinement: &Confinement) -> Result<Process, oci_spec::OciSpecError> {
    let mut user = UserBuilder::default();
    let mut ids = request.user.as_deref().unwrap_or_default().split(':').map(str::parse::<u32>);
    if let Some(Ok(uid)) = ids.next() {
        user = user.uid(uid);
    }
    if let Some(Ok(gid)) = ids.next() {
        user = user.gid(gid);
    }
    let set = capabilities(confinement.capabilities);
    let capabilities = LinuxCapabilitiesBuilder::default().bounding(set.clone()).effective(set.clone()).permitted(set);
    let none = Capabilities::new();
    let mut process = ProcessBuilder::default()
        .terminal(request.tty)
        .user(user.build()?)
        .args(request.args.clone())
        .env(environment(request))
        .cwd(request.working_dir.clone().unwrap_or_else(|| PathBuf::from("/")))
        .capabilities(capabilities.inheritable(none.clone()).ambient(none).build()?)
        .rlimits(rlimits(request)?)
        .no_new_privileges(request.no_new_privileges);
    if let Some(profile) = &request.apparmor {
        process = process.apparmor_profile(profile.clone());
    }
    if let Some(score) = request.oom_score_adj {
        process = process.oom_score_adj(score);
    }
    process.build()
}

/// Nothing of ours: what the request says, and the few variables that every program may expect. HOME follows inside,
/// from the container's passwd.
fn environment(request: &ContainerRequest) -> Vec<String> {
    let mut env = request.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    env.entry("HOSTNAME".to_owned()).or_insert_with(|| request.hostname.clone());
    if request.tty {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The crate's names are the kernel's, by way of serde.
fn capabilities(set: CapabilitySet) -> Capabilities {
    set.names().filter_map(|name| serde_json::from_value(name.into()).ok()).collect()
}

fn rlimits(request: &ContainerRequest) -> Result<Vec<PosixRlimit>, oci_spec::OciSpecError> {
    request
        .ulimits
        .iter()
        .filter_map(|(name, limit)| {
            let typ: PosixRlimitType =
                serde_json::from_value(format!("RLIMIT_{}", name.to_ascii_uppercase()).into()).ok()?;
            Some(PosixRlimitBuilder::default().typ(typ).soft(limit.soft).hard(limit.hard).build())
        })
        .collect()
}

fn namespaces(request: &ContainerRequest) -> Result<Vec<LinuxNamespace>, oci_spec::OciSpecError> {
    use LinuxNamespaceType as Type;
    let asked = &request.namespaces;
    let new = |kind: Type| LinuxNamespaceBuilder::default().typ(kind).build();
    let mut list = asked.user.iter().map(|_| new(Type::User)).collect::<Result<Vec<_>, _>>()?;
    list.push(new(Type::Mount)?);
    let sources =
        [(Type::Pid, &asked.pid), (Type::Uts, &asked.uts), (Type::Ipc, &asked.ipc), (Type::Network, &asked.network)];
    for (kind, source) in sources {
        match source {
            NamespaceSource::Private => list.push(new(kind)?),
            NamespaceSource::Host => {}
            // A name, not a path: the engine passes a descriptor of it along.
            NamespaceSource::Container(id) => {
                let path = format!("container:{}", id.as_str());
                list.push(LinuxNamespaceBuilder::default().typ(kind).path(path).build()?);
            }
        }
    }
    if asked.cgroup {
        list.push(new(Type::Cgroup)?);
    }
    Ok(list)
}

fn devices(list: &[HostDevice]) -> Result<Vec<LinuxDevice>, oci_spec::OciSpecError> {
    list.iter()
        .map(|HostDevice { node, .. }| {
            let kind = match node.kind {
                DeviceKind::Character => LinuxDeviceType::C,
                DeviceKind::Block => LinuxDeviceType::B,
                DeviceKind::Fifo => LinuxDeviceType::P,
            };
            let numbers = LinuxDeviceBuilder::default().major(i64::from(node.major)).minor(i64::from(node.minor));
            numbers.path(&node.path).typ(kind).file_mode(node.mode).uid(node.uid).gid(node.gid).build()
        })
        .collect()
}

fn id_mappings(maps: &[IdMap]) -> Result<Vec<LinuxIdMapping>, oci_spec::OciSpecError> {
    maps.iter()
        .map(|m| LinuxIdMappingBuilder::default().container_id(m.inside).host_id(m.outside).size(m.count).build())
        .collect()
}

/// What Docker opens in each network namespace of a container's own, and what the request says.
fn sysctls(request: &ContainerRequest) -> HashMap<String, String> {
    let mut all = HashMap::new();
    if request.namespaces.network == NamespaceSource::Private {
        // The kernel refuses groups that the user namespace does not map.
        let last = request.namespaces.user.as_ref().map_or(2_147_483_647, |maps| {
            maps.gid.iter().find(|map| map.inside == 0).map_or(0, |map| map.count.saturating_sub(1).min(2_147_483_647))
        });
        all.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    all.extend(request.sysctls.clone());
    all
}

/// The file systems that every container has; a mount of the user's on the same target takes a place over.
fn mounts(
    request: &ContainerRequest,
    paths: &ContainerPaths,
    confinement: &Confinement,
) -> Result<Vec<Mount>, oci_spec::OciSpecError> {
    let asked: BTreeSet<PathBuf> = request.mounts.iter().map(|mount| mount.target.components().collect()).collect();
    let pts_group = if maps_group(request, 5) { "gid=5" } else { "gid=0" };
    let access = if request.kernel_files == KernelFiles::Open { "rw" } else { "ro" };
    let standard = [
        ("/proc", "proc", PathBuf::from("proc"), "nosuid,noexec,nodev".to_owned()),
        ("/dev", "tmpfs", "tmpfs".into(), "nosuid,noexec,strictatime,mode=755,size=65536k".to_owned()),
        (
            "/dev/pts",
            "devpts",
            "devpts".into(),
            format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,{pts_group}"),
        ),
        shared_memory(request),
        ("/dev/mqueue", "mqueue", "mqueue".into(), "nosuid,noexec,nodev".to_owned()),
        ("/sys", "sysfs", "sysfs".into(), format!("nosuid,noexec,nodev,{access}")),
        ("/sys/fs/cgroup", "cgroup", "cgroup".into(), format!("nosuid,noexec,nodev,relatime,{access}")),
    ];
    let mut all = Vec::new();
    for (target, fstype, source, options) in standard {
        if !asked.contains(Path::new(target)) {
            all.push(mount(Path::new(target), fstype, &source, options.split(',').map(str::to_owned))?);
        }
    }
    let etc =
        [("/etc/hosts", &paths.hosts), ("/etc/hostname", &paths.hostname), ("/etc/resolv.conf", &paths.resolv_conf)];
    for (target, source) in etc {
        if let Some(source) = source
            && !asked.contains(Path::new(target))
        {
            all.push(mount(Path::new(target), "bind", source, ["bind", "rprivate"].map(str::to_owned))?);
        }
    }
    // Nobody in a user namespace can make a node: the host's own stands there.
    for device in confinement.devices.iter().filter(|_| request.namespaces.user.is_some()) {
        let options = ["bind", "nosuid", "noexec", "rprivate"].map(str::to_owned);
        all.push(mount(&device.node.path, "bind", &device.source, options)?);
    }
    for asked in &request.mounts {
        all.push(user_mount(asked)?);
    }
    Ok(all)
}

/// POSIX shared memory is files of /dev/shm: who shares the namespace of the other kind shares these.
fn shared_memory(request: &ContainerRequest) -> (&'static str, &'static str, PathBuf, String) {
    let bind = |options: &str| ("/dev/shm", "bind", PathBuf::from("/dev/shm"), options.to_owned());
    match &request.namespaces.ipc {
        NamespaceSource::Host => bind("rbind,rprivate"),
        // The parent sends that container's.
        NamespaceSource::Container(_) => bind(&format!("bind,rprivate,{SENT}")),
        NamespaceSource::Private => {
            ("/dev/shm", "tmpfs", "shm".into(), "nosuid,noexec,nodev,mode=1777,size=65536k".to_owned())
        }
    }
}

fn maps_group(request: &ContainerRequest, id: u32) -> bool {
    request.namespaces.user.as_ref().is_none_or(|maps| {
        maps.gid.iter().any(|map| id.checked_sub(map.inside).is_some_and(|offset| offset < map.count))
    })
}

fn user_mount(asked: &MountRequest) -> Result<Mount, oci_spec::OciSpecError> {
    let access = if asked.read_only { "ro" } else { "rw" }.to_owned();
    // Read-only is meant for what is mounted below, too; what is read-only on the host stays so.
    let bound = |recursive: bool| asked.read_only.then(|| if recursive { "rro" } else { "ro" }.to_owned());
    match &asked.kind {
        MountKind::Bind { source, propagation, recursive } => {
            let kind = if *recursive { "rbind" } else { "bind" }.to_owned();
            let propagation = propagation.clone().unwrap_or_else(|| "rprivate".to_owned());
            let options = [Some(kind), bound(*recursive), Some(propagation)];
            mount(&asked.target, "bind", source, options.into_iter().flatten())
        }
        MountKind::Volume { source, subpath, recursive, copy_up } => {
            let kind = if *recursive { "rbind" } else { "bind" }.to_owned();
            let copy_up = copy_up.then(|| COPY_UP.to_owned());
            let subpath = subpath.as_ref().map(|below| format!("{SUBPATH}{}", below.display()));
            let options = [Some(kind), bound(*recursive), Some("rprivate".to_owned()), copy_up, subpath];
            mount(&asked.target, "bind", source, options.into_iter().flatten())
        }
        MountKind::Tmpfs { size, mode, uid, gid, exec } => {
            let mut options = vec![access, "nosuid".to_owned(), "nodev".to_owned()];
            if !exec {
                options.push("noexec".to_owned());
            }
            options.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            options.extend(size.map(|size| format!("size={}", size.0)));
            options.extend(uid.map(|uid| format!("uid={uid}")));
            options.extend(gid.map(|gid| format!("gid={gid}")));
            mount(&asked.target, "tmpfs", Path::new("tmpfs"), options)
        }
    }
}

fn mount(
    target: &Path,
    fstype: &str,
    source: &Path,
    options: impl IntoIterator<Item = String>,
) -> Result<Mount, oci_spec::OciSpecError> {
    let options: Vec<String> = options.into_iter().collect();
    MountBuilder::default().destination(target).typ(fstype).source(source).options(options).build()
}
