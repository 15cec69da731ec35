//! What goes into the files of cgroup v2. Pure.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::super::{CgroupError, Controller};
use super::convert::{cpu_weight, io_weight, most};
use super::step::{Setting, Step, Undo};
use super::{Facts, common, refused};

/// Lists what a controller's files are to hold.
pub(super) fn steps(
    controller: Controller,
    resources: &LinuxResources,
    facts: &Facts,
) -> Result<Vec<Step>, CgroupError> {
    let mut steps = Vec::new();
    match controller {
        Controller::Memory => resources.memory().iter().try_for_each(|given| memory(given, facts, &mut steps))?,
        Controller::Cpu => resources.cpu().iter().try_for_each(|given| cpu(given, facts, &mut steps))?,
        Controller::Io => resources.block_io().iter().for_each(|given| block(given, &mut steps)),
        Controller::Pids | Controller::Cpuset | Controller::Rdma => common::steps(controller, resources, &mut steps),
        Controller::Hugetlb => common::huge_pages(resources, "max", most, &mut steps)?,
        // `needed` finds them on v1 or nowhere.
        Controller::NetCls | Controller::NetPrio => {}
    }
    Ok(steps)
}

fn memory(given: &LinuxMemory, facts: &Facts, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
    let limit = given.limit().filter(|limit| *limit != 0);
    if let Some(swap) = swap_alone(given, limit, facts)? {
        steps.push(Step::Write(Setting::new("memory.swap", "memory.swap.max", swap).or_else(NO_SWAP)));
    }
    if let Some(limit) = limit {
        steps.push(Step::Write(Setting::new("memory.limit", "memory.max", most(limit))));
    }
    if let Some(bytes) = given.reservation().filter(|bytes| *bytes != 0) {
        steps.push(Step::Write(Setting::new("memory.reservation", "memory.low", most(bytes))));
    }
    let mut note = |given: bool, text: &str| steps.extend(given.then(|| Step::Note(text.to_owned())));
    note(given.kernel().is_some_and(|bytes| bytes != 0), common::NO_KERNEL);
    note(given.kernel_tcp().is_some_and(|bytes| bytes != 0), common::NO_KERNEL_TCP);
    note(given.swappiness().is_some_and(|percent| percent != u64::MAX), NO_SWAPPINESS);
    note(given.disable_oom_killer() == Some(true), NO_OOM_CONTROL);
    Ok(())
}

const NO_SWAP: &str = "the limit of swap has no effect: this kernel does not count swap (memory.swap.max is missing)";
const NO_SWAPPINESS: &str = "memory.swappiness has no effect: cgroup v2 does not have it";
const NO_OOM_CONTROL: &str = "memory.disableOOMKiller has no effect: cgroup v2 cannot";

/// Returns `memory.swap.max`: v2 counts swap alone, v1 and with it the specification memory and swap together.
fn swap_alone(given: &LinuxMemory, limit: Option<i64>, facts: &Facts) -> Result<Option<String>, CgroupError> {
    let bad = |reason: String| Err(refused("memory.swap", reason));
    match given.swap() {
        // Memory without a limit, of which swap is a part, is swap without a limit.
        None => Ok(limit.filter(|limit| *limit < 0).map(|_| "max".to_owned())),
        Some(..0) => Ok(Some("max".to_owned())),
        // Beside a limit it is what engines send for "nothing said"; alone it forbids swap.
        Some(0) => Ok(match limit {
            None => Some("0".to_owned()),
            Some(limit) => (limit < 0).then(|| "max".to_owned()),
        }),
        Some(both) => match limit.or(facts.memory_limit) {
            None => bad(format!("{both} is for memory and swap together; it needs a limit of memory beside it")),
            Some(..0) => bad(format!("{both} is for memory and swap together, and memory has no limit")),
            Some(memory) if both < memory => bad(format!("{both} is less than the {memory} of memory alone")),
            Some(memory) => Ok(Some((both - memory).to_string())),
        },
    }
}

fn cpu(given: &LinuxCpu, facts: &Facts, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
    for (key, given) in [
        ("cpu.realtimePeriod", given.realtime_period().is_some_and(|us| us != 0)),
        ("cpu.realtimeRuntime", given.realtime_runtime().is_some_and(|us| us != 0)),
    ] {
        if given {
            return Err(refused(key, "cgroup v2 does not have it".to_owned()));
        }
    }
    // Before the weight: an idle cgroup takes none.
    if let Some(idle) = given.idle() {
        steps.push(Step::Write(Setting::new("cpu.idle", "cpu.idle", idle)));
    }
    if let Some(shares) = given.shares().filter(|shares| *shares != 0) {
        steps.push(Step::Write(Setting::new("cpu.shares", "cpu.weight", cpu_weight(shares))));
    }
    let quota = given.quota().filter(|us| *us != 0).map(most);
    let max = match (quota, given.period().filter(|us| *us != 0)) {
        (None, None) => None,
        // The kernel keeps a period that is not written, but not a quota.
        (Some(quota), None) => Some(("cpu.quota", quota)),
        (quota, Some(period)) => {
            let key = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
            Some((key, format!("{} {period}", quota.as_deref().unwrap_or(&facts.cpu_quota))))
        }
    };
    let max = max.map(|(key, value)| Setting::new(key, "cpu.max", value));
    let burst = given.burst().map(|us| Setting::new("cpu.burst", "cpu.max.burst", us).or_else(common::NO_BURST));
    steps.push(Step::Together(max.into_iter().chain(burst).collect()));
    Ok(())
}

fn block(given: &LinuxBlockIo, steps: &mut Vec<Step>) {
    // BFQ takes the weight as it is; the kernel's own cost model has a scale of its own.
    let weigh = |key, device: &str, weight: u16, undo| {
        let bfq = Setting::new(key, "io.bfq.weight", format!("{device}{weight}"));
        let cost = Setting::new(key, "io.weight", format!("{device}{}", io_weight(weight)));
        Step::First([bfq, cost].map(|setting| setting.undone_by(undo)).into())
    };
    if let Some(weight) = given.weight().filter(|weight| *weight != 0) {
        steps.push(weigh("blockIO.weight", "", weight, Undo::Keyed("default ")));
    }
    for device in given.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let name = format!("{}:{} ", device.major(), device.minor());
            steps.push(weigh("blockIO.weightDevice", &name, weight, Undo::Line("default")));
        }
    }
    let leaf = given.weight_device().iter().flatten().any(|device| device.leaf_weight().is_some_and(|w| w != 0));
    if leaf || given.leaf_weight().is_some_and(|weight| weight != 0) {
        steps.push(Step::Note("blockIO.leafWeight has no effect: cgroup v2 does not have it".to_owned()));
    }
    let mut throttle = |key, name, undo, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            // v1, and with it the specification, has 0 for no limit.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let line = format!("{}:{} {name}={rate}", device.major(), device.minor());
            steps.push(Step::Write(Setting::new(key, "io.max", line).undone_by(Undo::Line(undo))));
        }
    };
    throttle("blockIO.throttleReadBpsDevice", "rbps", "rbps=max", given.throttle_read_bps_device());
    throttle("blockIO.throttleWriteBpsDevice", "wbps", "wbps=max", given.throttle_write_bps_device());
    throttle("blockIO.throttleReadIOPSDevice", "riops", "riops=max", given.throttle_read_iops_device());
    throttle("blockIO.throttleWriteIOPSDevice", "wiops", "wiops=max", given.throttle_write_iops_device());
}
