//! pidfds: a process that no other can take the place of (pidfd_open(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends any signal, real-time ones too, to the process behind `pidfd` (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH where it has ended and was reaped; EINVAL for a number that is no signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal(2) reads no memory of ours where the siginfo pointer is null.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
