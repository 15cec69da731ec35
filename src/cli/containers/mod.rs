#![doc = include_str!("README.md")]

mod dispatch;
mod exec;
mod filter;
mod find;
mod inspect;
mod logs;
mod port;
mod ps;
mod requests;
mod rm;
mod stats;
mod template;
mod top;
mod verbs;
mod wait;

pub(super) use dispatch::{family, run};
