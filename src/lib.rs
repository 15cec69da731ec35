#![doc = include_str!("README.md")]

pub mod spec;
pub mod sys;
