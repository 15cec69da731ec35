#![doc = include_str!("README.md")]

mod bundle;
mod checks;
mod config;
mod describe;
mod error;
mod exec;
pub mod explain;
mod from_devices;
mod from_mounts;
mod from_namespaces;
mod from_net_devices;
mod from_process;
mod init;
mod labels;
mod limits;
mod plan;
mod planner;
mod prepare;
mod protocol;
mod set_up;
pub mod spawn;
mod words;

pub use bundle::{BundleOptions, Join, prepare_bundle};
pub use config::{Config, parse_config, parse_process};
pub use error::{ContainerError, SpawnError};
pub use exec::{ExecCommand, plan_exec, plan_exec_process};
pub use plan::{Action, FilterProgram, HookCall, LaunchPlan, ResourceLimit, Role, SecurityLabel, UserChoice};
pub use planner::needs_host_mounts;
pub use prepare::{CgroupView, Confinement, ContainerPaths, HostDevice, Prepared, StartOptions, prepare};
pub use protocol::{InitChannel, InitEvent, InitMessage, LaunchFailure};
pub use set_up::{SetUp, UserNamespacePlan};
pub use spawn::{
    ExecFds, ExecPending, ExecRequest, SpawnFds, SpawnRequest, spawn_exec, spawn_init, spawn_init_with_plan,
};
