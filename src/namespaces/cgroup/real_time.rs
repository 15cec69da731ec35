//! Real-time time of v1's cpu controller, on kernels with CONFIG_RT_GROUP_SCHED: it is dealt out from above, and a cgroup can give no more
//! than it has (the kernel's Documentation/scheduler/sched-rt-group.rst). A new one has none, so nobody in it can be SCHED_FIFO or SCHED_RR.

use std::fs;
use std::path::Path;

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::CgroupError;
use super::files::{read, write};

const RUNTIME: &str = "cpu.rt_runtime_us";
const PERIOD: &str = "cpu.rt_period_us";
/// What the kernel takes where nobody says otherwise, in microseconds.
const USUAL_PERIOD: u64 = 1_000_000;

/// Gives the `own` levels above a new cgroup what it asks for, over and above what their other children have.
///
/// # Errors
/// [`CgroupError::Resource`]: whoever is above those has no more to give.
pub(super) fn lend(leaf: &Path, own: usize, resources: &LinuxResources) -> Result<(), CgroupError> {
    let asked = resources.cpu().as_ref().and_then(LinuxCpu::realtime_runtime);
    let Some(runtime) = asked.and_then(|us| u64::try_from(us).ok()).filter(|us| *us > 0) else { return Ok(()) };
    let period = resources.cpu().as_ref().and_then(LinuxCpu::realtime_period).filter(|us| *us > 0);
    let period = period.unwrap_or(USUAL_PERIOD);
    let above: Vec<_> = leaf.ancestors().skip(1).take(own).collect();
    let failed = |source| CgroupError::Resource { key: "cpu.realtimeRuntime".to_owned(), source: Box::new(source) };
    above.into_iter().rev().try_for_each(|dir| raise(dir, runtime, period)).map_err(failed)
}

fn raise(dir: &Path, runtime: u64, period: u64) -> Result<(), CgroupError> {
    if !dir.join(RUNTIME).exists() {
        return Ok(());
    }
    let (has, own_period) = time(dir)?;
    let part = |runtime: u64, period: u64| runtime.saturating_mul(own_period).div_ceil(period);
    let mut needed = part(runtime, period);
    for child in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        // One that is gone has none.
        let (runtime, period) = time(&child.path()).unwrap_or((0, USUAL_PERIOD));
        needed += part(runtime, period);
    }
    if has >= needed { Ok(()) } else { write(&dir.join(RUNTIME), &needed.to_string()) }
}

/// Reads runtime and period, in microseconds.
fn time(dir: &Path) -> Result<(u64, u64), CgroupError> {
    let number = |file: &str| read(&dir.join(file)).map(|text| text.trim().parse::<i64>().unwrap_or(0));
    // -1 is no limit.
    let runtime = u64::try_from(number(RUNTIME)?).unwrap_or(u64::MAX);
    Ok((runtime, u64::try_from(number(PERIOD)?).ok().filter(|us| *us > 0).unwrap_or(USUAL_PERIOD)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_ours_have_what_their_children_have() {
        let root = tempfile::tempdir().unwrap();
        let level = |path: &str, runtime: &str| {
            let dir = root.path().join(path);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(RUNTIME), runtime).unwrap();
            fs::write(dir.join(PERIOD), "1000000\n").unwrap();
        };
        level("theirs", "0\n");
        level("theirs/ours", "0\n");
        level("theirs/ours/deeper", "0\n");
        level("theirs/ours/other", "3000\n");
        level("theirs/ours/deeper/new", "0\n");
        let leaf = root.path().join("theirs/ours/deeper/new");
        let read = |path: &str| fs::read_to_string(root.path().join(path).join(RUNTIME)).unwrap().trim().to_owned();
        lend(&leaf, 2, &serde_json::from_str("{\"cpu\": {\"shares\": 3}}").unwrap()).unwrap();
        assert_eq!((read("theirs/ours"), read("theirs/ours/deeper")), ("0".into(), "0".into()));
        let asked = "{\"cpu\": {\"realtimeRuntime\": 5000, \"realtimePeriod\": 500000}}";
        for _ in 0..2 {
            lend(&leaf, 2, &serde_json::from_str(asked).unwrap()).unwrap();
            assert_eq!(
                (read("theirs"), read("theirs/ours/deeper"), read("theirs/ours/deeper/new")),
                ("0".into(), "10000".into(), "0".into())
            );
        }
        assert_eq!(read("theirs/ours"), "23000");
    }
}
