#![doc = include_str!("README.md")]

mod config;
mod error;
mod record;

pub use config::{DriverKind, NetworkConfig, PortMapping, Protocol};
pub use error::{NetworkError, PortOwner};
pub use record::{AttachRequest, Attachment, BridgeRecord, HostLink, MacAddress, NetworkRecord, PublishedPort};
