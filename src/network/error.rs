use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::cni::CniError;
use super::config::Protocol;
use crate::namespaces::network::NetnsError;
use crate::store::StoreError;

/// Says which operation on a network failed, with its object.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A value of a network's configuration that cannot be.
    #[error("make the network {network}: {reason}")]
    Config {
        /// The network.
        network: String,
        /// What is wrong, with the value.
        reason: String,
    },
    /// The network exists and was asked for differently now.
    #[error("use the network {network}: it exists with another {field} ({existing}, asked for: {wanted})")]
    Different {
        /// The network.
        network: String,
        /// The first field that differs.
        field: &'static str,
        /// What it has.
        existing: String,
        /// What was asked for.
        wanted: String,
    },
    /// No network has this name or id.
    #[error("find the network {0}")]
    UnknownNetwork(String),
    /// Containers are still attached.
    #[error("remove the network {network}: in use by {}", .users.join(", "))]
    InUse {
        /// The network.
        network: String,
        /// Names of the containers.
        users: Vec<String>,
    },
    /// All of our pool is taken.
    #[error("find a free subnet for the network {network}: all of {pools} is in use")]
    NoFreeSubnet {
        /// The network.
        network: String,
        /// The pools.
        pools: String,
    },
    /// The subnet asked for is someone else's.
    #[error("use the subnet {subnet} for the network {network}: it overlaps {other}")]
    SubnetOverlap {
        /// The network.
        network: String,
        /// What was asked for.
        subnet: IpNetwork,
        /// Whose it is.
        other: String,
    },
    /// No address is left.
    #[error("find a free address for {container} in {subnets} of the network {network}: all are given away")]
    NoFreeAddress {
        /// The container's name.
        container: String,
        /// The network.
        network: String,
        /// Where it was looked for.
        subnets: String,
    },
    /// The address asked for cannot be given.
    #[error("give {address} of the network {network} to {container}: {reason}")]
    Address {
        /// The network.
        network: String,
        /// The container's name.
        container: String,
        /// What was asked for.
        address: IpAddr,
        /// Why not.
        reason: String,
    },
    /// The bridge has no port left.
    #[error(
        "attach {container} to the network {network}: its bridge {bridge} has 1023 ports, and Linux has no larger bridges"
    )]
    BridgeFull {
        /// The network.
        network: String,
        /// The container's name.
        container: String,
        /// The bridge.
        bridge: String,
    },
    /// The container cannot be on this network.
    #[error("attach {container} to the network {network}: {reason}")]
    Refused {
        /// The network.
        network: String,
        /// The container's name.
        container: String,
        /// Why not.
        reason: String,
    },
    /// The network is to have IPv6, and the kernel has none.
    #[error("make the network {network}: its containers are to have IPv6 addresses, and this kernel has no IPv6")]
    NoIpv6 {
        /// The network.
        network: String,
    },
    /// An interface of that name exists and is not ours.
    #[error("make the interface {name}: {reason}")]
    LinkClash {
        /// The interface.
        name: String,
        /// What stands there.
        reason: String,
    },
    /// This kernel has no interfaces or queues of that kind.
    #[error("{operation}: this kernel knows no {module}")]
    Unsupported {
        /// The operation and its object.
        operation: String,
        /// The kernel's module.
        module: &'static str,
        /// The option it is built by.
        config: &'static str,
    },
    /// A device of the host's cannot go into a container.
    #[error("move the interface {name} into the container: {reason}")]
    Device {
        /// What it is called on the host.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A device that went into a container could not come back.
    #[error("{}; and putting back what had moved: {}", chain(.first), chain(.then))]
    NotPutBack {
        /// Why it was to come back.
        first: Box<NetworkError>,
        /// Why it could not.
        then: Box<NetworkError>,
    },
    /// A netlink request failed.
    #[error("{operation}")]
    Netlink {
        /// The operation and its object.
        operation: String,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// Work inside a container's network namespace failed.
    #[error("set up the network inside {container}")]
    Namespace {
        /// The container's name.
        container: String,
        /// Why.
        #[source]
        source: NetnsError,
    },
    /// A state file could not be read or written.
    #[error("{operation} {}", .path.display())]
    State {
        /// What was done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record or a lock could not be read or written.
    #[error("keep the record of networks")]
    Store(#[from] StoreError),
    /// A sysctl of the host could not be read or written.
    #[error("set {} to {value}", .path.display())]
    Sysctl {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program we need is not installed.
    #[error("find the program {0}")]
    ToolMissing(&'static str),
    /// A program could not be run.
    #[error("run {program}")]
    Tool {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program ran and refused.
    #[error("{program} refused the rules: {message}")]
    ToolFailed {
        /// The program.
        program: String,
        /// Its last words.
        message: String,
    },
    /// Somebody else's rules drop what our own let pass.
    #[error(
        "packets from the network {network} do not leave the host: the chain {chain} of the firewall's table {table} drops what it does not know"
    )]
    Gate {
        /// The network.
        network: String,
        /// Its bridge.
        bridge: String,
        /// Family and name of the table.
        table: String,
        /// The chain.
        chain: String,
    },
    /// The host's port is taken.
    #[error("publish {protocol} port {host}: it is taken{}", owner_text(.owner))]
    PortTaken {
        /// Address and port.
        host: String,
        /// The protocol.
        protocol: Protocol,
        /// Who has it, as far as can be seen.
        owner: Option<PortOwner>,
    },
    /// All of a range of the host's ports is taken.
    #[error("publish one of the {protocol} ports {range}: all are taken")]
    PortsTaken {
        /// Address and ports.
        range: String,
        /// The protocol.
        protocol: Protocol,
    },
    /// A socket could not be made.
    #[error("{operation}")]
    Socket {
        /// The operation and its object.
        operation: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Several parts of one teardown failed; each is told.
    #[error("{operation}: {}", .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several {
        /// What was being done.
        operation: String,
        /// What went wrong, in order.
        errors: Vec<NetworkError>,
    },
    /// A plugin, or what it needs.
    #[error(transparent)]
    Cni(Box<CniError>),
    /// The thread behind a request ended without an answer.
    #[error("{0}: the worker thread ended")]
    WorkerLost(&'static str),
}

/// Says who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOwner {
    /// A process that is none of ours.
    Process {
        /// Its process id.
        pid: u32,
        /// Its command line, shortened.
        command: String,
    },
    /// A container of ours, by its name.
    Container(String),
}

impl From<CniError> for NetworkError {
    fn from(error: CniError) -> Self {
        Self::Cni(Box::new(error))
    }
}

fn owner_text(owner: &Option<PortOwner>) -> String {
    match owner {
        Some(PortOwner::Process { pid, command }) => format!(" by process {pid} ({command})"),
        Some(PortOwner::Container(name)) => format!(" by the container {name}"),
        None => String::new(),
    }
}

impl NetworkError {
    /// Names the known cause and the way out, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Namespace { source, .. } => source.hint(),
            Self::Store(source) => source.hint(),
            Self::Cni(source) => source.hint(),
            Self::UnknownNetwork(_) => Some(
                "`mydocker network ls` lists networks; a CNI configuration list of that name would lie in cni/, in `--cni-conf-dir` or in \
                 /etc/cni/net.d"
                    .to_owned(),
            ),
            Self::NoFreeAddress { network, .. } => Some(format!(
                "give the network a larger `subnet:` or `ip_range:`; `mydocker network inspect {network}` shows who has which address"
            )),
            Self::BridgeFull { bridge, .. } => Some(format!(
                "divide the containers among several networks; `ip link show master {bridge}` lists the ports"
            )),
            Self::Unsupported { module, config, .. } => {
                Some(format!("load the module (`modprobe {module}`), or use a kernel that was built with {config}"))
            }
            Self::NotPutBack { first, .. } => first.hint(),
            Self::Netlink { source, operation } => netlink_hint(source, operation),
            Self::ToolMissing("nft") => {
                Some("nft is part of the package nftables: `apt install nftables`, `dnf install nftables`".to_owned())
            }
            Self::ToolMissing(program) => {
                Some(format!("{program} is part of the package iptables: `apt install iptables`, `dnf install iptables-nft`"))
            }
            Self::ToolFailed { message, .. } if message.contains("Permission denied") => {
                Some("changing rules needs CAP_NET_ADMIN; run as root".to_owned())
            }
            Self::ToolFailed { .. } => Some("`iptables-save` shows the rules; a kernel without nf_tables or nf_nat cannot do NAT".to_owned()),
            Self::Gate { bridge, table, chain, .. } => Some(format!(
                "its owner makes an exception: `nft insert rule {table} {chain} iifname {bridge} accept` and \
                 `nft insert rule {table} {chain} oifname {bridge} ct state established,related accept`, for published ports also \
                 `nft insert rule {table} {chain} oifname {bridge} ct status dnat accept`"
            )),
            Self::NoFreeSubnet { .. } => Some("give the network a `subnet:` of its own; `ip route show table all` shows what is in use".to_owned()),
            Self::SubnetOverlap { .. } => Some("choose another `subnet:`, or none; `ip route show table all` shows what is in use".to_owned()),
            Self::Sysctl { .. } => Some("without forwarding no packet leaves the bridge; a read-only /proc/sys needs `sysctl -w net.ipv4.ip_forward=1`, of IPv6 `net.ipv6.conf.all.forwarding=1`, outside".to_owned()),
            Self::PortTaken { owner: None, .. } | Self::PortsTaken { .. } => Some("`ss -lntup` as root shows who has it".to_owned()),
            Self::PortTaken { owner: Some(PortOwner::Process { pid, .. }), .. } => {
                Some(format!("end process {pid} or publish another port"))
            }
            Self::PortTaken { owner: Some(PortOwner::Container(name)), .. } => {
                Some(format!("stop {name} or publish another port"))
            }
            Self::Socket { source, .. } if source.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                Some("no interface of the host has this address: `ip address` shows them".to_owned())
            }
            Self::Different { .. } => Some("it is made anew when no container uses it: `mydocker compose down`, then `up`".to_owned()),
            Self::NoIpv6 { .. } => NetnsError::NoIpv6.hint(),
            Self::Several { errors, .. } => errors.iter().find_map(Self::hint),
            _ => None,
        }
    }
}

/// Writes an error with its causes.
fn chain(error: &NetworkError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn netlink_hint(source: &io::Error, operation: &str) -> Option<String> {
    match source.raw_os_error()? {
        libc::EPERM => Some("changing interfaces needs CAP_NET_ADMIN in the network namespace; run as root".to_owned()),
        libc::EOPNOTSUPP if operation.contains("bridge") => {
            Some("this kernel has no bridge: `modprobe bridge`, or CONFIG_BRIDGE".to_owned())
        }
        libc::EOPNOTSUPP if operation.contains("addresses") => {
            Some("the container's network namespace has no IPv6".to_owned())
        }
        libc::EOPNOTSUPP => Some("this kernel has no veth: `modprobe veth`, or CONFIG_VETH".to_owned()),
        _ => None,
    }
}
