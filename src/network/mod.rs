#![doc = include_str!("README.md")]

mod allocate;
mod announce;
mod bandwidth;
mod bridge;
mod config;
mod connection;
mod conntrack;
mod datagram;
mod dead;
mod devices;
mod driver;
mod error;
mod examine;
mod firewall;
mod forwarding;
mod inside;
mod ipam;
mod lan;
mod link;
mod lost;
mod networks;
mod nfnetlink;
mod ports;
mod proxy;
mod readiness;
mod record;
mod settings;
mod state;
mod subnets;

pub mod cni;
pub mod dns;
pub mod polycube;

pub use config::{AddressPool, DriverKind, NetworkConfig, PortMapping, Protocol};
pub use devices::MovedDevices;
pub use driver::{DriverFuture, NetworkDriver};
pub use error::{NetworkError, PortOwner};
pub use examine::Finding;
pub use firewall::{FirewallChoice, FirewallOptions, RuleWatch};
pub use networks::Networks;
pub use ports::PortReservation;
pub use proxy::{Targets, serve_proxy, serve_udp_proxy};
pub use readiness::watch;
pub use record::{
    AttachRequest, Attachment, BridgeRecord, HostLink, LanRecord, NetworkRecord, NetworkSubnet, OwnParent,
    PublishedPort,
};
