//! When a container is started again, and after how long: Docker's rules.

use std::time::Duration;

use crate::spec::{ExitStatus, RestartPolicy};

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// A run that lasted this long was a good one: the next wait is the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// Counts a container's restarts and the wait before the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    next: Option<Duration>,
    in_a_row: u32,
}

impl Backoff {
    /// Decides what follows the end of a run that lasted `ran`: the wait before the next run, or `None` for no other.
    ///
    /// The wait is 100 ms and doubles with each run that ended within 10 s, up to 60 s.
    pub fn after_exit(&mut self, policy: RestartPolicy, status: ExitStatus, ran: Duration) -> Option<Duration> {
        if ran >= GOOD_RUN {
            *self = Self::default();
        }
        let again = match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { max } => !status.success() && max.is_none_or(|max| self.in_a_row < max),
        };
        if !again {
            return None;
        }
        let wait = self.next.unwrap_or(FIRST);
        self.next = Some(LONGEST.min(wait * 2));
        self.in_a_row += 1;
        Some(wait)
    }

    /// Rebuilds the count after a change of supervisor: the waits go on where they were.
    pub fn resumed(restarts_in_a_row: u32) -> Self {
        let next = FIRST.saturating_mul(2_u32.saturating_pow(restarts_in_a_row.min(16))).min(LONGEST);
        Self { next: (restarts_in_a_row > 0).then_some(next), in_a_row: restarts_in_a_row }
    }

    /// Returns how many restarts there were since the last good run.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: ExitStatus = ExitStatus::Code(1);
    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12)
            .filter_map(|_| backoff.after_exit(RestartPolicy::Always, CRASH, SHORT))
            .map(|w| w.as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
    }

    #[test]
    fn a_good_run_resets_the_wait() {
        let mut backoff = Backoff::default();
        backoff.after_exit(RestartPolicy::Always, CRASH, SHORT);
        backoff.after_exit(RestartPolicy::Always, CRASH, SHORT);
        let wait = backoff.after_exit(RestartPolicy::Always, CRASH, Duration::from_secs(11));
        assert_eq!(wait, Some(Duration::from_millis(100)));
    }

    #[test]
    fn policies_decide() {
        let again = |policy, status| Backoff::default().after_exit(policy, status, SHORT).is_some();
        let on_failure = RestartPolicy::OnFailure { max: None };
        assert!(!again(RestartPolicy::No, CRASH));
        assert!(again(RestartPolicy::Always, ExitStatus::Code(0)));
        assert!(again(RestartPolicy::UnlessStopped, ExitStatus::Code(0)));
        assert!(!again(on_failure, ExitStatus::Code(0)));
        assert!(again(on_failure, ExitStatus::Signal(9)));
        assert!(again(on_failure, ExitStatus::Unknown));
    }

    #[test]
    fn on_failure_counts() {
        let mut backoff = Backoff::default();
        let policy = RestartPolicy::OnFailure { max: Some(2) };
        let runs = (0..5).take_while(|_| backoff.after_exit(policy, CRASH, SHORT).is_some()).count();
        assert_eq!(runs, 2);
    }

    #[test]
    fn a_successor_goes_on_with_the_waits() {
        let mut backoff = Backoff::default();
        backoff.after_exit(RestartPolicy::Always, CRASH, SHORT);
        backoff.after_exit(RestartPolicy::Always, CRASH, SHORT);
        assert_eq!(Backoff::resumed(2), backoff);
    }
}
