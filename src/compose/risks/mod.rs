#![doc = include_str!("README.md")]

mod binds;
mod capabilities;
mod devices;
mod finder;
mod host;
mod places;
mod risk;
mod service;
#[cfg(test)]
mod tests;

pub(super) use finder::risks_of;
pub use host::Host;
pub use risk::{Judgement, Risk, RiskLevel};
