#![doc = include_str!("README.md")]

mod answer;
mod forward;
mod names;
mod server;

pub use forward::Resolvers;
pub use names::{NameEntry, NameTable, NameView};
pub use server::{DNS_ADDRESS, DnsSockets, open_dns_sockets, resolv_conf, serve};
