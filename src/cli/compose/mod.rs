//! Commands on a project: one file a command, each with one public `run`.

mod dispatch;

pub use dispatch::run;
