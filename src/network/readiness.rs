//! Waiting for descriptors with tokio.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime, to be waited for.
///
/// `inner` must own its descriptor and name the same one for as long as it lives, as every type here does that wraps an
/// `OwnedFd` (tokio's successor of this call is unsafe only because a foreign type might not).
///
/// # Errors
/// What epoll_ctl(2) says: EPERM for a file, ENOSPC past the limit of watches.
#[expect(deprecated, reason = "the successor is an unsafe fn, and unsafe code is for src/sys, which has no tokio")]
pub fn watch<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}
