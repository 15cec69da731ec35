#![doc = include_str!("README.md")]

mod conform;
mod deploy;
mod kind;
mod ports;
mod root;
mod scalars;
mod service;
mod shell;
mod short;
mod support;
#[cfg(test)]
mod tests;

pub(super) use conform::Conform;
pub(super) use kind::{Field, Kind, Merge, Support, Table};
pub(super) use ports::range as port_range;
pub(super) use root::ROOT;
pub(super) use service::SERVICE;
pub(super) use support::check_support;
