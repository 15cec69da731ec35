//! One container as an actor: it owns its process and its record, and does what its inbox says.

mod actor;
mod command;
mod launch;
mod probe;
mod resume;
mod run;

pub use actor::Container;
pub use command::{ContainerCommand, ContainerHandle, EndSource};
pub use resume::Inherited;
