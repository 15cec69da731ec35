//! CNI networks on a real kernel: a plugin that records what it is told, and the reference plugins of Debian's
//! containernetworking-plugins. Each test has a host of its own.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod host;
mod real;
mod recorder;
