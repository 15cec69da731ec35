//! The bounding set by number, for capabilities that have no name yet (capabilities(7), PR_CAPBSET_READ(2const)).

use std::io;

/// Answers whether a capability is in the calling thread's bounding set; `None` where the kernel has no such number.
pub fn in_bounding(number: u32) -> Option<bool> {
    // SAFETY: PR_CAPBSET_READ takes one number and no pointer; it reads the calling thread's credentials alone.
    let answer = unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) };
    match answer {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Drops a capability from the calling thread's bounding set.
pub fn drop_bounding(number: u32) -> io::Result<()> {
    // SAFETY: PR_CAPBSET_DROP takes one number and no pointer; it changes the calling thread's credentials alone.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
