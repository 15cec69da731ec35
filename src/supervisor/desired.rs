//! From the compose model to what each container is to be: services become [`Desired`] containers, networks become
//! [`NetworkConfig`]s, volumes become directories.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::control::protocol::Up;
use super::mounts::Mounts;
use super::sharing::NetworkOwner;
use crate::compose::model::{
    ImageRef, Ipam, IpamPool, Logging, Network, NetworkMode, PortProtocol, Project, Service, ServiceNetwork,
    VolumeMountKind, VolumeSource,
};
use crate::engine::{NetworkWish, PassingNetworks};
use crate::network::{AddressPool, DriverKind, NetworkConfig, PortMapping, Protocol};
use crate::spec::{
    CapabilityBase, CapabilityRequest, ContainerId, ContainerRequest, Healthcheck, InterfaceName, KernelFiles,
    NamespaceRequest, NamespaceSource, RestartPolicy,
};
use crate::store::Directories;

/// Says why a service cannot become a container.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DesiredError {
    /// `image: root_fs` without a root filesystem.
    #[error("service `{service}` wants the default root filesystem and there is none")]
    NoRootfs {
        /// The service.
        service: String,
    },
    /// Neither entrypoint nor command: `root_fs` names no program of its own.
    #[error("service `{service}` has neither `command` nor `entrypoint`")]
    NoCommand {
        /// The service.
        service: String,
    },
    /// A driver that is not one of ours.
    #[error("network `{network}` wants the driver `{driver}`, which is none of bridge, none, host, cni, polycube")]
    Driver {
        /// The network's name in the file.
        network: String,
        /// Its driver.
        driver: String,
    },
    /// Something that bridges of ours cannot do.
    #[error("network `{network}`: {reason}")]
    Network {
        /// The network's name in the file.
        network: String,
        /// What it is.
        reason: String,
    },
}

impl DesiredError {
    /// Says how to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRootfs { .. } => {
                Some("make one with `root_fs/build` and name it with `--rootfs DIR` or MYDOCKER_ROOTFS".to_owned())
            }
            Self::NoCommand { .. } => Some("add `command: [\"/bin/sh\", \"-c\", \"…\"]` to the service".to_owned()),
            _ => None,
        }
    }
}

/// Is what one container of a project is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The container's name.
    pub name: String,
    /// The service.
    pub service: String,
    /// Counts the service's containers from 1.
    pub number: u32,
    /// The image, as written.
    pub image: String,
    /// Everything about the container itself. Its id is a fresh one.
    pub request: ContainerRequest,
    /// Tells whether an existing container is still what the file says.
    pub config_hash: String,
    /// What follows when it ends.
    pub restart: RestartPolicy,
    /// What is kept of its output.
    pub logging: Logging,
    /// How its health is probed.
    pub healthcheck: Option<Healthcheck>,
    /// Its networks in the order of their interfaces.
    pub networks: Vec<NetworkWish>,
    /// The container whose network it shares.
    pub shares_network_of: Option<NetworkOwner>,
    /// The container whose process namespace it shares, by name or the beginning of its id.
    #[serde(default)]
    pub shares_processes_of: Option<String>,
    /// Names of directories that `bind` makes on the host when missing.
    pub create_host_paths: Vec<PathBuf>,
    /// Volume directories that must exist, by volume name.
    pub volumes: Vec<String>,
    /// Volumes that have no name of a user's, and may be removed with the container.
    #[serde(default)]
    pub own_volumes: Vec<String>,
    /// Networks that come and go with containers.
    #[serde(default)]
    pub passing: PassingNetworks,
    /// Whether it is removed, with its own volumes, when it has ended (`--rm`).
    #[serde(default)]
    pub removed_at_end: bool,
}

/// Makes a list of all containers that `up` is to bring about, by service and number.
///
/// # Errors
/// The first [`DesiredError`].
pub fn desired_containers(up: &Up, dirs: &Directories) -> Result<Vec<Desired>, DesiredError> {
    let mut all = Vec::new();
    for service in up.project.services.values() {
        let count = up.scale.get(&service.name).copied().unwrap_or(service.scale);
        for number in 1..=count {
            all.push(desired_container(up, service, number, dirs)?);
        }
    }
    Ok(all)
}

