#![doc = include_str!("README.md")]

mod node;
mod parse;
mod scalar;

pub(super) use node::{Entry, Map, Node, NodeTag, Value};
pub(super) use parse::{MAX_NODES, parse};
pub(super) use scalar::resolve_plain;
