//! The built-in init: PID 1 that forwards signals to its one child, reaps every other, and ends as the child ends.

use rustix::process::{WaitOptions, wait};

use crate::sys::process::{send_signal, wait_for_signal};

/// Serves as PID 1 for `child` until it ends; returns the status to exit with: the child's own, or 128 + signal.
///
/// All signals must be blocked since before the child was made: none is lost between fork and the first wait.
pub fn serve(child: i32) -> i32 {
    loop {
        if let Some(status) = reap(child) {
            return status;
        }
        match wait_for_signal() {
            Ok(libc::SIGCHLD) | Err(_) => {}
            // The child may have ended just now: then the next reap says so.
            Ok(signal) => drop(send_signal(child, signal)),
        }
    }
}

/// Reaps whatever has ended; the status of `child` once that is among it.
fn reap(child: i32) -> Option<i32> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                return status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return None,
            Err(_) => return Some(125),
        }
    }
}
