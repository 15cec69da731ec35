//! What decides when and where a process runs: policy, processors, disk priority, memory nodes, personality.

use std::io;

use serde::{Deserialize, Serialize};

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Holds what is in `struct sched_attr` of sched_setattr(2), as far as every kernel since 3.14 has it, after its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerAttributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Of the ordinary policies, -20 to 19.
    pub nice: i32,
    /// Of the real-time policies, 1 to 99, else 0.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
}

#[repr(C)]
struct Whole {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the policy of the calling thread (sched_setattr(2)).
///
/// # Errors
/// EPERM without CAP_SYS_NICE for what is better than now; EINVAL for parameters that do not fit the policy.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> io::Result<()> {
    let SchedulerAttributes { policy, flags, nice, priority, runtime, deadline, period } = *attributes;
    let size = size_of::<Whole>() as u32;
    let whole = Whole { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: `whole` is a struct sched_attr of the size that it names; the kernel reads that much.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const whole, 0) })
}

/// Sets the processors that the calling thread runs on (sched_setaffinity(2)).
///
/// # Errors
/// EINVAL where none of them is there.
pub fn set_affinity(processors: &[u32]) -> io::Result<()> {
    let mask = bits(processors);
    // SAFETY: the pointer and the size are those of one vector.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask[..]), mask.as_ptr()) })
}

/// Sets class and priority of the calling thread's disk access (ioprio_set(2)).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN or CAP_SYS_NICE for the real-time class.
pub fn set_io_priority(class: u16, priority: u16) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    let value = i32::from(class) << 13 | i32::from(priority);
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })
}

/// Sets the memory policy of the calling thread (set_mempolicy(2)).
///
/// # Errors
/// EINVAL for nodes that do not fit the mode or are not there; ENOSYS on kernels without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> io::Result<()> {
    let mask = bits(nodes);
    let (pointer, count) =
        if nodes.is_empty() { (std::ptr::null(), 0) } else { (mask.as_ptr(), mask.len() * u64::BITS as usize + 1) };
    // SAFETY: the mask has as many bits as the count says, less the one that the kernel takes off.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, count) })
}

/// Sets the execution domain (personality(2)).
///
/// # Errors
/// EINVAL where the kernel has no such domain.
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: a plain number.
    check(i64::from(unsafe { libc::personality(libc::c_ulong::from(persona)) }))
}

/// Joins a new session keyring of this name (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
///
/// # Errors
/// ENOSYS on kernels without keys; EDQUOT where the user has too many.
pub fn join_session_keyring(name: &std::ffi::CStr) -> io::Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: the name is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })
}

/// Returns a bit mask as the kernel takes it: words of 64 bits.
fn bits(numbers: &[u32]) -> Vec<u64> {
    let words = numbers.iter().max().map_or(0, |last| last / u64::BITS + 1) as usize;
    let mut mask = vec![0; words];
    for number in numbers {
        mask[(number / u64::BITS) as usize] |= 1 << (number % u64::BITS);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_words_of_bits() {
        assert_eq!(bits(&[0, 3, 64]), [9, 1]);
        assert!(bits(&[]).is_empty());
    }
}
