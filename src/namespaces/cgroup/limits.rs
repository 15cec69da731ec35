//! The limits of `run` and of a compose file in the words of the runtime specification: from there on the way is the same
//! for every container. Pure; nothing here touches the kernel.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::CgroupError;
use crate::spec::{CpuWeight, ResourceLimits};

/// The period in microseconds that the kernel has where nobody says otherwise.
const PERIOD: u64 = 100_000;

/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1000;

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

/// Says the same as the runtime specification does. The ancestor's weight in per cent is v2's own scale, and is written there as
/// it is.
pub(super) fn resources(limits: &ResourceLimits, cpu_on_v2: bool) -> LinuxResources {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut resources = LinuxResources::default();
    if limits.memory.is_some() || limits.memory_reservation.is_some() || limits.memory_swap.is_some() {
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(limits.memory.map(signed))
            .set_reservation(limits.memory_reservation.map(signed))
            .set_swap(limits.memory_swap);
        resources.set_memory(Some(memory));
    }
    let (mut cpu, mut unified) = (LinuxCpu::default(), HashMap::new());
    if let Some((quota, period)) = bandwidth(limits) {
        cpu.set_quota(Some(quota.map_or(-1, signed))).set_period(Some(period));
    }
    match limits.cpu_weight {
        Some(CpuWeight::Percent(percent)) if cpu_on_v2 => {
            unified.insert("cpu.weight".to_owned(), percent.max(1).to_string());
        }
        weight => drop(cpu.set_shares(weight.map(v1_shares))),
    }
    cpu.set_cpus(limits.cpuset.clone());
    cpu.set_mems(limits.memory_nodes.clone());
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    if !unified.is_empty() {
        resources.set_unified(Some(unified));
    }
    if let Some(pids) = limits.pids {
        let mut most = LinuxPids::default();
        most.set_limit(pids);
        resources.set_pids(Some(most));
    }
    if limits.io_weight.is_some() {
        let mut block = LinuxBlockIo::default();
        block.set_weight(limits.io_weight);
        resources.set_block_io(Some(block));
    }
    resources
}

/// Returns quota and period; no quota is unlimited, `None` is nothing asked for.
fn bandwidth(limits: &ResourceLimits) -> Option<(Option<u64>, u64)> {
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

/// Returns `cpu.shares`.
fn v1_shares(weight: CpuWeight) -> u64 {
    match weight {
        CpuWeight::Shares(shares) => shares,
        CpuWeight::Percent(percent) => u64::from(percent) * 1024 / 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ancestors_example_in_the_specifications_words() {
        let limits = ResourceLimits {
            memory: Some(1_073_741_824),
            cpu_weight: Some(CpuWeight::Percent(50)),
            pids: Some(333),
            io_weight: Some(20),
            ..ResourceLimits::default()
        };
        let json = |v2| serde_json::to_string(&resources(&limits, v2)).unwrap();
        let memory = r#"{"memory":{"limit":1073741824},"#;
        let rest = r#""pids":{"limit":333},"blockIO":{"weight":20}"#;
        assert_eq!(json(false), format!(r#"{memory}"cpu":{{"shares":512}},{rest}}}"#));
        assert_eq!(json(true), format!(r#"{memory}{rest},"unified":{{"cpu.weight":"50"}}}}"#));
        assert_eq!(resources(&ResourceLimits::default(), true), LinuxResources::default());
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
    fn memory_and_swap_together_are_no_less_than_memory() {
        let limits = |memory, swap| ResourceLimits { memory, memory_swap: swap, ..ResourceLimits::default() };
        assert!(check(&limits(None, Some(300))).is_err());
        assert!(check(&limits(Some(400), Some(300))).unwrap_err().to_string().contains("300 is less than the 400"));
        assert!(check(&limits(None, Some(-1))).is_ok());
    }
}
