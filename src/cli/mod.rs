#![doc = include_str!("README.md")]

mod app;
pub mod args;
pub mod client;
mod cni;
pub mod commands;
pub mod compose;
pub mod connect;
pub mod containers;
pub mod exit;
pub mod follow;
mod host;
pub mod legacy;
pub mod oci;
pub mod output;
pub mod plugin;
mod pools;
pub mod progress;
pub mod project;
pub mod report;
pub mod runtime;
pub mod session;
pub mod settings;
pub mod state;
pub mod style;
mod table;
pub mod terminal;

pub use app::{may_start_containers, measures, run, start_tracing};
