//! The lists of steps, without a kernel.

use super::*;

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Says steps as `file=value`, those held against each other joined by `&`, alternatives by `|`.
fn shown(steps: Vec<Step>) -> Vec<String> {
    let one = |setting: &Setting| format!("{}={}", setting.file, setting.value);
    let all = |settings: &[Setting], by: &str| settings.iter().map(one).collect::<Vec<_>>().join(by);
    steps
        .iter()
        .map(|step| match step {
            Step::Write(setting) => one(setting),
            Step::Together(settings) => all(settings, " & "),
            Step::First(settings) => all(settings, " | "),
            Step::Note(text) => format!("note: {text}"),
        })
        .filter(|text| !text.is_empty())
        .collect()
}

const NOTHING: Facts = Facts { memory_limit: None, cpu_quota: Cow::Borrowed("") };

fn v1_steps(json: &str) -> Vec<String> {
    let resources = resources(json);
    needed(&resources).into_iter().flat_map(|controller| shown(v1::steps(controller, &resources).unwrap())).collect()
}

fn v2_steps(json: &str) -> Vec<String> {
    let resources = resources(json);
    let steps = |controller| shown(v2::steps(controller, &resources, &NOTHING).unwrap());
    needed(&resources).into_iter().flat_map(steps).collect()
}

fn v2_error(json: &str) -> String {
    let resources = resources(json);
    let found = needed(&resources).into_iter().find_map(|c| v2::steps(c, &resources, &NOTHING).err());
    chain(&found.unwrap())
}

const EVERYTHING: &str = r#"{
    "memory": {"limit": 100, "reservation": 50, "swap": 300, "swappiness": 10, "disableOOMKiller": true, "kernel": 5, "kernelTCP": 6},
    "cpu": {"shares": 2048, "quota": 5000, "period": 10000, "burst": 1000, "idle": 1, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 7},
    "blockIO": {"weight": 20, "leafWeight": 30, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}}
}"#;

#[test]
fn everything_on_v1() {
    let network = r#"{"network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]},
        "cpu": {"realtimeRuntime": 950000, "realtimePeriod": 1000000}}"#;
    assert_eq!(
        v1_steps(EVERYTHING),
        [
            "memory.limit_in_bytes=100 & memory.memsw.limit_in_bytes=300",
            "memory.soft_limit_in_bytes=50",
            "memory.kmem.limit_in_bytes=5",
            "memory.kmem.tcp.limit_in_bytes=6",
            "memory.swappiness=10",
            "memory.oom_control=1",
            "cpu.shares=2048",
            "cpu.cfs_period_us=10000 & cpu.cfs_quota_us=5000 & cpu.cfs_burst_us=1000",
            "cpu.idle=1",
            "pids.max=7",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "blkio.weight=20 | blkio.bfq.weight=20",
            "blkio.leaf_weight=30",
            "blkio.weight_device=8:0 1000 | blkio.bfq.weight_device=8:0 1000",
            "blkio.throttle.read_bps_device=8:0 9",
            "blkio.throttle.write_iops_device=8:16 0",
            "hugetlb.2MB.limit_in_bytes=4194304",
            "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
    assert_eq!(
        v1_steps(network),
        ["cpu.rt_period_us=1000000 & cpu.rt_runtime_us=950000", "net_cls.classid=1048577", "net_prio.ifpriomap=lo 5"]
    );
}

#[test]
fn everything_on_v2() {
    let steps = v2_steps(EVERYTHING);
    let (notes, written): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.starts_with("note: "));
    assert_eq!(
        written,
        [
            "memory.swap.max=200",
            "memory.max=100",
            "memory.low=50",
            "cpu.idle=1",
            "cpu.weight=174",
            "cpu.max=5000 10000 & cpu.max.burst=1000",
            "pids.max=7",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "io.bfq.weight=20 | io.weight=102",
            "io.bfq.weight=8:0 1000 | io.weight=8:0 10000",
            "io.max=8:0 rbps=9",
            "io.max=8:16 wiops=max",
            "hugetlb.2MB.max=4194304",
            "hugetlb.2MB.rsvd.max=4194304",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
    let about: Vec<_> = notes.iter().filter_map(|note| note.split(' ').nth(1)).collect();
    let ignored =
        ["memory.kernel", "memory.kernelTCP", "memory.swappiness", "memory.disableOOMKiller", "blockIO.leafWeight"];
    assert_eq!(about, ignored);
}

#[test]
fn what_engines_send_for_nothing_is_nothing() {
    let nothing = r#"{"memory": {"limit": 0, "reservation": 0, "kernel": 0, "disableOOMKiller": false,
        "swappiness": 18446744073709551615, "checkBeforeUpdate": false}, "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""},
        "pids": {"limit": 0}, "blockIO": {"weight": 0, "weightDevice": []}, "hugepageLimits": [], "network": {"classID": 0}}"#;
    assert!(needed(&resources(nothing)).is_empty());
    assert!(needed(&LinuxResources::default()).is_empty());
}

#[test]
fn swap_on_v2_is_swap_alone() {
    let memory = |json: &str| v2_steps(&format!(r#"{{"memory": {json}}}"#));
    assert_eq!(memory(r#"{"limit": 100, "swap": 100}"#), ["memory.swap.max=0", "memory.max=100"]);
    assert_eq!(memory(r#"{"limit": 100, "swap": -1}"#), ["memory.swap.max=max", "memory.max=100"]);
    assert_eq!(memory(r#"{"limit": -1}"#), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(memory(r#"{"limit": -1, "swap": 0}"#), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(memory(r#"{"swap": 0}"#), ["memory.swap.max=0"]);
    assert!(v2_error(r#"{"memory": {"swap": 9}}"#).contains("it needs a limit of memory"));
    assert!(
        v2_error(r#"{"memory": {"limit": 10, "swap": 9}}"#).starts_with("set linux.resources.memory.swap: 9 is less")
    );
    assert!(v2_error(r#"{"cpu": {"realtimePeriod": 9}}"#).starts_with("set linux.resources.cpu.realtimePeriod"));
    let facts = Facts { memory_limit: Some(4), cpu_quota: Cow::Borrowed("5000") };
    let later = resources(r#"{"memory": {"swap": 9}, "cpu": {"period": 7000}}"#);
    let all = needed(&later).into_iter().flat_map(|c| shown(v2::steps(c, &later, &facts).unwrap()));
    assert_eq!(all.collect::<Vec<_>>(), ["memory.swap.max=5", "cpu.max=5000 7000"]);
    assert_eq!(v2_steps(r#"{"cpu": {"quota": -1}}"#), ["cpu.max=max"]);
}

#[test]
fn memory_without_a_limit_frees_swap_on_v1_too() {
    let steps = v1_steps(r#"{"memory": {"limit": -1}}"#);
    assert_eq!(steps, ["memory.limit_in_bytes=-1 & memory.memsw.limit_in_bytes=-1"]);
    let bad = resources(r#"{"memory": {"swappiness": 101}}"#);
    assert!(chain(&v1::steps(Controller::Memory, &bad).unwrap_err()).contains("101 is not from 0 to 100"));
    let bad = resources(r#"{"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}"#);
    assert!(chain(&v1::steps(Controller::Hugetlb, &bad).unwrap_err()).contains("is not a page size"));
}
