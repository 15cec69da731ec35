#![doc = include_str!("README.md")]

mod apply;
mod plan;
mod rules;

pub(super) use apply::{Firewall, change_rules, saved_rules};
