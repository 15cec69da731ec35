use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::project::hash_of;
use super::{Network, NetworkMode, ServiceNetwork, VolumeMount};
use crate::spec::{
    ByteSize, DeviceRequest, DeviceRule, DnsRequest, Healthcheck, HostAddress, KernelFiles, NamespaceRequest,
    ResourceLimits, RestartPolicy, SeccompRequest, SignalNumber, Ulimit,
};

/// Is one service: what each of its containers is made of and how it lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The service's name: its key in the file.
    pub name: String,
    /// The root filesystem.
    pub image: ImageRef,
    /// The program's arguments, or the whole program where there is no entrypoint.
    pub command: Option<Vec<String>>,
    /// What comes before the command; an empty list clears the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// The environment: `env_file` first, `environment` over it, values without `=` from the caller's environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory inside, absolute.
    pub working_dir: Option<PathBuf>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// Supplementary groups.
    pub group_add: Vec<String>,
    /// The host name; the container's short id where `None`, as Docker.
    pub hostname: Option<String>,
    /// The NIS domain name.
    pub domainname: Option<String>,
    /// The container's name; `<project>-<service>-<n>` where `None`.
    pub container_name: Option<String>,
    /// Services that come first, by name.
    pub depends_on: BTreeMap<String, Dependency>,
    /// The probe; `None` also where it is disabled.
    pub healthcheck: Option<Healthcheck>,
    /// What happens when the process ends by itself.
    pub restart: RestartPolicy,
    /// Where the network namespace comes from; `None`: a new one, attached to `networks`.
    pub network_mode: Option<NetworkMode>,
    /// The networks it is attached to, by key in [`Project::networks`](super::Project::networks); empty with a `network_mode`.
    pub networks: BTreeMap<String, ServiceNetwork>,
    /// Published ports, ranges written out.
    pub ports: Vec<Port>,
    /// Services that it alone finds by another name, too: by that name.
    pub links: BTreeMap<String, String>,
    /// Lines for /etc/hosts, in order.
    pub extra_hosts: Vec<(String, HostAddress)>,
    /// Name servers, search domains and options of the resolver.
    pub dns: DnsRequest,
    /// Mounts of `volumes:`, then of `tmpfs:`.
    pub volumes: Vec<VolumeMount>,
    /// The size of /dev/shm.
    pub shm_size: Option<ByteSize>,
    /// Puts the built-in init in place of PID 1.
    pub init: bool,
    /// Gives the process a terminal.
    pub tty: bool,
    /// Keeps stdin open.
    pub stdin_open: bool,
    /// Makes `/` read-only.
    pub read_only: bool,
    /// Capabilities added: upper case without `CAP_`, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken away: upper case without `CAP_`, or `ALL`.
    pub cap_drop: Vec<String>,
    /// Sets the no_new_privs bit.
    pub no_new_privileges: bool,
    /// The seccomp filter.
    pub seccomp: SeccompRequest,
    /// Devices of the host.
    pub devices: Vec<DeviceRequest>,
    /// Rules for devices besides those.
    pub device_rules: Vec<DeviceRule>,
    /// What is kept from it of the kernel's files; nothing, and nothing else either, where it is `privileged`.
    pub kernel_files: KernelFiles,
    /// Which namespaces are the host's (`pid`, `ipc`, `uts`, `cgroup`); `network_mode` says it of networks.
    pub namespaces: NamespaceRequest,
    /// Limits that cgroups enforce.
    pub limits: ResourceLimits,
    /// rlimits by lower-case name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Namespaced sysctls.
    pub sysctls: BTreeMap<String, String>,
    /// Added to the OOM killer's score.
    pub oom_score_adj: Option<i32>,
    /// The signal that asks the process to end.
    pub stop_signal: SignalNumber,
    /// How long to wait between that signal and SIGKILL.
    pub stop_grace_period: Duration,
    /// Labels, as written (those that Compose adds are the supervisor's).
    pub labels: BTreeMap<String, String>,
    /// How many containers (`scale`, `deploy.replicas`).
    pub scale: u32,
    /// Profiles that activate it; always active where empty.
    pub profiles: Vec<String>,
    /// Shows its output in a foreground `up` (`attach`, on by default).
    pub attach: bool,
    /// What happens to its output.
    pub logging: Logging,
}

impl Service {
    /// Hashes what a container is made of: a container whose label differs must be made again. What only concerns order and
    /// number (`depends_on`, `scale`, `profiles`, `attach`) is left out, as Compose does.
    pub fn config_hash(&self) -> String {
        let mut essence = self.clone();
        essence.depends_on = BTreeMap::new();
        essence.scale = 1;
        essence.profiles = Vec::new();
        essence.attach = true;
        hash_of(&essence)
    }

    /// Returns the network that the default route goes through: of those that lead out, the one with the greatest gateway
    /// priority, then the first by name.
    pub fn gateway_network(&self, networks: &BTreeMap<String, Network>) -> Option<&String> {
        let leads_out = |name: &str| networks.get(name).is_none_or(Network::leads_out);
        let candidates = self.networks.iter().filter(|(name, _)| leads_out(name));
        candidates.min_by_key(|(name, network)| (-i64::from(network.gw_priority), *name)).map(|(name, _)| name)
    }

    /// Returns the program and its arguments: entrypoint and command joined; empty where the file names neither.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).flatten().cloned().collect()
    }
}

/// Names a root filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRef {
    /// `root_fs`: the default one, found by the caller.
    RootFs,
    /// `rootfs:DIR`: a directory, absolute.
    Directory(PathBuf),
}

/// Says how one service waits for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What must have happened.
    pub condition: DependencyCondition,
    /// Fails the dependant where the dependency cannot be had; else it is only a wish.
    pub required: bool,
    /// Restarts the dependant when the dependency is restarted by hand.
    pub restart: bool,
}

/// Is what must have happened to a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// It runs.
    ServiceStarted,
    /// Its health check succeeded.
    ServiceHealthy,
    /// It ended with status 0.
    ServiceCompletedSuccessfully,
}

impl DependencyCondition {
    /// Returns the compose-spec's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceStarted => "service_started",
            Self::ServiceHealthy => "service_healthy",
            Self::ServiceCompletedSuccessfully => "service_completed_successfully",
        }
    }
}

/// Is one published port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; every one where `None`.
    pub host_ip: Option<IpAddr>,
    /// The host's port; a free one is chosen where `None`.
    pub published: Option<u16>,
    /// The last of the host's ports of which any free one is taken; `published` alone where `None`.
    pub published_to: Option<u16>,
    /// The container's port.
    pub target: u16,
    /// The protocol.
    pub protocol: PortProtocol,
}

/// Is the protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Says what is kept of a service's output (`logging`, in the words of Docker's drivers json-file, local and none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logging {
    /// All of it.
    #[default]
    Everything,
    /// The end of it.
    Rotated {
        /// A file that has so many bytes is followed by another (`max-size`).
        max_size: u64,
        /// So many files are kept (`max-file`).
        max_files: u64,
    },
    /// Nothing (the driver none): `logs` has nothing to show.
    Nothing,
}
