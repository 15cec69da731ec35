use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use ipnetwork::IpNetwork;

use crate::spec::{InterfaceName, MacAddress};

/// `network`: networks by hand.
#[derive(Debug, Args)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
#[command(after_help = "Example: mydocker network create --driver cni -o conflist=dbnet db")]
pub struct NetworkArgs {
    /// The command.
    #[command(subcommand)]
    pub command: NetworkCommand,
}

/// What is to be done with networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// List networks
    #[command(after_help = "Example: mydocker network ls", alias = "list")]
    Ls(NetworkListArgs),
    /// Show networks and who is on them, as JSON
    #[command(after_help = "Example: mydocker network inspect shop_default")]
    Inspect(NetworkNames),
    /// Make a network
    #[command(after_help = "Example: mydocker network create --subnet 10.40.0.0/24 back")]
    Create(Box<NetworkCreateArgs>),
    /// Remove networks that nobody uses
    #[command(after_help = "Example: mydocker network rm back", alias = "remove")]
    Rm(NetworkNames),
    /// Remove all networks that nobody uses and no project made
    #[command(after_help = "Example: mydocker network prune")]
    Prune(NetworkPruneArgs),
    /// Compare networks with their records; ask CNI plugins (CHECK)
    #[command(after_help = "Example: mydocker network check shop_default")]
    Check(NetworkCheckArgs),
    /// Attach the network namespace of any process to a bridge, as netsetgo does
    #[command(after_help = "Example: mydocker network attach --pid 4711 --bridge brg0 --address 10.10.10.7")]
    Attach(AttachArgs),
}

/// `network ls`.
#[derive(Debug, Args)]
pub struct NetworkListArgs {
    /// Print names alone
    #[arg(short, long)]
    pub quiet: bool,
    /// table or json
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

/// `network prune`.
#[derive(Debug, Args)]
pub struct NetworkPruneArgs {
    /// Nothing is ever asked; for scripts that say it to Docker
    #[arg(short, long)]
    pub force: bool,
}

/// Networks by name or id.
#[derive(Debug, Args)]
pub struct NetworkNames {
    /// Name or id
    #[arg(required = true, value_name = "NETWORK")]
    pub names: Vec<String>,
}

/// `network check`.
#[derive(Debug, Args)]
pub struct NetworkCheckArgs {
    /// Name or id; all where none is named
    #[arg(value_name = "NETWORK")]
    pub names: Vec<String>,
}

/// `network create`.
#[derive(Debug, Args)]
pub struct NetworkCreateArgs {
    /// Who makes it: bridge, macvlan, ipvlan, cni, none
    #[arg(short, long, default_value = "bridge", value_parser = ["bridge", "macvlan", "ipvlan", "cni", "none"])]
    pub driver: String,
    /// Its addresses.
    #[command(flatten)]
    pub pools: PoolArgs,
    /// No way out
    #[arg(long)]
    pub internal: bool,
    /// An option of the driver, more than once for several
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// A label
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Its name
    pub name: String,
}

/// The addresses of a network.
#[derive(Debug, Default, Args)]
pub struct PoolArgs {
    /// Give IPv6 addresses as well, of a unique local subnet where no `--subnet` is one of IPv6
    #[arg(long)]
    pub ipv6: bool,
    /// `--ipv4=false`: give no IPv4 addresses
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, require_equals = true)]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    pub ipv4: bool,
    /// A subnet, of IPv4 or IPv6, more than once for several
    #[arg(long = "subnet", value_name = "ADDRESS/PREFIX")]
    pub subnets: Vec<IpNetwork>,
    /// The containers' gateway in the subnet that it lies in: the bridge's own address, or that of the LAN's router [default: the
    /// first]
    #[arg(long = "gateway", value_name = "ADDRESS")]
    pub gateways: Vec<IpAddr>,
    /// The part of its subnet that containers get
    #[arg(long = "ip-range", value_name = "ADDRESS/PREFIX")]
    pub ip_ranges: Vec<IpNetwork>,
    /// An address that no container gets
    #[arg(long = "aux-address", value_name = "NAME=ADDRESS")]
    pub aux_addresses: Vec<String>,
}

/// `network attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,
    /// The bridge; it is made where it is missing
    #[arg(long, value_name = "NAME", default_value = "brg0")]
    pub bridge: InterfaceName,
    /// The bridge's addresses [default subnet: 10.10.10.0/24].
    #[command(flatten)]
    pub pools: PoolArgs,
    /// The process's address, once for each of IPv4 and IPv6 [default: the first that is free]
    #[arg(long = "address", value_name = "ADDRESS")]
    pub addresses: Vec<IpAddr>,
    /// Its interface's name
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub ifname: InterfaceName,
    /// Its interface's hardware address
    #[arg(long, value_name = "ADDRESS")]
    pub mac: Option<MacAddress>,
}

/// `cni`: the plugins of a configuration by hand.
#[derive(Debug, Args)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
#[command(after_help = "Example: mydocker cni add --netns /proc/4711/ns/net dbnet")]
pub struct CniArgs {
    /// The command.
    #[command(subcommand)]
    pub command: CniCommand,
}

/// What plugins are to do.
#[derive(Debug, Subcommand)]
pub enum CniCommand {
    /// Attach a network namespace (ADD) and print the result
    #[command(after_help = "Example: mydocker cni add --netns /proc/4711/ns/net --container-id c1 cni/dbnet.conflist")]
    Add(CniAddArgs),
    /// Detach it (DEL), as it was attached
    #[command(after_help = "Example: mydocker cni del --container-id c1")]
    Del(CniTarget),
    /// Ask whether it is attached as it was (CHECK)
    #[command(after_help = "Example: mydocker cni check --container-id c1")]
    Check(CniTarget),
    /// Remove what belongs to no attachment (GC)
    #[command(after_help = "Example: mydocker cni gc dbnet")]
    Gc(CniList),
    /// Ask whether the plugins are ready (STATUS), and which versions they speak
    #[command(after_help = "Example: mydocker cni status dbnet")]
    Status(CniList),
}

/// `cni add`.
#[derive(Debug, Args)]
pub struct CniAddArgs {
    /// The network namespace
    #[arg(long, value_name = "PATH")]
    pub netns: PathBuf,
    /// Which attachment.
    #[command(flatten)]
    pub target: CniTarget,
    /// CNI_ARGS
    #[arg(long, value_name = "KEY=VALUE;…", default_value = "")]
    pub args: String,
    /// A capability with its value, more than once for several: mac='"02:00:00:00:00:01"'
    #[arg(long = "capability", value_name = "NAME=JSON")]
    pub capabilities: Vec<String>,
    /// The configuration.
    #[command(flatten)]
    pub list: CniList,
}

/// Which attachment.
#[derive(Debug, Args)]
pub struct CniTarget {
    /// CNI_CONTAINERID
    #[arg(long, value_name = "ID", default_value = "by-hand")]
    pub container_id: String,
    /// CNI_IFNAME
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub ifname: InterfaceName,
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct CniList {
    /// Name, looked for in ./cni, --cni-conf-dir and /etc/cni/net.d, or path
    #[arg(value_name = "NAME or PATH")]
    pub list: String,
    /// How many seconds a plugin may take
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub timeout: u64,
}
