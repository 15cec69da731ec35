#![doc = include_str!("README.md")]

pub mod cni;
pub mod explain;
pub mod network;
pub mod run;
pub mod version;
