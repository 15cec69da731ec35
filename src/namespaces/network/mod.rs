#![doc = include_str!("README.md")]

mod enter;
mod ipv6;
mod loopback;

pub use enter::{NetnsError, in_namespace, open_current, spawn_in_namespace};
pub use ipv6::{has_ipv6_here, switch_ipv6_here};
pub use loopback::{announce_new_addresses, bring_up_loopback, prepare, prepare_here, raise_loopback_here};
