//! Compares the machine before and after a test.

use std::collections::BTreeSet;
use std::fs;

/// Lists mounts, namespaces in use, and processes below this one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    mounts: BTreeSet<String>,
    children: BTreeSet<String>,
    descriptors: usize,
}

impl Listing {
    /// Takes it now.
    pub(crate) fn now() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect();
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        Self {
            mounts,
            children: children.split_ascii_whitespace().map(str::to_owned).collect(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }
}
