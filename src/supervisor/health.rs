//! What probes mean: Docker's rules as a state machine without a clock of its own.

use std::time::Duration;

use super::control::protocol::Health;
use crate::spec::Healthcheck;

/// Within the first interval probes also run at these times after the start; they count only if they succeed, so
/// that a service which is ready at once is known to be so at once.
const EARLY: [u64; 10] = [0, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800];

/// Follows one run of a container.
#[derive(Debug, Clone)]
pub struct HealthTracker {
    check: Healthcheck,
    health: Health,
    failures: u32,
    /// Index into [`EARLY`] of the next early probe.
    early: usize,
    /// Whether the probe that is under way is an early one.
    probing_early: bool,
}

impl HealthTracker {
    /// Begins with no verdict.
    pub fn new(check: Healthcheck) -> Self {
        Self { check, health: Health::Starting, failures: 0, early: 0, probing_early: false }
    }

    /// Returns what is known.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Returns the check that is followed.
    pub fn check(&self) -> &Healthcheck {
        &self.check
    }

    /// Returns how long after now the next probe starts, where the last one ended `since_start` after the start.
    pub fn next_probe(&mut self, since_start: Duration) -> Duration {
        let in_start_period = since_start < self.check.start_period;
        let interval = if in_start_period { self.check.start_interval } else { self.check.interval };
        self.probing_early = false;
        if self.health == Health::Starting {
            while let Some(at) = EARLY.get(self.early).copied().map(Duration::from_millis) {
                if at >= interval {
                    break;
                }
                self.early += 1;
                if at >= since_start || self.early == 1 {
                    self.probing_early = true;
                    return at.saturating_sub(since_start);
                }
            }
        }
        // The first regular probe is due one interval after the start, later ones one interval after the one before.
        if self.early > 0 && since_start < interval { interval - since_start } else { interval }
    }

    /// Takes the result of a probe that ended `since_start` after the start, and says whether the verdict changed.
    pub fn probe_ended(&mut self, succeeded: bool, since_start: Duration) -> bool {
        let before = self.health;
        if succeeded {
            self.failures = 0;
            self.health = Health::Healthy;
        } else if !self.probing_early {
            // In the start period failures do not count, unless it was over for the container already.
            if self.health != Health::Starting || since_start >= self.check.start_period {
                self.failures += 1;
            }
            if self.failures >= self.check.retries.max(1) {
                self.health = Health::Unhealthy;
            }
        }
        self.health != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interval_ms: u64, retries: u32, start_period_ms: u64) -> Healthcheck {
        Healthcheck {
            command: vec!["true".into()],
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_secs(1),
            retries,
            start_period: Duration::from_millis(start_period_ms),
            start_interval: Duration::from_millis(interval_ms),
        }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn early_probes_make_a_ready_service_healthy_at_once() {
        let mut tracker = HealthTracker::new(check(1_000, 3, 0));
        assert_eq!(tracker.next_probe(ms(0)), ms(0));
        assert!(!tracker.probe_ended(false, ms(10)));
        assert_eq!(tracker.next_probe(ms(10)), ms(40));
        assert!(tracker.probe_ended(true, ms(55)));
        assert_eq!(tracker.health(), Health::Healthy);
    }

    #[test]
    fn early_failures_do_not_count_and_regular_ones_do() {
        let mut tracker = HealthTracker::new(check(1_000, 2, 0));
        let mut now = ms(0);
        for _ in 0..6 {
            now += tracker.next_probe(now);
            tracker.probe_ended(false, now);
        }
        assert_eq!(tracker.health(), Health::Starting);
        assert_eq!(now, ms(800));
        now += tracker.next_probe(now);
        assert_eq!(now, ms(1_000));
        assert!(!tracker.probe_ended(false, now));
        now += tracker.next_probe(now);
        assert_eq!(now, ms(2_000));
        assert!(tracker.probe_ended(false, now));
        assert_eq!(tracker.health(), Health::Unhealthy);
        assert!(tracker.probe_ended(true, ms(3_000)));
        assert_eq!(tracker.health(), Health::Healthy);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let mut tracker = HealthTracker::new(check(10, 1, 100));
        let mut now = ms(0);
        while now < ms(100) {
            now += tracker.next_probe(now);
            if now < ms(100) {
                tracker.probe_ended(false, now);
                assert_eq!(tracker.health(), Health::Starting, "at {now:?}");
            }
        }
        tracker.probe_ended(false, now);
        assert_eq!(tracker.health(), Health::Unhealthy);
    }
}
