#![doc = include_str!("README.md")]

mod bundle;
#[cfg(test)]
mod bundle_tests;
mod controller;
mod create;
mod descend;
mod devices;
mod error;
mod files;
mod handle;
mod hierarchy;
mod kill;
mod library;
mod limits;
mod measure;
mod oom;
mod path;
mod plan;
mod real_time;
mod remove;
mod resources;
mod statistics;
mod stats;
#[cfg(test)]
mod tests;

pub use bundle::{CgroupRecord, bundle_path};
pub use controller::Controller;
pub use error::CgroupError;
pub use handle::Cgroup;
pub use hierarchy::Hierarchies;
pub use oom::OomWatch;
pub use path::CgroupPath;
pub use plan::{CgroupPlan, PlannedDirectory, PlannedWrite};
pub use statistics::{
    BlockEntry, BlockStatistics, CpuStatistics, CpuUsage, CpusetStatistics, HugePageStatistics, InterfaceStatistics,
    MemoryStatistics, MemoryUsage, PidStatistics, Pressure, Stall, Statistics, Throttling,
};
pub use stats::CgroupStats;
