//! What a file of /proc/PID/ns is (ioctl_nsfs(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Returns the `CLONE_NEW*` bit of the namespace that `fd` is open on (NS_GET_NSTYPE, Linux 4.11).
///
/// # Errors
/// ENOTTY where it is no namespace.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: NS_GET_NSTYPE takes no argument and answers with a number.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as u64) }
}
