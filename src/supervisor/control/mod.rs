//! The socket between clients and the supervisor.

pub mod protocol;
