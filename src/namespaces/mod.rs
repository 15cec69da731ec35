#![doc = include_str!("README.md")]

pub mod cgroup;
pub mod ipc;
pub mod mount;
pub mod network;
pub mod pid;
pub mod user;
pub mod uts;

mod set;

pub use set::{Namespace, NamespaceSet};
