//! What goes into the files of cgroup v1. Pure.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice};

use super::super::{CgroupError, Controller};
use super::step::{Setting, Step, Undo};
use super::{common, refused};

/// Lists what a controller's directory is to hold.
pub(super) fn steps(controller: Controller, resources: &LinuxResources) -> Result<Vec<Step>, CgroupError> {
    let mut steps = Vec::new();
    match controller {
        Controller::Memory => resources.memory().iter().try_for_each(|given| memory(given, &mut steps))?,
        Controller::Cpu => resources.cpu().iter().for_each(|given| cpu(given, &mut steps)),
        Controller::Io => resources.block_io().iter().for_each(|given| block(given, &mut steps)),
        Controller::NetCls => resources.network().iter().for_each(|given| class(given, &mut steps)),
        Controller::NetPrio => resources.network().iter().for_each(|given| priorities(given, &mut steps)),
        Controller::Pids | Controller::Cpuset | Controller::Rdma => common::steps(controller, resources, &mut steps),
        Controller::Hugetlb => common::huge_pages(resources, "limit_in_bytes", |bytes| bytes.to_string(), &mut steps)?,
    }
    Ok(steps)
}

fn memory(given: &LinuxMemory, steps: &mut Vec<Step>) -> Result<(), CgroupError> {
    let limit = given.limit().filter(|limit| *limit != 0);
    // Memory without a limit, of which swap is a part, is swap without a limit.
    let swap = given.swap().filter(|swap| *swap != 0).or(limit.filter(|limit| *limit < 0));
    let sizes = limit.map(|bytes| Setting::new("memory.limit", "memory.limit_in_bytes", bytes)).into_iter();
    let swap = swap.map(|bytes| Setting::new("memory.swap", "memory.memsw.limit_in_bytes", bytes).or_else(NO_SWAP));
    steps.push(Step::Together(sizes.chain(swap).collect()));
    if let Some(bytes) = given.reservation().filter(|bytes| *bytes != 0) {
        steps.push(Step::Write(Setting::new("memory.reservation", "memory.soft_limit_in_bytes", bytes)));
    }
    if let Some(bytes) = given.kernel().filter(|bytes| *bytes != 0) {
        let setting = Setting::new("memory.kernel", "memory.kmem.limit_in_bytes", bytes);
        steps.push(Step::Write(setting.or_else(common::NO_KERNEL)));
    }
    if let Some(bytes) = given.kernel_tcp().filter(|bytes| *bytes != 0) {
        let setting = Setting::new("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", bytes);
        steps.push(Step::Write(setting.or_else(common::NO_KERNEL_TCP)));
    }
    match given.swappiness() {
        // -1 written as an unsigned number: engines mean "nothing said".
        None | Some(u64::MAX) => {}
        Some(percent @ 0..=100) => {
            steps.push(Step::Write(Setting::new("memory.swappiness", "memory.swappiness", percent)));
        }
        Some(other) => return Err(refused("memory.swappiness", format!("{other} is not from 0 to 100"))),
    }
    if let Some(disabled) = given.disable_oom_killer() {
        let setting = Setting::new("memory.disableOOMKiller", "memory.oom_control", u8::from(disabled));
        steps.push(Step::Write(setting.undone_by(Undo::Keyed("oom_kill_disable "))));
    }
    Ok(())
}

const NO_SWAP: &str = "the limit of swap has no effect: this kernel does not count swap (boot it with swapaccount=1)";

fn cpu(given: &LinuxCpu, steps: &mut Vec<Step>) {
    if let Some(shares) = given.shares().filter(|shares| *shares != 0) {
        steps.push(Step::Write(Setting::new("cpu.shares", "cpu.shares", shares)));
    }
    let period = given.period().filter(|us| *us != 0).map(|us| Setting::new("cpu.period", "cpu.cfs_period_us", us));
    let quota = given.quota().filter(|us| *us != 0).map(|us| Setting::new("cpu.quota", "cpu.cfs_quota_us", us));
    let burst = given.burst().map(|us| Setting::new("cpu.burst", "cpu.cfs_burst_us", us).or_else(common::NO_BURST));
    steps.push(Step::Together([period, quota, burst].into_iter().flatten().collect()));
    let period = given.realtime_period().filter(|us| *us != 0);
    let runtime = given.realtime_runtime().filter(|us| *us != 0);
    let period = period.map(|us| Setting::new("cpu.realtimePeriod", "cpu.rt_period_us", us));
    let runtime = runtime.map(|us| Setting::new("cpu.realtimeRuntime", "cpu.rt_runtime_us", us));
    steps.push(Step::Together([period, runtime].into_iter().flatten().collect()));
    if let Some(idle) = given.idle() {
        steps.push(Step::Write(Setting::new("cpu.idle", "cpu.idle", idle)));
    }
}

fn block(given: &LinuxBlockIo, steps: &mut Vec<Step>) {
    // `blkio.weight` went with the CFQ scheduler in Linux 5.0; BFQ has files of its own.
    let first = |key, files: [&'static str; 2], value: String, undo| {
        Step::First(files.map(|file| Setting::new(key, file, &value).undone_by(undo)).into())
    };
    if let Some(weight) = given.weight().filter(|weight| *weight != 0) {
        let files = ["blkio.weight", "blkio.bfq.weight"];
        steps.push(first("blockIO.weight", files, weight.to_string(), Undo::Whole));
    }
    if let Some(weight) = given.leaf_weight().filter(|weight| *weight != 0) {
        steps.push(Step::Write(Setting::new("blockIO.leafWeight", "blkio.leaf_weight", weight).or_else(NO_LEAF)));
    }
    for device in given.weight_device().iter().flatten() {
        let name = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            let files = ["blkio.weight_device", "blkio.bfq.weight_device"];
            steps.push(first("blockIO.weightDevice", files, format!("{name} {weight}"), Undo::Line("default")));
        }
        if let Some(weight) = device.leaf_weight() {
            let setting = Setting::new("blockIO.weightDevice", "blkio.leaf_weight_device", format!("{name} {weight}"));
            steps.push(Step::Write(setting.or_else(NO_LEAF).undone_by(Undo::Line("default"))));
        }
    }
    let mut throttle = |key, file, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            steps.push(Step::Write(Setting::new(key, file, line).undone_by(Undo::Line("0"))));
        }
    };
    let [read, write] = ["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"];
    throttle("blockIO.throttleReadBpsDevice", read, given.throttle_read_bps_device());
    throttle("blockIO.throttleWriteBpsDevice", write, given.throttle_write_bps_device());
    let [read, write] = ["blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"];
    throttle("blockIO.throttleReadIOPSDevice", read, given.throttle_read_iops_device());
    throttle("blockIO.throttleWriteIOPSDevice", write, given.throttle_write_iops_device());
}

const NO_LEAF: &str = "blockIO.leafWeight has no effect: it went with the CFQ scheduler in Linux 5.0";

fn class(given: &LinuxNetwork, steps: &mut Vec<Step>) {
    if let Some(class) = given.class_id().filter(|class| *class != 0) {
        steps.push(Step::Write(Setting::new("network.classID", "net_cls.classid", class)));
    }
}

fn priorities(given: &LinuxNetwork, steps: &mut Vec<Step>) {
    for entry in given.priorities().iter().flatten() {
        let line = format!("{} {}", entry.name(), entry.priority());
        let setting = Setting::new("network.priorities", "net_prio.ifpriomap", line);
        steps.push(Step::Write(setting.undone_by(Undo::Line("0"))));
    }
}
