#![doc = include_str!("README.md")]

mod actor;
mod command;
mod launch;
mod probe;
mod resume;
mod run;

pub use actor::Container;
pub use command::{ContainerCommand, ContainerHandle, EndSource};
pub use resume::Inherited;
