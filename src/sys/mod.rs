#![doc = include_str!("README.md")]
#![expect(unsafe_code, reason = "this folder is the wall around it: everything it offers is safe to call")]

pub mod capability;
pub mod channel;
pub mod message;
pub mod netdevice;
pub mod seccomp;
pub mod wait;

pub use channel::{Channel, Frame, Received};
pub use message::{parse_message, send_message};
