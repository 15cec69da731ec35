#![doc = include_str!("README.md")]

mod mounts;
mod network;
mod project;
mod service;

pub use mounts::{Volume, VolumeMount, VolumeMountKind, VolumeSource};
pub use network::{Ipam, IpamPool, Network, NetworkMode, ServiceNetwork};
pub use project::Project;
pub use service::{Dependency, DependencyCondition, ImageRef, Logging, Port, PortProtocol, Service};