fn desired_container(up: &Up, service: &Service, number: u32, dirs: &Directories) -> Result<Desired, DesiredError> {
    let project = &up.project;
    let name = service.container_name.clone().unwrap_or_else(|| format!("{}-{}-{number}", project.name, service.name));
    let rootfs = match &service.image {
        ImageRef::Directory(path) => path.clone(),
        ImageRef::RootFs => {
            up.default_rootfs.clone().ok_or_else(|| DesiredError::NoRootfs { service: service.name.clone() })?
        }
    };
    if service.args().is_empty() {
        return Err(DesiredError::NoCommand { service: service.name.clone() });
    }
    let config_hash = config_hash(project, service, &rootfs);
    let mounts = Mounts::of(project, service, &name, dirs);
    let labels = labels(project, service, number, &config_hash);
    let request = ContainerRequest { mounts: mounts.requests, labels, ..bare_request(service, name.clone(), rootfs) };
    Ok(Desired {
        name,
        service: service.name.clone(),
        number,
        image: image_text(&service.image),
        request,
        config_hash,
        restart: service.restart,
        logging: service.logging,
        healthcheck: service.healthcheck.clone(),
        networks: network_wishes(project, service),
        shares_network_of: match &service.network_mode {
            Some(NetworkMode::Service(other)) => Some(NetworkOwner::Service(other.clone())),
            Some(NetworkMode::Container(other)) => Some(NetworkOwner::Container(other.clone())),
            Some(NetworkMode::None | NetworkMode::Host) | None => None,
        },
        shares_processes_of: None,
        create_host_paths: mounts.create_host_paths,
        volumes: mounts.volumes,
        own_volumes: Vec::new(),
        passing: PassingNetworks::default(),
        removed_at_end: false,
    })
}

/// All that a service says of its containers, without mounts, networks and labels.
///
/// The service is taken apart without `..`: a field that nobody acts on does not compile.
#[expect(clippy::too_many_lines, reason = "one line a field")]
fn bare_request(service: &Service, name: String, rootfs: PathBuf) -> ContainerRequest {
    let Service {
        hostname,
        domainname,
        environment,
        working_dir,
        user,
        group_add,
        extra_hosts,
        dns,
        init,
        tty,
        stdin_open,
        read_only,
        cap_add,
        cap_drop,
        no_new_privileges,
        seccomp,
        devices,
        device_rules,
        kernel_files,
        namespaces,
        limits,
        ulimits,
        sysctls,
        oom_score_adj,
        stop_signal,
        stop_grace_period,
        // `Service::args` joins the two.
        command: _,
        entrypoint: _,
        // In this file: what becomes of a container besides its request.
        name: _,
        image: _,
        container_name: _,
        healthcheck: _,
        restart: _,
        logging: _,
        labels: _,
        network_mode: _,
        networks: _,
        ports: _,
        links: _,
        volumes: _,
        shm_size: _,
        // Of the project: how many, in which order, and whether `up` shows them.
        scale: _,
        depends_on: _,
        profiles: _,
        attach: _,
    } = service;
    let id = ContainerId::generate();
    let base = if *kernel_files == KernelFiles::Open { CapabilityBase::All } else { CapabilityBase::Docker };
    ContainerRequest {
        hostname: hostname.clone().unwrap_or_else(|| id.short().to_owned()),
        domainname: domainname.clone(),
        id,
        name,
        rootfs,
        read_only: *read_only,
        args: service.args(),
        env: environment.clone(),
        working_dir: working_dir.clone(),
        user: user.clone(),
        groups: group_add.clone(),
        namespaces: NamespaceRequest { network: network_namespace(service), ..namespaces.clone() },
        mounts: Vec::new(),
        capabilities: CapabilityRequest { base, add: cap_add.clone(), drop: cap_drop.clone() },
        no_new_privileges: *no_new_privileges,
        seccomp: seccomp.clone(),
        devices: devices.clone(),
        device_rules: device_rules.clone(),
        kernel_files: *kernel_files,
        apparmor: None,
        limits: limits.clone(),
        ulimits: ulimits.clone(),
        sysctls: sysctls.clone(),
        init: *init,
        tty: *tty,
        stdin_open: *stdin_open,
        stop_signal: *stop_signal,
        stop_grace_period: *stop_grace_period,
        extra_hosts: extra_hosts.clone(),
        dns: dns.clone(),
        oom_score_adj: *oom_score_adj,
        labels: BTreeMap::new(),
    }
}

