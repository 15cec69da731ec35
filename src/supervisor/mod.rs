#![doc = include_str!("README.md")]

mod config;
pub mod control;
pub mod converge;
pub mod desired;
pub mod health;
mod record;
pub mod restart;

pub use config::BootConfig;
pub use record::{ContainerRecord, Intent, Phase, ProjectRecord, Records};
