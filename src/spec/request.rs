//! What a user may ask of one container. `compose`, `run` and the ancestor's form fill a [`ContainerRequest`];
//! `container` turns it into an OCI `Spec` and that into a launch plan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ByteSize, ContainerId, DeviceRequest, DeviceRule, SignalNumber};

/// Says everything that is asked of one container, checked and with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRequest {
    /// The container's identity.
    pub id: ContainerId,
    /// The name people use: `<project>-<service>-<n>` or what `--name` said.
    pub name: String,
    /// The directory that becomes the lower layer of the root overlay; it is never written to.
    pub rootfs: PathBuf,
    /// Makes `/` read-only inside (`read_only: true`, `--read-only`).
    pub read_only: bool,
    /// The program and its arguments: entrypoint and command joined. Never empty.
    pub args: Vec<String>,
    /// The whole environment; `PATH`, `HOME`, `HOSTNAME` (and `TERM` with a terminal) are added where absent.
    pub env: BTreeMap<String, String>,
    /// The working directory, absolute; created where it is missing. `/` where `None`.
    pub working_dir: Option<PathBuf>,
    /// `user`, `uid`, `user:group`, `uid:gid`: looked up in the container's own passwd and group files.
    pub user: Option<String>,
    /// Supplementary groups by name or number (`group_add`).
    pub groups: Vec<String>,
    /// The host name in the UTS namespace.
    pub hostname: String,
    /// The NIS domain name in the UTS namespace (setdomainname(2)); the kernel's `(none)` where `None`.
    pub domainname: Option<String>,
    /// Which namespaces the container gets.
    pub namespaces: NamespaceRequest,
    /// Binds, volumes and tmpfs mounts, in the order in which they are made.
    pub mounts: Vec<MountRequest>,
    /// Capabilities of the process.
    pub capabilities: CapabilityRequest,
    /// Sets the no_new_privs bit (prctl(2), PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// The seccomp filter.
    pub seccomp: SeccompRequest,
    /// Devices of the host that it gets.
    #[serde(default)]
    pub devices: Vec<DeviceRequest>,
    /// Devices that it may use, besides those that it gets.
    #[serde(default)]
    pub device_rules: Vec<DeviceRule>,
    /// What is kept from it of the kernel's files.
    #[serde(default)]
    pub kernel_files: KernelFiles,
    /// The AppArmor profile of its process; the host's default for whoever starts it where `None`.
    #[serde(default)]
    pub apparmor: Option<String>,
    /// Limits enforced through cgroups.
    pub limits: ResourceLimits,
    /// rlimits by lower-case name without `RLIMIT_` (`nofile`), soft and hard; -1 is unlimited.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Namespaced sysctls by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Puts our built-in init in place of PID 1: it forwards signals and reaps (`init: true`).
    pub init: bool,
    /// Gives the process a terminal of the container's own (`tty: true`, `-t`).
    pub tty: bool,
    /// Keeps stdin open (`stdin_open: true`, `-i`); else it is /dev/null.
    pub stdin_open: bool,
    /// The signal that asks the process to end.
    pub stop_signal: SignalNumber,
    /// How long to wait between that signal and SIGKILL.
    pub stop_grace_period: Duration,
    /// Lines for /etc/hosts beyond localhost and the container's own: (name, address).
    pub extra_hosts: Vec<(String, HostAddress)>,
    /// What its /etc/resolv.conf says besides, and whose servers are asked.
    #[serde(default)]
    pub dns: DnsRequest,
    /// Added to the OOM killer's score, -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i32>,
    /// Labels, as written and as Compose adds.
    pub labels: BTreeMap<String, String>,
}

/// Says where and how names are looked up that no container has (resolv.conf(5)). What is empty is as on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DnsRequest {
    /// Name servers, as the container reaches them.
    pub servers: Vec<std::net::IpAddr>,
    /// Domains in which names are looked for; `.` alone is none.
    pub search: Vec<String>,
    /// Options of the resolver, `ndots:2`.
    pub options: Vec<String>,
}

/// Is the address of a line for /etc/hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAddress {
    /// An address.
    Ip(std::net::IpAddr),
    /// `host-gateway`: the host, as the container reaches it. Known only when the container is on its networks.
    HostGateway,
}

/// Says which namespaces are made new and which are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRequest {
    /// A user namespace of its own with these maps, or none.
    pub user: Option<IdMaps>,
    /// The network namespace.
    pub network: NamespaceSource,
    /// The namespace of process ids.
    #[serde(default)]
    pub pid: NamespaceSource,
    /// The namespace of message queues and shared memory; /dev/shm goes with it.
    #[serde(default)]
    pub ipc: NamespaceSource,
    /// The namespace of the host name.
    #[serde(default)]
    pub uts: NamespaceSource,
    /// A cgroup namespace of its own.
    pub cgroup: bool,
}

impl NamespaceRequest {
    /// Returns what a container has that asks for nothing: everything of its own, users but.
    pub fn private() -> Self {
        let private = NamespaceSource::Private;
        Self {
            user: None,
            network: private.clone(),
            pid: private.clone(),
            ipc: private.clone(),
            uts: private,
            cgroup: true,
        }
    }
}

/// Says where a namespace of a container comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceSource {
    /// A new one.
    #[default]
    Private,
    /// The one mydocker itself was started in (`network_mode: host`).
    Host,
    /// Another container's (`network_mode: service:NAME`, `container:NAME`).
    Container(ContainerId),
}

