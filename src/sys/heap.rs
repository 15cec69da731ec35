//! The heap as a whole: how it grows, and giving back what is free in it.

/// Gives free memory inside the heap back to the kernel, whole pages at a time (malloc_trim(3)).
///
/// An allocator keeps what lies between pieces that are still in use: after fifty containers were started at once that was
/// more than all that was in use. It takes less than a millisecond; other threads that allocate wait so long. Where the
/// C library is not glibc nothing happens.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; it locks the allocator's arenas as malloc(3) does, and the pages it gives back hold only free chunks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the heap grow half a mebibyte at a time and keep what it has (mallopt(3)): for a process that ends soon, brk(2) once instead of a
/// dozen times. Memory that is not touched costs nothing. Where the C library is not glibc nothing happens.
pub fn grow_at_once() {
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [(libc::M_TOP_PAD, 512 << 10), (libc::M_TRIM_THRESHOLD, 4 << 20)] {
        // SAFETY: takes two numbers; it locks the arena as malloc(3) does.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}
