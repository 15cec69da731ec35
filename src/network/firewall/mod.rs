#![doc = include_str!("README.md")]

mod apply;
mod back_end;
mod gates;
mod iptables;
mod nftables;
mod plan;
mod rules;
mod watch;

pub(super) use apply::Firewall;
pub use back_end::{FirewallChoice, FirewallOptions};
pub use watch::RuleWatch;
