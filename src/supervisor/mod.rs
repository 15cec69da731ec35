#![doc = include_str!("README.md")]

mod config;
mod container;
pub mod control;
mod converge;
mod desired;
mod dispatcher;
mod event;
mod explain;
mod health;
mod links;
mod mounts;
mod orchestrate;
mod record;
mod restart;
mod serve;
mod sharing;

pub use config::BootConfig;
pub use desired::Desired;
pub use explain::{ExplainError, OneOff, explain, one_off};
pub use record::{ContainerRecord, Intent, Phase, ProjectRecord, Records};
pub use serve::run;
pub use sharing::{NetworkOwner, find_running};
