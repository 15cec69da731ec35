#![doc = include_str!("README.md")]

mod add;
mod check;
mod conf;
mod configuration;
mod container;
mod cubes;
mod error;
mod forwarding;
mod host_rules;
mod ipam;
mod kernel;
mod names;
mod plugin;
mod record;
mod release;
mod rest;
mod uplink;

pub(in crate::network) use configuration::{
    list_of, needs_forwarding, offer_plugin, plugin_directory, with_firewall, withdraw_plugin,
};
pub use error::PolycubeError;
pub(in crate::network) use host_rules::{UplinkRules, published_at, uplinks};
pub use kernel::disown;
pub use plugin::{Answer, VERSIONS, answer};
