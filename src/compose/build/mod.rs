//! Turns a normalised and checked tree into the model: every value becomes its type, and what the type refuses is reported.

mod limits;
mod logging;
mod mounts;
mod network;
mod project;
mod reader;
mod security;
mod service;

pub(super) use project::project;
