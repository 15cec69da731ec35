//! From a request to everything that is needed to start it, without touching the kernel.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::describe::describe;
use super::from_mounts::MappedSource;
use super::from_namespaces;
use super::planner::{self, Extras};
use super::{ContainerError, Join, LaunchPlan, SpawnRequest, UserNamespacePlan, checks};
use crate::namespaces::mount::{Device, Overlay};
use crate::namespaces::user::SetGroups;
use crate::spec::{CapabilitySet, ContainerRequest, NetDeviceMove};

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
    /// The host's devices that it gets.
    pub devices: Vec<HostDevice>,
}

/// Is a device of the host as a container gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// The node on the host.
    pub source: PathBuf,
    /// The node in the container.
    pub node: Device,
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
    /// The container's own directories, bound from the host: what is seen without a cgroup namespace.
    Directories {
        /// The v1 hierarchies that are joined through `tasks` descriptors, as above.
        joined: Vec<String>,
        /// Name below /sys/fs/cgroup and directory on the host of each hierarchy; an empty name where there is one hierarchy, the
        /// unified one, and it takes /sys/fs/cgroup itself.
        seen: Vec<(String, PathBuf)>,
    },
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
    /// What is joined, in the order of [`SpawnRequest::join`]; a request's shared network is not among it, for the caller has that open.
    pub joins: Vec<Join>,
    /// What the parent does for the user namespace, where there is one, before it sends the plan.
    pub user_namespace: Option<UserNamespacePlan>,
    /// Sources of bind mounts whose ids are mapped.
    pub(super) mapped_sources: Vec<MappedSource>,
    /// Device nodes that the parent makes.
    pub(super) devices: Vec<Device>,
    /// Network devices of the host's that go into its network namespace before the plan is sent.
    pub net_devices: Vec<NetDeviceMove>,
    /// What will be worse than asked.
    pub warnings: Vec<String>,
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
        let mark = self.work.join("work/incompat/volatile");
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
    let extras =
        Extras { id: request.id.as_str(), overlay: Some(&overlay), bundle: None, confinement, options, deny_setgroups };
    let plan = planner::plan(&spec, &extras)?;
    let linux = spec.linux().clone().unwrap_or_default();
    let spawn = SpawnRequest {
        create: from_namespaces::created(&linux),
        join: from_namespaces::joined(&linux),
        time_offsets: None,
        drop_groups: deny_setgroups,
    };
    let user_namespace = maps.map(|maps| UserNamespacePlan { maps: maps.clone(), groups, overlay: Some(overlay) });
    Ok(Prepared {
        spec,
        plan,
        spawn,
        joins: Vec::new(),
        user_namespace,
        mapped_sources: Vec::new(),
        devices: Vec::new(),
        net_devices: Vec::new(),
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        CapabilityBase, CapabilityRequest, ContainerId, IdMaps, KernelFiles, MountKind, MountRequest, NamespaceRequest,
        NamespaceSource, ResourceLimits, SeccompRequest, SignalNumber, Ulimit,
    };
    use std::collections::BTreeMap;

    fn request() -> ContainerRequest {
        ContainerRequest {
            id: "a".repeat(64).parse::<ContainerId>().unwrap(),
            name: "web".to_owned(),
            rootfs: PathBuf::from("/images/web"),
            read_only: false,
            args: vec!["httpd".to_owned()],
            env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            working_dir: Some(PathBuf::from("/srv")),
            user: None,
            groups: Vec::new(),
            hostname: "web".to_owned(),
            domainname: None,
            namespaces: NamespaceRequest::private(),
            mounts: Vec::new(),
            capabilities: CapabilityRequest { base: CapabilityBase::Docker, add: Vec::new(), drop: Vec::new() },
            no_new_privileges: false,
            seccomp: SeccompRequest::Default,
            devices: Vec::new(),
            device_rules: Vec::new(),
            kernel_files: KernelFiles::Protected,
            apparmor: None,
            limits: ResourceLimits::default(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            init: false,
            tty: false,
            stdin_open: false,
            stop_signal: SignalNumber::TERM,
            stop_grace_period: std::time::Duration::from_secs(10),
            extra_hosts: Vec::new(),
            dns: crate::spec::DnsRequest::default(),
            oom_score_adj: None,
            labels: BTreeMap::new(),
        }
    }

    fn device() -> HostDevice {
        let node = Device {
            path: PathBuf::from("/dev/tun"),
            kind: crate::namespaces::mount::DeviceKind::Character,
            major: 10,
            minor: 200,
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        HostDevice { source: PathBuf::from("/dev/net/tun"), node }
    }

    fn words(request: &ContainerRequest, options: &StartOptions) -> String {
        let paths = ContainerPaths::below(Path::new("/data/c"), true);
        let confinement = Confinement {
            capabilities: CapabilitySet::ancestor(),
            seccomp: Some(vec![0; 16]),
            devices: vec![device()],
        };
        let prepared = prepare(request, &paths, &confinement, options).unwrap();
        let plan = &prepared.plan;
        // What the reader of a snapshot sees is what crosses to the new process.
        let text = serde_json::to_string(plan).unwrap();
        assert_eq!(serde_json::from_str::<LaunchPlan>(&text).unwrap(), *plan);
        let lines =
            |steps: &[crate::container::Action]| steps.iter().map(|step| format!("  {step}\n")).collect::<String>();
        let spawn = &prepared.spawn;
        format!(
            "new {}\njoin {:?}\ncreate\n{}start\n{}",
            spawn.create,
            spawn.join,
            lines(&plan.create),
            lines(&plan.start)
        )
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "the snapshot is the test")]
    fn the_plan_of_an_ordinary_container() {
        insta::assert_snapshot!(words(&request(), &StartOptions::default()), @r#"
        new mnt pid net uts ipc cgroup
        join []
        create
          unshare the cgroup namespace
          open the mount at /data/c/hosts as source 0
          open the mount at /data/c/hostname as source 1
          open the mount at /data/c/resolv.conf as source 2
          make every mount rprivate
          mount an overlay of /images/web under /data/c/layers/upper on /data/c/root, never synced
          mount proc on /proc (rw,nosuid,nodev,noexec)
          mount tmpfs on /dev (rw,nosuid,noexec,strictatime,mode=755,size=65536k)
          mount devpts on /dev/pts (rw,nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5)
          mount tmpfs on /dev/shm (rw,nosuid,nodev,noexec,mode=1777,size=65536k)
          mount mqueue on /dev/mqueue (rw,nosuid,nodev,noexec)
          mount sysfs on /sys (ro,nosuid,nodev,noexec)
          bind source 0 on /etc/hosts (rw,rprivate)
          bind source 1 on /etc/hostname (rw,rprivate)
          bind source 2 on /etc/resolv.conf (rw,rprivate)
          make device /dev/null 1:3 mode 0666
          make device /dev/zero 1:5 mode 0666
          make device /dev/full 1:7 mode 0666
          make device /dev/tty 5:0 mode 0666
          make device /dev/random 1:8 mode 0666
          make device /dev/urandom 1:9 mode 0666
          make device /dev/tun 10:200 mode 0600
          link /dev/fd to /proc/self/fd
          link /dev/stdin to /proc/self/fd/0
          link /dev/stdout to /proc/self/fd/1
          link /dev/stderr to /proc/self/fd/2
          link /dev/ptmx to pts/ptmx
          pivot into the new root and detach the old one
          set the host name to web
          raise lo
          set sysctl net.ipv4.ip_unprivileged_port_start to `0`
          set sysctl net.ipv4.ping_group_range to `0 2147483647`
          make /proc/bus read-only
          make /proc/fs read-only
          make /proc/irq read-only
          make /proc/sys read-only
          make /proc/sysrq-trigger read-only
          mask /proc/acpi
          mask /proc/asound
          mask /proc/interrupts
          mask /proc/kcore
          mask /proc/keys
          mask /proc/latency_stats
          mask /proc/sched_debug
          mask /proc/scsi
          mask /proc/timer_list
          mask /proc/timer_stats
          mask /sys/devices/virtual/powercap
          mask /sys/firmware
          make or open the directory /srv for chdir
          set the umask to 022
          look up user `0`
        start
          limit the bounding set to CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
          start a session
          install a seccomp filter of 2 instructions
          set groups, group and user
          enter the working directory
          set the capabilities CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
          execute ["httpd"]
        "#);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "the snapshot is the test")]
    fn the_plan_of_one_with_everything() {
        let mut request = request();
        request.namespaces.user = Some(IdMaps::ancestor());
        request.namespaces.network = NamespaceSource::Container(request.id.clone());
        request.read_only = true;
        request.no_new_privileges = true;
        request.tty = true;
        request.init = true;
        request.user = Some("web:adm".to_owned());
        request.groups = vec!["log".to_owned()];
        request.oom_score_adj = Some(100);
        request.ulimits.insert("nofile".to_owned(), Ulimit { soft: 64, hard: u64::MAX });
        request.sysctls.insert("kernel.shmmax".to_owned(), "1".to_owned());
        let source = PathBuf::from("/srv/data");
        request.mounts = vec![
            MountRequest {
                target: PathBuf::from("/data"),
                read_only: true,
                kind: MountKind::Bind {
                    source: source.clone(),
                    propagation: Some("rslave".to_owned()),
                    recursive: false,
                },
            },
            MountRequest {
                target: PathBuf::from("/volume"),
                read_only: false,
                kind: MountKind::Volume { source, subpath: None, recursive: true, copy_up: true },
            },
            MountRequest {
                target: PathBuf::from("/dev/shm"),
                read_only: false,
                kind: MountKind::Tmpfs { size: None, mode: None, uid: None, gid: None, exec: true },
            },
        ];
        let options = StartOptions {
            start_at_once: true,
            die_with_parent: true,
            cgroups: CgroupView::Controllers(vec!["memory".to_owned(), "pids".to_owned()]),
        };
        insta::assert_snapshot!(words(&request, &options), @r#"
        new user mnt pid uts ipc cgroup
        join [Network]
        create
          join the cgroups
          unshare the cgroup namespace
          set oom_score_adj to 100
          open the mount at /data/c/hosts as source 0
          open the mount at /data/c/hostname as source 1
          open the mount at /data/c/resolv.conf as source 2
          open the mount at /dev/net/tun as source 3
          open the mount at /srv/data as source 4
          open the tree at /srv/data as source 5
          make every mount rprivate
          open the mountpoint /data/c/root
          become user 0 and group 0 of the user namespace
          mount an overlay of /images/web under /data/c/layers/upper on /data/c/root, never synced
          mount proc on /proc (rw,nosuid,nodev,noexec)
          mount tmpfs on /dev (rw,nosuid,noexec,strictatime,mode=755,size=65536k)
          mount devpts on /dev/pts (rw,nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5)
          mount mqueue on /dev/mqueue (rw,nosuid,nodev,noexec)
          mount sysfs on /sys (ro,nosuid,nodev,noexec)
          mount tmpfs on /sys/fs/cgroup (rw,nosuid,nodev,noexec,mode=755)
          mount cgroup on /sys/fs/cgroup/memory (ro,nosuid,nodev,noexec,memory)
          mount cgroup on /sys/fs/cgroup/pids (ro,nosuid,nodev,noexec,pids)
          bind source 0 on /etc/hosts (rw,rprivate)
          bind source 1 on /etc/hostname (rw,rprivate)
          bind source 2 on /etc/resolv.conf (rw,rprivate)
          bind source 3 on /dev/tun (rw,nosuid,noexec,rprivate)
          bind source 4 on /data (ro,rslave)
          bind source 5 on /volume (rw,rprivate), filled from the image where empty
          mount tmpfs on /dev/shm (rw,nosuid,nodev,mode=1777)
          bind the host's device /dev/null 1:3 mode 0666
          bind the host's device /dev/zero 1:5 mode 0666
          bind the host's device /dev/full 1:7 mode 0666
          bind the host's device /dev/tty 5:0 mode 0666
          bind the host's device /dev/random 1:8 mode 0666
          bind the host's device /dev/urandom 1:9 mode 0666
          link /dev/fd to /proc/self/fd
          link /dev/stdin to /proc/self/fd/0
          link /dev/stdout to /proc/self/fd/1
          link /dev/stderr to /proc/self/fd/2
          link /dev/ptmx to pts/ptmx
          open a terminal and bind it over /dev/console
          pivot into the new root and detach the old one
          set the host name to web
          set sysctl kernel.shmmax to `1`
          make /proc/bus read-only
          make /proc/fs read-only
          make /proc/irq read-only
          make /proc/sys read-only
          make /proc/sysrq-trigger read-only
          make /sys/fs/cgroup read-only
          mask /proc/acpi
          mask /proc/asound
          mask /proc/interrupts
          mask /proc/kcore
          mask /proc/keys
          mask /proc/latency_stats
          mask /proc/sched_debug
          mask /proc/scsi
          mask /proc/timer_list
          mask /proc/timer_stats
          mask /sys/devices/virtual/powercap
          mask /sys/firmware
          make or open the directory /srv for chdir
          make / read-only
          set the umask to 022
          look up user `web:adm` and groups log
          set rlimit nofile to 64 of unlimited
        start
          limit the bounding set to CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
          set groups, group and user
          enter the working directory
          set the capabilities CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
          ask for SIGKILL when the parent dies
          set no_new_privs
          install a seccomp filter of 2 instructions
          execute ["httpd"] under the built-in init
        "#);
    }

    #[test]
    fn no_step_is_without_a_reason() {
        let paths = ContainerPaths::below(Path::new("/data/c"), false);
        let prepared = prepare(&request(), &paths, &Confinement::default(), &StartOptions::default()).unwrap();
        let steps = prepared.plan.create.iter().chain(&prepared.plan.start);
        assert!(steps.clone().count() > 30 && steps.into_iter().all(|step| step.reason().len() > 10));
    }
}
