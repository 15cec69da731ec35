//! Waiting for something to become true: polled often, bounded by a deadline, never a fixed sleep.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it; generous, for machines that do other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `probe` until it returns a value; panics with `what` after [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe)
}

/// Calls `probe` until it returns a value; panics with `what` after `limit`.
pub(crate) fn eventually_within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        // Nobody unparks: this is the pause between two looks.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
