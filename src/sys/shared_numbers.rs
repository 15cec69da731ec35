//! Numbers that a process and those that it clones see alike, and the clock whose readings they hold.

use std::io;
use std::mem::size_of;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

/// Is an array of numbers, zero at first, in memory that stays shared over clone3(2) and fork(2) and is not there any more after execve(2)
/// (mmap(2), MAP_SHARED and MAP_ANONYMOUS). Pages that nobody writes to cost nothing.
#[derive(Debug)]
pub struct SharedNumbers {
    first: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: what it points to are atomic numbers, which any thread may read and write at any time, and they are unmapped by the owner alone.
unsafe impl Send for SharedNumbers {}
// SAFETY: as above.
unsafe impl Sync for SharedNumbers {}

impl SharedNumbers {
    /// Maps `count` numbers.
    ///
    /// # Errors
    /// ENOMEM; EINVAL for none.
    pub fn new(count: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address that the kernel chooses, replaces none.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<AtomicU64>(),
                protection,
                flags | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(address.cast::<AtomicU64>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, count })
    }

    /// Returns the numbers.
    pub fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has room for `count` of them, begins at a page, was zero, and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl Drop for SharedNumbers {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped this much from there, and the borrows that `all` gave have ended.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

/// Reads CLOCK_MONOTONIC, in nanoseconds. 0 where that is refused: by a seccomp filter, on hosts whose clock can be read by a system call
/// alone (vdso(7)).
pub fn monotonic_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written to.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0 {
        return 0;
    }
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn what_a_child_notes_its_parent_reads() {
        let numbers = SharedNumbers::new(1000).unwrap();
        assert!(numbers.all().iter().all(|number| number.load(Relaxed) == 0));
        let before = monotonic_nanoseconds();
        // SAFETY: the child makes no call but clock_gettime(2) and _exit(2).
        match unsafe { libc::fork() } {
            0 => {
                numbers.all()[999].store(monotonic_nanoseconds(), Relaxed);
                crate::sys::exit_now(0);
            }
            // SAFETY: the status is not asked for.
            child => assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child),
        }
        let noted = numbers.all()[999].load(Relaxed);
        assert!(before <= noted && noted <= monotonic_nanoseconds());
        assert!(SharedNumbers::new(0).is_err());
    }
}
