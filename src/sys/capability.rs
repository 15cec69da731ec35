//! The three old sets in one call (capset(2)), and the bounding set by number, for capabilities that have no name yet (capabilities(7),
//! PR_CAPBSET_READ(2const)).

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

/// Makes these the calling thread's sets, bit n for capability n: all three or none.
///
/// # Errors
/// EPERM where a set would have what the thread's permitted set lacks (or inheritable, what the bounding set lacks).
pub fn set_all(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    // struct __user_cap_header_struct of version 3 and its two __user_cap_data_struct: the lower 32 capabilities, then the others.
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let data = [0, 32].map(|shift| [effective, permitted, inheritable].map(|set| (set >> shift) as u32));
    // SAFETY: header and data are as long as the kernel's structures of this version; thread 0 is the calling one.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
