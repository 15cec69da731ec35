#![doc = include_str!("README.md")]

mod driver;
mod link;
mod parent;
mod settings;

pub(in crate::network) use driver::LanDriver;
pub(in crate::network) use parent::{allocate, has_parent};
pub(in crate::network) use settings::LanSettings;
