#![doc = include_str!("README.md")]

mod failure;
pub mod protocol;
mod server;

pub use server::Server;
