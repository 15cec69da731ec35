#![doc = include_str!("README.md")]

pub mod compose;
pub mod spec;
pub mod store;
pub mod sys;
