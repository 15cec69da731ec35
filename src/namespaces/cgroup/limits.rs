//! Limits as values: which controllers they need and what is written where. Pure; nothing here touches the kernel.

use std::fmt;

use super::CgroupError;
use crate::spec::{CpuWeight, ResourceLimits};

/// Is a cgroup controller that enforces one of our limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// CPU time and its weight.
    Cpu,
    /// The number of processes and threads.
    Pids,
    /// Which CPUs.
    Cpuset,
    /// Block I/O.
    Io,
}

impl Controller {
    /// Returns the name that cgroup v1 has for it.
    pub fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.v2_name(),
        }
    }

    /// Returns the name that cgroup v2 has for it.
    pub fn v2_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
        }
    }

    /// Returns what it limits, in words.
    pub(super) fn limits(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu time",
            Self::Pids => "the number of processes",
            Self::Cpuset => "the cpus to be used",
            Self::Io => "block i/o",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v2_name())
    }
}

/// Is one value for one file of a v2 cgroup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub file: &'static str,
    pub value: String,
}

/// The period in microseconds that the kernel has where nobody says otherwise.
const PERIOD: u64 = 100_000;

/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1000;

/// Lists the controllers that limits need.
pub(super) fn needed(limits: &ResourceLimits) -> Vec<Controller> {
    let cpu = limits.nano_cpus.is_some()
        || limits.cpu_quota.is_some()
        || limits.cpu_period.is_some()
        || limits.cpu_weight.is_some();
    let memory = limits.memory.is_some() || limits.memory_reservation.is_some() || limits.memory_swap.is_some();
    [
        (Controller::Memory, memory),
        (Controller::Cpu, cpu),
        (Controller::Pids, limits.pids.is_some_and(|pids| pids > 0)),
        (Controller::Cpuset, limits.cpuset.is_some()),
        (Controller::Io, limits.io_weight.is_some()),
    ]
    .into_iter()
    .filter_map(|(controller, wanted)| wanted.then_some(controller))
    .collect()
}

/// Refuses limits that contradict each other.
pub(super) fn check(limits: &ResourceLimits) -> Result<(), CgroupError> {
    let Some(both) = limits.memory_swap.filter(|swap| *swap >= 0) else { return Ok(()) };
    let refused = |reason: String| Err(CgroupError::Limit { limit: "memory and swap together", reason });
    match limits.memory {
        None => refused("it needs a limit of memory alone beside it".to_owned()),
        Some(memory) if u64::try_from(both).is_ok_and(|both| both < memory) => {
            refused(format!("{both} is less than the {memory} of memory alone"))
        }
        Some(_) => Ok(()),
    }
}

/// Lists what a controller's files are to hold on v2. The I/O weight is not among them: its file has two names.
pub(super) fn v2_settings(controller: Controller, limits: &ResourceLimits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |file, value: Option<String>| settings.extend(value.map(|value| Setting { file, value }));
    match controller {
        Controller::Memory => {
            set("memory.max", limits.memory.map(|bytes| bytes.to_string()));
            set("memory.swap.max", swap_alone(limits));
            set("memory.low", limits.memory_reservation.map(|bytes| bytes.to_string()));
        }
        Controller::Cpu => {
            set("cpu.weight", limits.cpu_weight.map(|weight| v2_weight(weight).to_string()));
            set(
                "cpu.max",
                bandwidth(limits).map(|(quota, period)| match quota {
                    Some(quota) => format!("{quota} {period}"),
                    None => format!("max {period}"),
                }),
            );
        }
        Controller::Pids => set("pids.max", limits.pids.map(|pids| pids.to_string())),
        Controller::Cpuset => set("cpuset.cpus", limits.cpuset.clone()),
        Controller::Io => {}
    }
    settings
}

/// Returns quota and period; no quota is unlimited, `None` is nothing asked for.
pub(super) fn bandwidth(limits: &ResourceLimits) -> Option<(Option<u64>, u64)> {
    let period = limits.cpu_period.filter(|period| *period > 0).unwrap_or(PERIOD);
    if let Some(nano) = limits.nano_cpus {
        let quota = u128::from(nano) * u128::from(period) / 1_000_000_000;
        return Some((Some(u64::try_from(quota).unwrap_or(u64::MAX).max(LEAST_QUOTA)), period));
    }
    match (limits.cpu_quota, limits.cpu_period) {
        (None, None) => None,
        (quota, _) => Some((quota.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0), period)),
    }
}

