#![doc = include_str!("README.md")]

mod bundle;
mod console;
mod create;
mod delete;
mod error;
mod hooks;
mod id;
mod kill;
mod process;
mod record;
mod runtime;
mod start;
mod state;
mod status;

pub use bundle::{Bundle, read_json};
pub use create::{CreateJob, CreatedContainer, TerminalTaker, create};
pub use delete::delete;
pub use error::OciError;
pub use id::OciId;
pub use kill::kill;
pub use record::{ContainerRecord, StateReport};
pub use runtime::{CgroupDriver, Container, Runtime};
pub use start::start;
pub use state::{ContainerDirectory, Listing, StateRoot};
pub use status::Status;
