#![doc = include_str!("README.md")]

mod bundle;
mod checks;
mod describe;
mod error;
mod exec;
mod init;
mod limits;
mod plan;
mod planner;
mod prepare;
mod protocol;
pub mod spawn;

pub use bundle::{BundleOptions, Join, prepare_bundle};
pub use error::{ContainerError, SpawnError};
pub use exec::{ExecCommand, plan_exec};
pub use plan::{Action, FilterProgram, LaunchPlan, ResourceLimit, Role, UserChoice};
pub use prepare::{CgroupView, Confinement, ContainerPaths, Prepared, StartOptions, UserNamespacePlan, prepare};
pub use protocol::{InitChannel, InitEvent, InitMessage, LaunchFailure};
pub use spawn::{
    ExecFds, ExecPending, ExecRequest, SpawnFds, SpawnRequest, spawn_exec, spawn_init, spawn_init_with_plan,
};
