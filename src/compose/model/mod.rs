//! What a compose file means once it is loaded: checked, every default filled in, short forms written out.

mod mounts;
mod network;
mod project;
mod service;

pub use mounts::{Volume, VolumeMount, VolumeMountKind};
pub use network::{Ipam, IpamPool, Network, NetworkMode, ServiceNetwork};
pub use project::Project;
pub use service::{Dependency, DependencyCondition, ImageRef, Logging, Port, PortProtocol, Service};
