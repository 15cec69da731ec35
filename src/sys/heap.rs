//! The heap as a whole: giving back what is free in it.

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
