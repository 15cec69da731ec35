#![doc = include_str!("README.md")]

pub mod channel;

pub use channel::{Channel, Frame, Received};
