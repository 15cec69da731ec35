#![doc = include_str!("README.md")]

mod case;
mod command;
mod hanging;
mod host;
mod namespace;
mod project;
mod sandbox;
mod terminal;
mod wait;

pub(crate) use case::{Case, cases, run_all, run_one_by_one};
pub(crate) use command::{Output, Running};
pub(crate) use hanging::HangingFs;
pub(crate) use host::Need;
pub(crate) use namespace::inside_network;
pub(crate) use project::{Container, Project};
pub(crate) use sandbox::{MYDOCKER, Sandbox, rootfs};
pub(crate) use terminal::Terminal;
pub(crate) use wait::{PATIENCE, eventually};
