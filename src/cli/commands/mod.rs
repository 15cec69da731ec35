//! Commands that are not about a project: one file a command, each with one public `run`.

pub mod run;
pub mod version;
