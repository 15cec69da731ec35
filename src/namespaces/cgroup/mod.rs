#![doc = include_str!("README.md")]

mod create;
mod error;
mod files;
mod handle;
mod hierarchy;
mod kill;
mod limits;
mod path;
mod remove;
mod stats;
#[cfg(test)]
mod tests;
mod v1;

pub use error::CgroupError;
pub use handle::Cgroup;
pub use hierarchy::Hierarchies;
pub use limits::Controller;
pub use path::CgroupPath;
pub use stats::CgroupStats;
