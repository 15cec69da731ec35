#![doc = include_str!("README.md")]

mod parent;
mod protocol;

pub use parent::run;
pub use protocol::{ShimChild, ShimReply, ShimRequest};
