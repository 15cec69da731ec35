//! Being inside somebody's network namespace, as a program of theirs would be.

use std::fs::File;
use std::os::fd::AsFd;

use mydocker::namespaces::network::in_namespace;

/// Runs `work` in the network namespace at `path`: `/proc/<pid>/ns/net`, `/run/netns/<name>`.
pub(crate) fn inside_network<T: Send>(path: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    in_namespace(namespace.as_fd(), work).expect("a namespace can be entered")
}
