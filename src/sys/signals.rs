//! Signals as something to read: signalfd(2), with every signal number (nix's and rustix's enums stop at 31).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Takes signals that would otherwise have interrupted or ended this process.
#[derive(Debug)]
pub struct SignalReader(OwnedFd);

impl SignalReader {
    /// Blocks these signals in the calling thread, and so in every thread that it starts, and takes them from now on.
    ///
    /// They stay blocked when the reader is gone: what comes after that is never seen.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn block(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let set = signals.into_iter().filter(|n| (1..=64).contains(n)).fold(0_u64, |set, n| set | 1 << (n - 1));
        let no_old = std::ptr::null_mut::<u8>();
        // SAFETY: `set` is a kernel signal set of the eight bytes given; no old set is asked for.
        let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, no_old, 8) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: as above; -1 asks for a new descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set, 8, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Takes the next signal that is pending; `None` where there is none.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn take(&self) -> io::Result<Option<i32>> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.0, &mut info) {
                // ssi_signo is the first field, 32 bits wide.
                Ok(count) if count == info.len() => {
                    return Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])));
                }
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SignalReader {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_once_real_time_ones_too() {
        // A thread of its own: the mask is a thread's.
        std::thread::spawn(|| {
            let signals = SignalReader::block([libc::SIGUSR2, 40]).unwrap();
            assert_eq!(signals.take().unwrap(), None);
            // SAFETY: it takes nothing and cannot fail.
            let this = unsafe { libc::pthread_self() };
            // SAFETY: the thread is this one, and the signal is blocked in it.
            let sent = unsafe { libc::pthread_kill(this, 40) };
            assert_eq!(sent, 0);
            assert_eq!(signals.take().unwrap(), Some(40));
            assert_eq!(signals.take().unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
