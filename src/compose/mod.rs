#![doc = include_str!("README.md")]

mod api;
mod build;
mod check;
mod defaults;
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
mod render;
pub mod risks;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod wishes;
mod yaml;

pub use api::{Config, LoadErrors, Loaded, config, environment, judge, load, load_judged, variables};
pub use build::logging_of;
pub use diagnostic::{Diagnostic, Place, Severity, escape};
pub use interpolate::Variable;
pub use load::{LoadRequest, Skip};
pub use render::Document;
pub use source::SourceError;
pub use wishes::{HostWish, HostWishKind};