/// Maps ids of a user namespace to ids outside (user_namespaces(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Lines of uid_map.
    pub uid: Vec<IdMap>,
    /// Lines of gid_map.
    pub gid: Vec<IdMap>,
}

/// Is one line of uid_map or gid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many ids follow one another.
    pub count: u32,
}

impl IdMaps {
    /// Returns the ancestor's map for `-U`: `0 → 100000 × 65536`, for users and groups.
    pub fn ancestor() -> Self {
        let map = vec![IdMap { inside: 0, outside: 100_000, count: 65_536 }];
        Self { uid: map.clone(), gid: map }
    }
}

/// Is one mount that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Where in the container: an absolute path, resolved inside the container's root.
    pub target: PathBuf,
    /// Refuses writes through this mount.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// Is the kind of a mount, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A directory or file of the host.
    Bind {
        /// The path on the host, absolute.
        source: PathBuf,
        /// `private`, `rprivate` (the default), `shared`, `rshared`, `slave`, `rslave`.
        propagation: Option<String>,
        /// Binds mounts below the source too.
        recursive: bool,
    },
    /// A named or anonymous volume: a directory of ours on the host.
    Volume {
        /// The volume's directory on the host: `_data`, or that of its driver's options.
        source: PathBuf,
        /// Mounts what lies here in it. The volume is written to by containers: the path is resolved inside it.
        subpath: Option<PathBuf>,
        /// Binds mounts below the source too.
        recursive: bool,
        /// Fills an empty volume with what the image has at the target, unless `nocopy`.
        copy_up: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its greatest size; the kernel's default (half of memory) where `None`.
        size: Option<ByteSize>,
        /// Permission bits of its root, octal; 1777 where `None`.
        mode: Option<u32>,
        /// Owner of its root (`uid=`), 0 where `None`.
        uid: Option<u32>,
        /// Group of its root (`gid=`), 0 where `None`.
        gid: Option<u32>,
        /// Allows programs to be executed from it; `noexec` otherwise, as Docker.
        exec: bool,
    },
}

/// Names the set that a container's capabilities start from and what is added to and taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityRequest {
    /// Where to begin.
    pub base: CapabilityBase,
    /// Names with or without `CAP_`, any case, or `ALL`.
    pub add: Vec<String>,
    /// Names with or without `CAP_`, any case, or `ALL`.
    pub drop: Vec<String>,
}

/// Is a named set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityBase {
    /// Docker's fourteen.
    Docker,
    /// The ancestor's keep-set `0x425eb`.
    Ancestor,
    /// Everything the host lets us give.
    All,
}

/// Names a seccomp filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompRequest {
    /// Docker's allow-list: known and not allowed EPERM; newer than the list ENOSYS.
    Default,
    /// The default with the ancestor's denials except `socket`: the `-a` form's own.
    AncestorDefault,
    /// The ancestor's denials with `socket` among them.
    Ancestor,
    /// No filter.
    Unconfined,
    /// A profile in Docker's JSON format.
    File(PathBuf),
}

/// Says what of /proc, /sys and /dev a container sees as the host does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelFiles {
    /// What tells of the host is masked, what changes it is read-only, and of the host's devices there is none.
    #[default]
    Protected,
    /// Nothing of /proc and /sys is masked (`systempaths=unconfined`).
    Unmasked,
    /// Neither masked nor read-only, and /dev has every device of the host (`privileged`).
    Open,
}

/// Holds limits that cgroups enforce. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Bytes of memory (v2 `memory.max`, v1 `memory.limit_in_bytes`).
    pub memory: Option<u64>,
    /// Bytes of memory that are protected under pressure (v2 `memory.low`, v1 `memory.soft_limit_in_bytes`).
    pub memory_reservation: Option<u64>,
    /// Bytes of memory and swap together; -1 is unlimited swap.
    pub memory_swap: Option<i64>,
    /// CPU time in thousand-millionths of a CPU (`cpus: 0.5` is 500,000,000).
    pub nano_cpus: Option<u64>,
    /// CPU time of a period in microseconds (`cpu_quota`).
    pub cpu_quota: Option<i64>,
    /// The period in microseconds (`cpu_period`).
    pub cpu_period: Option<u64>,
    /// Relative CPU weight.
    pub cpu_weight: Option<CpuWeight>,
    /// CPUs that may be used, as `0-3,5`.
    pub cpuset: Option<String>,
    /// Nodes of memory that may be used, as `0-1`.
    #[serde(default)]
    pub memory_nodes: Option<String>,
    /// The greatest number of processes and threads; -1 is unlimited.
    pub pids: Option<i64>,
    /// Relative block I/O weight, 10 to 1000 (v1 `blkio.weight` or `blkio.bfq.weight`, v2 `io.bfq.weight` or `io.weight`).
    pub io_weight: Option<u16>,
}

/// Is a relative CPU weight in one of the two scales people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuWeight {
    /// v1 `cpu.shares`, 2 to 262144; 1024 is the default.
    Shares(u64),
    /// The ancestor's `-C`, 1 to 100: shares = percent × 1024 / 100; v2 weight = percent.
    Percent(u8),
}

/// Is one rlimit (getrlimit(2)); `u64::MAX` is RLIM_INFINITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What the kernel enforces.
    pub soft: u64,
    /// How high the process may raise it.
    pub hard: u64,
}
