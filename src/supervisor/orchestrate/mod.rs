#![doc = include_str!("README.md")]

mod objects;
mod order;
mod ports;
mod reporter;
mod single;
mod up;
mod wait;
mod work;

pub use objects::{lost_networks, restore_networks};
pub use reporter::Reporter;
pub use work::{Stopped, Work};
