#![doc = include_str!("README.md")]

mod files;
mod shim_link;

pub use files::{ContainerFiles, FilesError};
pub use shim_link::{ShimError, ShimEvent, ShimLink};
