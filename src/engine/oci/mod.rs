#![doc = include_str!("README.md")]

mod bundle;
mod console;
mod create;
mod delete;
mod error;
mod exec;
mod hooks;
mod id;
mod kill;
mod pause;
mod process;
mod processes;
mod record;
mod run;
mod runtime;
mod start;
mod state;
mod status;
mod update;

pub use bundle::{Bundle, pass_sockets, read_json};
pub use create::{CreateJob, CreatedContainer, TerminalTaker, create};
pub use delete::delete;
pub use error::OciError;
pub use exec::{ExecJob, exec, exec_detached, exec_target};
pub use id::OciId;
pub use kill::kill;
pub use pause::{pause, resume};
pub use processes::processes;
pub use record::{ContainerRecord, StateReport};
pub use run::{run, run_detached};
pub use runtime::{CgroupDriver, Container, Runtime};
pub use start::start;
pub use state::{ContainerDirectory, Listing, StateRoot};
pub use status::Status;
pub use update::update;
