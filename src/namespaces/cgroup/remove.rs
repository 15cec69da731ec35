//! Removing a cgroup from every hierarchy.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::is_gone;
use super::hierarchy::subdirectories;
use super::kill::wait_for;
use super::{Cgroup, CgroupError};

/// The first and the longest pause between two tries where the kernel cannot tell when a directory becomes free.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Removes its directories and what lies below them, waiting this long for processes that are ending.
    ///
    /// It kills nobody. A directory that cannot be removed does not keep the others; the first error is returned. What is
    /// gone already counts as removed, so it may be called again.
    pub fn remove(&self, patience: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + patience;
        let mut first = Ok(());
        // v2 can tell when the last process has left, and it leaves all hierarchies at once.
        if let Some(v2) = &self.v2 {
            first = first.and(remove_tree(&v2.dir, true, deadline, patience));
        }
        for v1 in &self.v1 {
            first = first.and(remove_tree(&v1.dir, false, deadline, patience));
        }
        first
    }

    /// Removes the ancestors of its directories that are empty, deepest first: those of the hierarchies that it was in,
    /// where [`Hierarchies::remove_empty_parents`](super::Hierarchies::remove_empty_parents) looks at all.
    pub fn remove_empty_parents(&self) {
        let levels = std::iter::successors(self.path().parent(), super::CgroupPath::parent).count();
        for dir in self.directories() {
            // One that is in use stays, and so do those above it.
            let _ = dir.ancestors().skip(1).take(levels).try_for_each(fs::remove_dir);
        }
    }
}

/// Removes a directory with all below it, deepest first.
fn remove_tree(dir: &Path, v2: bool, deadline: Instant, patience: Duration) -> Result<(), CgroupError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let source = match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => error,
        };
        // Both mean "has children or processes": cgroupfs says EBUSY, other file systems ENOTEMPTY.
        if !matches!(source.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) {
            return Err(CgroupError::Remove { path: dir.to_owned(), source });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CgroupError::Slow { path: dir.to_owned(), state: "empty", patience });
        }
        let children = subdirectories(dir)?;
        for name in &children {
            remove_tree(&dir.join(name), v2, deadline, patience)?;
        }
        if children.is_empty() && v2 {
            wait_for(dir, "populated", 0, "empty", left)?;
        }
        if children.is_empty() {
            // Empty and still busy for a moment: the last process is on its way out.
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
