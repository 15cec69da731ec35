//! A bundle's cgroup on the running kernel.

use oci_spec::runtime::LinuxResources;

use super::tests::{PATIENCE, Subtree, start_in, value};
use super::*;

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn bundle(tree: &Subtree, name: &str, json: &str) -> Result<Cgroup, CgroupError> {
    tree.hierarchies.create_for_bundle(&tree.path.join(name).unwrap(), 0, &resources(json))
}

/// Says an error with all that is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Reads a file of a child that has another name on v2.
fn read(tree: &Subtree, controller: &str, v1: &str, v2: &str) -> String {
    let on_v1 = tree.hierarchies.v1_with(controller).is_some();
    value(&tree.dir("c", controller), if on_v1 { v1 } else { v2 })
}

#[test]
fn a_bundle_has_a_directory_in_every_hierarchy_and_leaves_none() {
    let tree = Subtree::new("bundle");
    let path = tree.path.join("c").unwrap();
    let missing = tree.hierarchies.missing_parents(&path);
    let cgroup = bundle(&tree, "c", "{}").unwrap();
    assert_eq!((missing, tree.hierarchies.missing_parents(&path)), (cgroup.record().parents, 0));
    let all = tree.hierarchies.v1.len() + tree.hierarchies.v1_others.len() + usize::from(tree.hierarchies.has_v2());
    assert_eq!(cgroup.directories().filter(|dir| dir.is_dir()).count(), all);
    let record = cgroup.record();
    assert_eq!(record.parents, 2, "{record:?}");
    let json = serde_json::to_string(&record).unwrap();
    let mut child = start_in(&cgroup, "exec sleep 1000");
    assert_eq!(cgroup.processes().unwrap(), [i32::try_from(child.id()).unwrap()]);
    drop(cgroup);
    // Another process, later.
    let record: CgroupRecord = serde_json::from_str(&json).unwrap();
    let found = tree.hierarchies.open_bundle(&record).unwrap().unwrap();
    assert_eq!(found.record(), record);
    found.kill().unwrap();
    child.wait().unwrap();
    found.remove(PATIENCE).unwrap();
    assert!(tree.hierarchies.open_bundle(&record).unwrap().is_none());
    // As after a kill in the middle: one hierarchy has one level only.
    let half = tree.hierarchies.mounts().next().unwrap();
    std::fs::remove_dir(tree.path.below(&half.point)).unwrap();
    tree.hierarchies.remove_parents(&record);
    assert!(!tree.path.below(&half.point).parent().unwrap().exists(), "what is above what is missing goes too");
    for mount in tree.hierarchies.mounts().chain(&tree.hierarchies.v1_others) {
        assert!(!tree.path.below(&mount.point).exists(), "{:?}", mount.point);
    }
}

#[test]
fn what_is_there_is_taken_only_if_nobody_is_in_it() {
    let tree = Subtree::new("taken");
    let first = bundle(&tree, "c", "{}").unwrap();
    let mut child = start_in(&first, "exec sleep 1000");
    let error = bundle(&tree, "c", "{}").unwrap_err();
    assert!(matches!(error, CgroupError::InUse { processes: 1, .. }), "{error}");
    first.kill().unwrap();
    child.wait().unwrap();
    first.freeze().unwrap();
    assert!(first.is_frozen().unwrap());
    assert!(matches!(bundle(&tree, "c", "{}").unwrap_err(), CgroupError::Frozen { .. }));
    first.thaw().unwrap();
    assert!(!first.is_frozen().unwrap());
    assert_eq!(bundle(&tree, "c", "{}").unwrap().record().parents, 0);
}

