#![doc = include_str!("README.md")]

mod app;
pub mod args;
pub mod commands;
pub mod compose;
pub mod exit;
pub mod legacy;
pub mod report;
pub mod settings;
pub mod style;

pub use app::{run, start_tracing};
