#![doc = include_str!("README.md")]

mod reaper;

pub use reaper::serve;