#[test]
fn a_change_touches_only_what_is_given() {
    let tree = Subtree::new("update");
    let json = r#"{"memory": {"limit": 67108864, "swap": 67108864}, "cpu": {"quota": 5000, "period": 10000, "shares": 512},
        "pids": {"limit": 100}}"#;
    let cgroup = bundle(&tree, "c", json).unwrap();
    assert_eq!(read(&tree, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    // Higher than memory and swap together were: the two go in the other order.
    cgroup.update(&resources(r#"{"memory": {"limit": 134217728, "swap": 134217728}}"#)).unwrap();
    assert_eq!(read(&tree, "memory", "memory.limit_in_bytes", "memory.max"), "134217728");
    assert_eq!(read(&tree, "pids", "pids.max", "pids.max"), "100");
    cgroup.update(&resources(r#"{"cpu": {"period": 20000}}"#)).unwrap();
    cgroup.update(&resources(r#"{"pids": {"limit": -1}}"#)).unwrap();
    assert_eq!(read(&tree, "pids", "pids.max", "pids.max"), "max");
    let quota = read(&tree, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota.split(' ').next(), Some("5000"));
    cgroup.update(&resources(r#"{"cpu": {"quota": -1}, "memory": {"limit": -1}}"#)).unwrap();
    assert_eq!(cgroup.stats().unwrap().memory_limit, None);
    let quota = read(&tree, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "-1" || quota == "max 20000", "{quota}");
}

#[test]
fn a_change_that_fails_is_undone_and_names_its_key() {
    let tree = Subtree::new("undone");
    let cgroup = bundle(&tree, "c", r#"{"memory": {"limit": 67108864}}"#).unwrap();
    let shares = read(&tree, "cpu", "cpu.shares", "cpu.weight");
    let change = resources(r#"{"memory": {"limit": 134217728}, "cpu": {"shares": 300, "cpus": "nonsense"}}"#);
    let error = cgroup.update(&change).unwrap_err();
    assert!(chain(&error).starts_with("set linux.resources.cpu.cpus: "), "{}", chain(&error));
    assert_eq!(read(&tree, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read(&tree, "cpu", "cpu.shares", "cpu.weight"), shares);
    let change = resources(r#"{"memory": {"limit": 1, "checkBeforeUpdate": true}}"#);
    // Something must be in use.
    let mut child = start_in(&cgroup, "exec sleep 1000");
    assert!(chain(&cgroup.update(&change).unwrap_err()).contains("bytes in use"));
    cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_bundle_that_cannot_be_leaves_nothing() {
    let tree = Subtree::new("cannot");
    for (json, expected) in [
        (r#"{"unified": {"foo.bar": "1"}}"#, "the requested cgroup controller `foo` is not available"),
        (r#"{"unified": {"NOT-A-KEY": "1"}}"#, "the specified key has not the form CONTROLLER.VALUE `NOT-A-KEY`"),
        (r#"{"unified": {"../x/memory.max": "1"}}"#, "has not the form CONTROLLER.VALUE"),
        (r#"{"unified": {"cgroup.NOSUCH": "1"}}"#, "linux.resources.unified.cgroup.NOSUCH: write `1` to"),
        (r#"{"network": {"classID": 5}}"#, "linux.resources.network.classID: "),
        (r#"{"rdma": {"mlx5_1": {"hcaHandles": 3}}}"#, "linux.resources.rdma: "),
        (r#"{"cpu": {"cpus": "4000"}}"#, "linux.resources.cpu.cpus: write `4000` to /sys/"),
    ] {
        // The other reason to say no, where it is the host's.
        let error = chain(&bundle(&tree, "c", json).unwrap_err());
        let no_v2 = !tree.hierarchies.has_v2() && json.contains("unified");
        assert!(error.contains(expected) || no_v2, "{json}: {error}");
        for mount in tree.hierarchies.mounts().chain(&tree.hierarchies.v1_others) {
            assert!(!tree.path.below(&mount.point).exists(), "{json}: {:?}", mount.point);
        }
    }
}

#[test]
fn statistics_have_the_form_that_engines_read() {
    let tree = Subtree::new("statistics");
    let cgroup = bundle(&tree, "c", r#"{"memory": {"limit": 67108864}, "pids": {"limit": 99}}"#).unwrap();
    // Until the kernel has accounted time and memory to it.
    let mut child = start_in(&cgroup, "while :; do :; done");
    let in_use = |all: &serde_json::Value| {
        [&all["cpu"]["usage"]["total"], &all["memory"]["usage"]["usage"]].iter().all(|used| used.as_u64() > Some(0))
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    let all = loop {
        let all = serde_json::to_value(cgroup.statistics().unwrap()).unwrap();
        if in_use(&all) || std::time::Instant::now() > deadline {
            break all;
        }
        std::thread::yield_now();
    };
    assert!(in_use(&all), "{all}");
    assert_eq!((&all["memory"]["usage"]["limit"], &all["pids"]["limit"]), (&67_108_864.into(), &99.into()));
    assert_eq!(all["pids"]["current"], 1);
    assert!(!all["memory"]["raw"].as_object().unwrap().is_empty());
    assert_eq!(all["cpuset"]["mems"][0], 0);
    for key in ["blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
        assert!(all.get(key).is_some(), "{key}");
    }
    cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn running_out_of_memory_is_told() {
    use rustix::event::{PollFd, Timespec, poll};
    let tree = Subtree::new("told");
    let cgroup = bundle(&tree, "c", r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#).unwrap();
    let Some(mut watch) = cgroup.watch_oom().unwrap() else { return };
    assert_eq!(watch.happened().unwrap(), Some(false));
    let mut child = start_in(&cgroup, "exec tail /dev/zero");
    let wait = Timespec { tv_sec: 30, tv_nsec: 0 };
    // v2 tells of every approach to the limit, too.
    while watch.happened().unwrap() != Some(true) {
        let interest = watch.interest();
        assert_eq!(poll(&mut [PollFd::new(&watch, interest)], Some(&wait)), Ok(1), "nobody told");
    }
    child.wait().unwrap();
    cgroup.remove(PATIENCE).unwrap();
    let interest = watch.interest();
    poll(&mut [PollFd::new(&watch, interest)], Some(&wait)).unwrap();
    assert_eq!(watch.happened().unwrap(), None);
}
