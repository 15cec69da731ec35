#![doc = include_str!("README.md")]

pub mod config;
mod dispatch;
pub mod down;
pub mod exec;
mod foreground;
pub mod kill;
pub mod logs;
mod policy;
pub mod port;
pub mod ps;
mod requests;
pub mod restart;
pub mod start;
pub mod stop;
pub mod up;

pub use dispatch::run;
