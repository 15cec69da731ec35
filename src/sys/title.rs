//! What `ps` shows of a process that stays without execve(2), and what it must not show.
//!
//! The kernel reads /proc/PID/cmdline and /proc/PID/environ from the process's own memory: from the strings that execve(2)
//! put on the top of its stack, side by side. A forked process still has those of its parent there.

use std::io;

use super::read_pseudo_file;

/// Is the memory in which the kernel finds our arguments and our environment.
#[derive(Debug)]
pub struct TitleMemory {
    start: usize,
    /// Where the environment begins.
    middle: usize,
    end: usize,
}

impl TitleMemory {
    /// Asks /proc/self/stat, fields 48 to 51 (proc_pid_stat(5)).
    ///
    /// # Errors
    /// Where /proc is not there, or has the two at different places (PR_SET_MM, prctl(2)).
    pub fn find() -> io::Result<Self> {
        Self::parse(&read_pseudo_file("/proc/self/stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name may hold anything, parentheses too; what follows the last one begins with field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(48 - 3);
        let mut next = || fields.next()?.parse::<usize>().ok().filter(|address| *address != 0);
        let (start, arguments_end, middle, end) = (next()?, next()?, next()?, next()?);
        (start < middle && arguments_end == middle && middle < end).then_some(Self { start, middle, end })
    }

    /// Puts `words` in the place of the arguments and takes the environment away. What has no room is cut off.
    pub fn replace(self, words: &[&str]) {
        let mut text = words.join("\0").into_bytes();
        if text.len() >= self.middle - self.start {
            // It reaches into the environment: then the kernel reads up to the first zero byte, and that must come last.
            text.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
            text.truncate(self.end - self.start - 1);
        }
        let room = self.start as *mut u8;
        // SAFETY: the kernel says that these bytes are the strings of execve(2), which lie on the stack above all frames and
        // are writable. No reference to them exists: std and libc keep pointers and look for the zero byte that ends a
        // string, which is there, as the last byte always is one. They read changed text from now on, which is intended.
        unsafe { std::ptr::write_bytes(room, 0, self.end - self.start) };
        // SAFETY: `text` is shorter than those bytes, by one at least, and lies elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), room, text.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_counted_from_the_last_parenthesis() {
        let stat = |tail: &str| format!("7 (a) (b) {}{tail}", "S ".to_owned() + &"0 ".repeat(44));
        let found = TitleMemory::parse(&stat("100 120 120 150 0")).unwrap();
        assert_eq!((found.start, found.middle, found.end), (100, 120, 150));
        for wrong in ["0 0 0 0 0", "100 120 130 150 0", "100 120 120 120 0", "100 120"] {
            assert!(TitleMemory::parse(&stat(wrong)).is_none(), "{wrong}");
        }
        TitleMemory::find().unwrap();
    }
}
