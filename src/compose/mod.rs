#![doc = include_str!("README.md")]

mod check;
mod diagnostic;
mod dotenv;
mod extends;
mod files;
pub mod graph;
mod include;
mod interpolate;
mod key_path;
mod load;
mod merge;
pub mod model;
mod normalize;
mod paths;
mod schema;
mod source;
mod yaml;

pub use diagnostic::{Diagnostic, Place, Severity, escape};
pub use load::LoadRequest;
pub use source::SourceError;
