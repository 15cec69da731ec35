//! Typed messages in the frames of a [`Channel`]: JSON, so that a trace of a socket can be read.

use std::io;
use std::os::fd::BorrowedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{Channel, Frame};

/// Sends `message` as one frame with `fds`, waiting for room.
///
/// # Errors
/// As [`Channel::send`].
pub fn send_message<T: Serialize>(channel: &Channel, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds)
}

/// Reads the message of a frame.
///
/// # Errors
/// `InvalidData` naming the type that was expected and the beginning of what came.
pub fn parse_message<T: DeserializeOwned>(frame: &Frame) -> io::Result<T> {
    serde_json::from_slice(&frame.bytes).map_err(|error| {
        let expected = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        let shown = String::from_utf8_lossy(&frame.bytes[..frame.bytes.len().min(80)]);
        io::Error::new(io::ErrorKind::InvalidData, format!("expected a {expected} message, got `{shown}`: {error}"))
    })
}
