#![doc = include_str!("README.md")]

mod detacher;
mod devices;
mod error;
mod exec;
pub mod explain;
mod files;
pub mod foreground;
mod host;
mod launch;
mod networking;
pub mod oci;
mod passing;
mod ports;
mod running;
mod shim_link;

pub use crate::network::watch;
pub use error::LaunchError;
pub use exec::{ExecJob, ExecTarget, Executed, exec};
pub use files::{ContainerFiles, FilesError};
pub use host::{Host, SUPERVISION};
pub use launch::{Created, Job, Live, Output, Places, clear, clear_remains, create, start};
pub use networking::{Guest, NetworkWish, Networking};
pub use passing::PassingNetworks;
pub use running::{RunningContainer, SharedNamespaces, shown};
pub use shim_link::{ShimError, ShimEvent, ShimLink, Spawned, process_ended};
