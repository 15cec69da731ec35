#![doc = include_str!("README.md")]

mod answer;
mod forward;
mod names;
mod resolv_conf;
mod server;

pub use forward::Resolvers;
pub use names::{NameEntry, NameTable, NameView};
pub use resolv_conf::{plain_resolv_conf, resolv_conf};
pub use server::{DNS_ADDRESS, DnsSockets, open_dns_sockets, serve};
