//! Installing a seccomp filter that was compiled before (seccomp(2), SECCOMP_SET_MODE_FILTER).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Is the size of one `struct sock_filter`: a 16-bit code, two 8-bit jumps, a 32-bit constant.
const INSTRUCTION: usize = 8;

/// Installs a filter in the calling thread, for good; threads and programs it starts have it too.
///
/// The bytes are an array of `struct sock_filter`. The thread needs no_new_privs, or CAP_SYS_ADMIN in its user
/// namespace, else EACCES. Other threads of the process are not touched (no SECCOMP_FILTER_FLAG_TSYNC).
pub fn install(filter: &[u8]) -> io::Result<()> {
    install_with(filter, 0).map(drop)
}

/// Does what [`install`] does, with flags of seccomp(2): `libc::SECCOMP_FILTER_FLAG_*`.
///
/// With `SECCOMP_FILTER_FLAG_NEW_LISTENER` it returns the descriptor, close-on-exec, through which somebody answers what the filter
/// asks (seccomp_unotify(2)); else `None`.
///
/// # Errors
/// EINVAL for a flag that this kernel does not know, EBUSY where the thread has a filter with a listener already.
pub fn install_with(filter: &[u8], flags: u64) -> io::Result<Option<OwnedFd>> {
    let (whole, rest) = filter.as_chunks::<INSTRUCTION>();
    let len = u16::try_from(whole.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if !rest.is_empty() || len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut program: Vec<libc::sock_filter> = whole
        .iter()
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `program` points at `len` initialized instructions that live until the call returns; the kernel copies
    // and checks them and keeps no pointer.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let listens = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
    match i32::try_from(done) {
        Ok(0) if !listens => Ok(None),
        Ok(descriptor) if descriptor >= 0 && listens => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
        }
        // With TSYNC a positive number is a thread that has filters of its own.
        Ok(thread) if thread > 0 => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_refused() {
        assert_eq!(install(&[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(install(&[0; 9]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // Eight zero bytes are `ld [0]`: the kernel refuses a program that does not end in a return.
        assert_eq!(install(&[0; 8]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
