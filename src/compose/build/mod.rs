#![doc = include_str!("README.md")]

mod devices;
mod limits;
mod logging;
mod mounts;
mod names;
mod network;
mod places;
mod project;
mod reader;
mod security;
mod service;
mod volume;

pub use logging::logging_of;
pub(super) use project::{group, project};
