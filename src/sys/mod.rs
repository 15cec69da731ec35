#![doc = include_str!("README.md")]

pub mod channel;
pub mod message;
pub mod netdevice;

pub use channel::{Channel, Frame, Received};
pub use message::{parse_message, send_message};
