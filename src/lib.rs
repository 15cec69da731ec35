#![doc = include_str!("README.md")]

pub mod capabilities;
pub mod cli;
pub mod compose;
pub mod container;
pub mod engine;
pub mod keeper;
pub mod logs;
pub mod namespaces;
pub mod network;
pub mod seccomp;
pub mod shim;
pub mod spec;
pub mod store;
pub mod supervisor;
pub mod sys;
