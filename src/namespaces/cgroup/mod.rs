#![doc = include_str!("README.md")]

mod bundle;
mod create;
mod error;
mod files;
mod handle;
mod hierarchy;
mod kill;
mod limits;
mod path;
mod remove;
mod resources;
mod stats;
#[cfg(test)]
mod tests;
mod v1;

pub use bundle::{CgroupRecord, bundle_path};
pub use error::CgroupError;
pub use handle::Cgroup;
pub use hierarchy::Hierarchies;
pub use limits::Controller;
pub use path::CgroupPath;
pub use stats::CgroupStats;