/// Returns `memory.swap.max`: v2 counts swap alone, people and v1 count memory and swap together.
fn swap_alone(limits: &ResourceLimits) -> Option<String> {
    let both = limits.memory_swap?;
    Some(match u64::try_from(both) {
        Err(_) => "max".to_owned(),
        Ok(both) => both.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
    })
}

/// Returns `cpu.shares`.
pub(super) fn v1_shares(weight: CpuWeight) -> u64 {
    match weight {
        CpuWeight::Shares(shares) => shares,
        CpuWeight::Percent(percent) => u64::from(percent) * 1024 / 100,
    }
}

/// Returns `cpu.weight`, 1 to 10000, 100 the default.
///
/// Shares go from 2 to 262144 with 1024 the default. The curve through these three pairs is runc's since 1.3: a straight
/// line between the ends, as it was before, makes the default of one scale 39 in the other.
pub(super) fn v2_weight(weight: CpuWeight) -> u64 {
    let shares = match weight {
        CpuWeight::Percent(percent) => return u64::from(percent.max(1)),
        CpuWeight::Shares(shares) => shares,
    };
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "18 bits fit into a double")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Returns `io.weight`, 1 to 10000, for a weight of 10 to 1000.
pub(super) fn v2_io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ancestors_example_on_v2() {
        let limits = ResourceLimits {
            memory: Some(1_073_741_824),
            cpu_weight: Some(CpuWeight::Percent(50)),
            pids: Some(333),
            io_weight: Some(20),
            ..ResourceLimits::default()
        };
        assert_eq!(needed(&limits), [Controller::Memory, Controller::Cpu, Controller::Pids, Controller::Io]);
        let all: Vec<String> = needed(&limits)
            .into_iter()
            .flat_map(|controller| v2_settings(controller, &limits))
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect();
        assert_eq!(all, ["memory.max=1073741824", "cpu.weight=50", "pids.max=333"]);
        assert_eq!(v2_io_weight(20), 102);
        assert_eq!(v1_shares(CpuWeight::Percent(50)), 512);
    }

    #[test]
    fn shares_convert_as_in_runc() {
        let weights = [2, 512, 1024, 2048, 262_144].map(|shares| v2_weight(CpuWeight::Shares(shares)));
        assert_eq!(weights, [1, 59, 100, 174, 10_000]);
    }

    #[test]
    fn cpus_become_quota_and_period() {
        let with = |nano, quota, period| {
            bandwidth(&ResourceLimits {
                nano_cpus: nano,
                cpu_quota: quota,
                cpu_period: period,
                ..ResourceLimits::default()
            })
        };
        assert_eq!(with(Some(500_000_000), None, None), Some((Some(50_000), 100_000)));
        assert_eq!(with(Some(1), None, None), Some((Some(1000), 100_000)));
        assert_eq!(with(None, Some(-1), Some(50_000)), Some((None, 50_000)));
        assert_eq!(with(None, None, None), None);
    }

    #[test]
    fn swap_is_counted_alone_on_v2() {
        let limits = |memory, swap| ResourceLimits { memory, memory_swap: swap, ..ResourceLimits::default() };
        assert_eq!(swap_alone(&limits(Some(100), Some(300))), Some("200".to_owned()));
        assert_eq!(swap_alone(&limits(Some(100), Some(-1))), Some("max".to_owned()));
        assert!(check(&limits(None, Some(300))).is_err());
        assert!(check(&limits(Some(400), Some(300))).unwrap_err().to_string().contains("300 is less than the 400"));
        assert!(check(&limits(None, Some(-1))).is_ok());
    }

    proptest! {
        #[test]
        fn a_weight_keeps_its_order_and_its_range(a in 0u64..300_000, b in 0u64..300_000) {
            let (small, large) = (v2_weight(CpuWeight::Shares(a.min(b))), v2_weight(CpuWeight::Shares(a.max(b))));
            prop_assert!(1 <= small && small <= large && large <= 10_000);
        }

        #[test]
        fn an_io_weight_keeps_its_range(weight in 10u16..=1000) {
            prop_assert!((1..=10_000).contains(&v2_io_weight(weight)));
        }
    }
}
