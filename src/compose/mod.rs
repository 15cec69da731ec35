#![doc = include_str!("README.md")]

mod diagnostic;
mod interpolate;
mod key_path;
pub mod model;
mod schema;
mod source;
mod yaml;

pub use diagnostic::{Diagnostic, Place, Severity, escape};
pub use source::SourceError;