/// The hash of a service as Compose makes it, of the root filesystem that its image stands for, and of its volumes that are
/// not directories of ours.
fn config_hash(project: &Project, service: &Service, rootfs: &std::path::Path) -> String {
    let mut text = format!("{}\0{}", service.config_hash(), rootfs.display());
    let names = service.volumes.iter().filter_map(|mount| match &mount.kind {
        VolumeMountKind::Volume { name: Some(name), .. } => project.volumes.get(name),
        _ => None,
    });
    for volume in names.filter(|volume| volume.source != VolumeSource::Directory) {
        text += &format!("\0{:?}", volume.source);
    }
    hex(&Sha256::digest(text.as_bytes()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of `image:` as `ps` shows it.
fn image_text(image: &ImageRef) -> String {
    match image {
        ImageRef::RootFs => "root_fs".to_owned(),
        ImageRef::Directory(path) => format!("rootfs:{}", path.display()),
    }
}

fn network_namespace(service: &Service) -> NamespaceSource {
    match &service.network_mode {
        Some(NetworkMode::Host) => NamespaceSource::Host,
        // Which container it is, is known only when that one runs.
        Some(NetworkMode::None | NetworkMode::Service(_) | NetworkMode::Container(_)) | None => {
            NamespaceSource::Private
        }
    }
}

fn labels(project: &Project, service: &Service, number: u32, config_hash: &str) -> BTreeMap<String, String> {
    let mut labels = service.labels.clone();
    let files: Vec<_> = project.files.iter().map(|file| file.display().to_string()).collect();
    let dependencies: Vec<_> = service
        .depends_on
        .iter()
        .map(|(name, dependency)| format!("{name}:{}:{}", dependency.condition.as_str(), dependency.restart))
        .collect();
    for (key, value) in [
        ("project", project.name.clone()),
        ("service", service.name.clone()),
        ("container-number", number.to_string()),
        ("config-hash", config_hash.to_owned()),
        ("oneoff", "False".to_owned()),
        ("depends_on", dependencies.join(",")),
        ("project.working_dir", project.working_dir.display().to_string()),
        ("project.config_files", files.join(",")),
    ] {
        labels.insert(format!("com.docker.compose.{key}"), value);
    }
    labels
}

/// Interfaces are numbered by falling priority, then by name; the default route goes through the network with the
/// greatest gateway priority that leads out.
fn network_wishes(project: &Project, service: &Service) -> Vec<NetworkWish> {
    if service.network_mode.is_some() {
        return Vec::new();
    }
    let mut order: Vec<_> = service.networks.iter().collect();
    order.sort_by_key(|(name, network)| (-network.priority, (*name).clone()));
    let is_on_lan = |name: &str| project.networks.get(name).is_some_and(Network::is_on_lan);
    let gateway = service.gateway_network(&project.networks);
    let mut wishes = Vec::new();
    for (index, (name, network)) in order.into_iter().enumerate() {
        let ServiceNetwork {
            aliases,
            ipv4_address,
            ipv6_address,
            link_local_ips,
            mac_address,
            interface_name,
            bandwidth,
            priority: _,
            gw_priority: _,
        } = network;
        let default_route = gateway == Some(name);
        let ifname = interface_name.clone().or_else(|| free_interface_name(service, index, &wishes));
        let Some(ifname) = ifname else { continue };
        wishes.push(NetworkWish {
            network: project.networks.get(name).map_or_else(|| name.clone(), |network| network.name.clone()),
            ifname,
            aliases: aliases.clone(),
            links: service.links.clone(),
            ipv4: *ipv4_address,
            ipv6: *ipv6_address,
            link_local: link_local_ips.clone(),
            mac: *mac_address,
            bandwidth: *bandwidth,
            default_route,
            ports: if default_route && !is_on_lan(name) { port_mappings(project, service, name) } else { Vec::new() },
        });
    }
    wishes
}

/// Numbers an interface by its place in the order, or by the next number that nothing else of the container is called by.
fn free_interface_name(service: &Service, index: usize, before: &[NetworkWish]) -> Option<InterfaceName> {
    let asked_for = |name: &InterfaceName| {
        service.networks.values().any(|network| network.interface_name.as_ref() == Some(name))
            || before.iter().any(|wish| wish.ifname == *name)
    };
    (index..).map_while(|number| format!("eth{number}").parse().ok()).find(|name| !asked_for(name))
}

/// The network need not be there yet: what its own options say about ports is read from the file.
fn port_mappings(project: &Project, service: &Service, network: &str) -> Vec<PortMapping> {
    let declared = project.networks.get(network).filter(|declared| !declared.external);
    let config = declared.and_then(|declared| network_config(project, network, declared).ok());
    let host_binding = config.and_then(|config| config.host_binding());
    let mapping = |port: &crate::compose::model::Port| PortMapping {
        host_ip: port.host_ip.or(host_binding),
        host_port: port.published,
        host_port_to: port.published_to,
        container_port: port.target,
        protocol: match port.protocol {
            PortProtocol::Tcp => Protocol::Tcp,
            PortProtocol::Udp => Protocol::Udp,
        },
    };
    service.ports.iter().map(mapping).collect()
}

/// Turns a network of the file into what the network folder makes; `None` for one that must be there already.
///
/// # Errors
/// A driver or an address range that bridges of ours do not have.
pub fn network_config(project: &Project, key: &str, network: &Network) -> Result<NetworkConfig, DesiredError> {
    // Without `..`: a field that nobody acts on does not compile.
    let Network {
        name,
        driver,
        driver_opts,
        internal,
        enable_ipv6,
        without_ipv4,
        external,
        ipam: Ipam { config: pools },
        labels,
    } = network;
    let driver = match driver.as_deref() {
        None | Some("" | "bridge" | "default") => DriverKind::Bridge,
        Some("none" | "null") => DriverKind::None,
        Some("host") => DriverKind::Host,
        Some("cni") => DriverKind::Cni,
        Some("polycube") => DriverKind::Polycube,
        Some("macvlan") => DriverKind::Macvlan,
        Some("ipvlan") => DriverKind::Ipvlan,
        Some(other) => {
            return Err(DesiredError::Driver { network: key.to_owned(), driver: other.to_owned() });
        }
    };
    let mut config = NetworkConfig {
        name: name.clone(),
        project: (!external).then(|| project.name.clone()),
        driver,
        internal: *internal,
        ipv6: *enable_ipv6,
        without_ipv4: *without_ipv4,
        options: driver_opts.clone(),
        labels: labels.clone(),
        ..NetworkConfig::default()
    };
    let refuse = |reason: &str| DesiredError::Network { network: key.to_owned(), reason: reason.to_owned() };
    let mut first_v4 = !without_ipv4;
    for pool in pools {
        if first_v4 && pool.subnet.is_none_or(|subnet| subnet.is_ipv4()) {
            first_v4 = false;
            set_first_pool(&mut config, pool);
            continue;
        }
        let IpamPool { subnet, ip_range, gateway, aux_addresses } = pool;
        let subnet = subnet.ok_or_else(|| refuse("has an address pool without a subnet besides the first"))?;
        config.pools.push(AddressPool {
            subnet,
            gateway: *gateway,
            ip_range: *ip_range,
            reserved: aux_addresses.clone(),
        });
    }
    Ok(config)
}

/// The first subnet of IPv4 may be left open.
fn set_first_pool(config: &mut NetworkConfig, pool: &IpamPool) {
    let IpamPool { subnet, ip_range, gateway, aux_addresses } = pool;
    config.subnet = subnet.and_then(ipv4);
    config.ip_range = ip_range.and_then(ipv4);
    if let Some(IpAddr::V4(gateway)) = gateway {
        config.gateway = Some(*gateway);
    }
    for (host, address) in aux_addresses {
        if let IpAddr::V4(address) = address {
            config.reserved.insert(host.clone(), *address);
        }
    }
}

fn ipv4(network: IpNetwork) -> Option<ipnetwork::Ipv4Network> {
    match network {
        IpNetwork::V4(network) => Some(network),
        IpNetwork::V6(_) => None,
    }
}
