//! The socket between clients and the supervisor.

mod failure;
pub mod protocol;
mod server;

pub use server::Server;
