//! Interfaces of containers on a real kernel: parents that are shared, limits, addresses that change hands, a bridge that is
//! full. Each test has a host of its own.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

#[expect(dead_code, reason = "the tests of CNI plugins use the rest of it")]
#[path = "../cni/host.rs"]
mod host;
mod lan;
mod place;
