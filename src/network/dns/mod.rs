#![doc = include_str!("README.md")]

mod answer;
mod directory;
mod forward;
mod names;
mod resolv_conf;
mod server;

pub(super) use directory::{remove_all_names, remove_names, sweep_names};
pub use forward::Resolvers;
pub(super) use names::NAMES;
pub use names::{NameEntry, NameTable, NameView};
pub use resolv_conf::{plain_resolv_conf, resolv_conf};
pub use server::{DNS_ADDRESS, DnsSockets, open_dns_sockets, serve};
