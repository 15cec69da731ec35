//! Cgroups on the running kernel, in a subtree that each test makes and removes.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::spec::{CpuWeight, ResourceLimits};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup parent that is gone when the test ends, however it ends.
pub(super) struct Subtree {
    pub hierarchies: Hierarchies,
    pub path: CgroupPath,
}

impl Subtree {
    /// No level of it is another test's: tests of one process run at the same time.
    pub fn new(name: &str) -> Self {
        let path = CgroupPath::new(&format!("mydocker-test-{}-{name}/tree", std::process::id())).unwrap();
        Self { hierarchies: Hierarchies::discover().unwrap(), path }
    }

    /// The same on a host that has no v2.
    pub fn without_v2(name: &str) -> Self {
        let mut tree = Self::new(name);
        tree.hierarchies.v2 = None;
        tree
    }

    fn create(&self, name: &str, limits: &ResourceLimits) -> Cgroup {
        self.hierarchies.create(&self.path.join(name).unwrap(), limits).unwrap()
    }

    /// Where a controller's files of a child are: in its v1 hierarchy or in v2.
    pub fn dir(&self, name: &str, controller: &str) -> PathBuf {
        let mount = self.hierarchies.v1_with(controller).or(self.hierarchies.v2.as_ref()).unwrap();
        self.path.join(name).unwrap().below(&mount.point)
    }
}

impl Drop for Subtree {
    fn drop(&mut self) {
        let record = CgroupRecord { path: self.path.clone(), parents: 1 };
        if let Ok(Some(all)) = self.hierarchies.open_bundle(&record) {
            let _ = all.kill();
            let _ = all.remove(PATIENCE);
        }
        self.hierarchies.remove_parents(&record);
    }
}

/// Starts a program that joins a cgroup before anything else.
pub(super) fn start_in(cgroup: &Cgroup, script: &str) -> Child {
    let files = cgroup.directories().map(|dir| dir.join("cgroup.procs"));
    let child = Command::new("sh")
        .args(["-c", "for f; do echo 0 > $f || exit 1; done; echo in; eval \"$SCRIPT\"", "sh"])
        .args(files)
        .env("SCRIPT", script)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "in\n");
    child
}

pub(super) fn value(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
}

fn ancestor() -> ResourceLimits {
    ResourceLimits {
        memory: Some(1_073_741_824),
        cpu_weight: Some(CpuWeight::Percent(50)),
        pids: Some(333),
        io_weight: Some(20),
        ..ResourceLimits::default()
    }
}

#[test]
fn the_ancestors_example_reads_back() {
    let tree = Subtree::new("example");
    let cgroup = tree.create("c", &ancestor());
    let on_v1 = |controller| tree.hierarchies.v1_with(controller).is_some();
    let (file, weight) = if on_v1("cpu") { ("cpu.shares", "512") } else { ("cpu.weight", "50") };
    assert_eq!(value(&tree.dir("c", "cpu"), file), weight);
    let file = if on_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(value(&tree.dir("c", "memory"), file), "1073741824");
    assert_eq!(value(&tree.dir("c", "pids"), "pids.max"), "333");
    // The weight's file is there only with BFQ or the cost model; without one it is a warning.
    let io = tree.dir("c", if on_v1("blkio") { "blkio" } else { "io" });
    let weights = ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight", "io.weight"];
    match weights.iter().find(|file| io.join(file).exists()) {
        Some(&"io.weight") => assert_eq!(value(&io, "io.weight"), "default 102"),
        Some(file) => assert_eq!(value(&io, file).trim_start_matches("default "), "20"),
        None => assert!(cgroup.warnings()[0].contains("i/o weight"), "{:?}", cgroup.warnings()),
    }
    assert_eq!(cgroup.stats().unwrap().memory_limit, Some(1_073_741_824));
}

#[test]
fn every_other_limit_reads_back() {
    let tree = Subtree::new("others");
    let limits = ResourceLimits {
        memory: Some(64 << 20),
        memory_reservation: Some(32 << 20),
        nano_cpus: Some(500_000_000),
        cpuset: Some("0".to_owned()),
        ..ResourceLimits::default()
    };
    tree.create("c", &limits);
    let v1 = tree.hierarchies.v1_with("memory").is_some();
    let read = |controller: &str, one: &str, two: &str| value(&tree.dir("c", controller), if v1 { one } else { two });
    assert_eq!(read("memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
    assert_eq!(read("cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    assert_eq!(read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
}

#[test]
fn it_may_be_made_twice_and_the_second_limits_count() {
    let tree = Subtree::new("twice");
    let swap =
        |memory, both| ResourceLimits { memory: Some(memory), memory_swap: Some(both), ..ResourceLimits::default() };
    tree.create("c", &swap(32 << 20, 32 << 20));
    // Higher than the old memory and swap together: v1 takes the two in the other order.
    tree.create("c", &swap(64 << 20, 64 << 20));
    let file = if tree.hierarchies.v1_with("memory").is_some() { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(value(&tree.dir("c", "memory"), file), (64 << 20).to_string());
}

#[test]
fn without_limits_it_is_one_directory() {
    let tree = Subtree::new("plain");
    let cgroup = tree.create("c", &ResourceLimits::default());
    assert_eq!(cgroup.directories().count(), 1);
    assert!(cgroup.is_empty().unwrap());
    assert_eq!(cgroup.clone_into().is_some(), tree.hierarchies.has_v2());
}

#[test]
fn a_thread_joins_by_writing_zero_to_v1_tasks() {
    let tree = Subtree::new("join");
    let cgroup = tree.create("c", &ancestor());
    let tasks = cgroup.v1_tasks().unwrap();
    let path = cgroup.path().to_string();
    let (joined, v1) = std::thread::spawn(move || {
        let v1 = tasks.len();
        for fd in tasks {
            std::fs::File::from(fd).write_all(b"0").unwrap();
        }
        let own = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        (own.lines().filter(|line| line.ends_with(&path)).count(), v1)
    })
    .join()
    .unwrap();
    assert_eq!(joined, v1);
    cgroup.remove(PATIENCE).unwrap();
}

#[test]
fn kill_leaves_nobody_and_remove_leaves_nothing() {
    let tree = Subtree::new("kill");
    let cgroup = tree.create("c", &ResourceLimits { pids: Some(64), ..ResourceLimits::default() });
    // A process that forks until it is stopped, and cgroups of the container's own below ours.
    for dir in cgroup.directories() {
        std::fs::create_dir_all(dir.join("inner/most")).unwrap();
    }
    let mut child = start_in(&cgroup, "while :; do sleep 1000 & sleep 0.01 2>/dev/null || exit; done");
    assert!(!cgroup.is_empty().unwrap());
    assert!(cgroup.processes().unwrap().contains(&i32::try_from(child.id()).unwrap()));
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove(PATIENCE).unwrap();
    assert!(cgroup.directories().all(|dir| !dir.exists()));
    assert_eq!(cgroup.processes().unwrap(), [0; 0]);
    cgroup.remove(PATIENCE).unwrap();
    cgroup.kill().unwrap();
}

#[test]
fn without_v2_the_freezer_holds_them_while_they_are_killed() {
    let tree = Subtree::without_v2("v1");
    if tree.hierarchies.v1.is_empty() {
        // Pure v2: that there is nothing to make a cgroup in is an error.
        let path = tree.path.join("c").unwrap();
        assert!(matches!(tree.hierarchies.create(&path, &ResourceLimits::default()), Err(CgroupError::NoHierarchy)));
        return;
    }
    let cgroup = tree.create("c", &ResourceLimits::default());
    assert!(cgroup.clone_into().is_none() && cgroup.v1.len() <= 2);
    let mut child = start_in(&cgroup, "while :; do sleep 1000 & sleep 0.01 2>/dev/null || exit; done");
    cgroup.freeze().unwrap();
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_empty().unwrap());
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove(PATIENCE).unwrap();
    assert!(cgroup.is_empty().unwrap());
}

#[test]
fn without_v2_and_freezer_running_out_of_pids_holds_them() {
    let mut tree = Subtree::without_v2("pids");
    tree.hierarchies.v1.retain(|mount| mount.controllers.iter().any(|name| name == "pids"));
    if tree.hierarchies.v1.is_empty() {
        return;
    }
    let cgroup = tree.create("c", &ResourceLimits::default());
    let mut child = start_in(&cgroup, "exec 2>/dev/null; f() { f | f & }; f; sleep 1000");
    assert!(matches!(cgroup.freeze(), Err(CgroupError::NoFreezer { .. })));
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove(PATIENCE).unwrap();
}

#[test]
fn a_fork_bomb_is_held_and_killed() {
    let tree = Subtree::new("bomb");
    let cgroup = tree.create("c", &ResourceLimits { pids: Some(50), ..ResourceLimits::default() });
    let mut child = start_in(&cgroup, "exec 2>/dev/null; f() { f | f & }; f; sleep 1000");
    let before = std::time::Instant::now();
    cgroup.kill().unwrap();
    cgroup.remove(PATIENCE).unwrap();
    assert!(before.elapsed() < Duration::from_secs(5));
    child.wait().unwrap();
}

#[test]
fn events_tell_when_the_last_process_has_gone() {
    let tree = Subtree::new("events");
    let cgroup = tree.create("c", &ResourceLimits::default());
    let Some(events) = cgroup.events().unwrap() else { return };
    let mut child = start_in(&cgroup, "exec sleep 1000");
    let mut text = [0; 64];
    rustix::io::read(&events, &mut text).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let wait = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    let ready = rustix::event::poll(
        &mut [rustix::event::PollFd::new(&events.as_fd(), rustix::event::PollFlags::PRI)],
        Some(&wait),
    );
    assert_eq!(ready.unwrap(), 1);
    assert!(cgroup.is_empty().unwrap());
}

#[test]
fn a_frozen_cgroup_stands_still_and_goes_on() {
    let tree = Subtree::new("freeze");
    let cgroup = tree.create("c", &ResourceLimits::default());
    let mut child = start_in(&cgroup, "exec sleep 1000");
    cgroup.freeze().unwrap();
    cgroup.thaw().unwrap();
    cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn out_of_memory_is_counted() {
    let tree = Subtree::new("oom");
    let limits = ResourceLimits { memory: Some(16 << 20), memory_swap: Some(16 << 20), ..ResourceLimits::default() };
    let cgroup = tree.create("c", &limits);
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    let mut child = start_in(&cgroup, "exec tail /dev/zero");
    child.wait().unwrap();
    assert!(cgroup.oom_kills().unwrap() >= 1);
}

#[test]
fn one_that_was_made_before_is_found_again() {
    let tree = Subtree::new("open");
    tree.create("a", &ancestor());
    tree.create("b", &ResourceLimits::default());
    let children = tree.hierarchies.children(&tree.path).unwrap();
    assert_eq!(children.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    let found = tree.hierarchies.open(&tree.path.join("a").unwrap()).unwrap().unwrap();
    assert!(found.directories().count() >= 1);
    found.remove(PATIENCE).unwrap();
    assert!(tree.hierarchies.open(&tree.path.join("a").unwrap()).unwrap().is_none());
}

#[test]
fn a_cgroup_taken_away_is_an_error_with_its_path() {
    let tree = Subtree::new("gone");
    let cgroup = tree.create("c", &ancestor());
    cgroup.remove(PATIENCE).unwrap();
    assert_eq!(cgroup.v1_tasks().is_err(), !cgroup.v1.is_empty());
    if cgroup.v2.is_some() {
        let error = cgroup.v2_procs().unwrap_err();
        assert!(error.to_string().contains("/c/cgroup.procs"), "{error}");
    }
}

#[test]
fn remove_says_who_is_in_the_way() {
    let tree = Subtree::new("busy");
    let cgroup = tree.create("c", &ResourceLimits::default());
    let mut child = start_in(&cgroup, "exec sleep 1000");
    let error = cgroup.remove(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, CgroupError::Slow { state: "empty", .. }), "{error}");
    assert!(error.hint().unwrap().contains("cgroup.procs"));
    child.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove(PATIENCE).unwrap();
}

#[test]
fn a_limit_that_nobody_enforces_is_refused_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let line = "1 2 0:1 / /unified rw - cgroup2 cgroup2 rw\n2 2 0:2 / /pids rw - cgroup cgroup rw,pids\n";
    std::fs::create_dir(root.path().join("unified")).unwrap();
    let hierarchies = Hierarchies::from_mountinfo(line, root.path());
    let path = CgroupPath::new("/mydocker/a").unwrap();
    let error =
        hierarchies.create(&path, &ResourceLimits { memory: Some(1 << 20), ..ResourceLimits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "limit memory: no cgroup hierarchy has the controller `memory`");
    assert!(!root.path().join("unified/mydocker").exists());
    // The directory that cannot be limited is not left behind.
    let error = hierarchies.create(&path, &ResourceLimits { pids: Some(5), ..ResourceLimits::default() }).unwrap_err();
    assert!(error.to_string().contains("pids"), "{error}");
    assert!(!root.path().join("unified/mydocker").exists());
    let weight = ResourceLimits { io_weight: Some(20), ..ResourceLimits::default() };
    let cgroup = hierarchies.create(&path, &weight).unwrap();
    assert!(cgroup.warnings()[0].contains("i/o weight"));
}

#[test]
fn v2_controllers_are_enabled_from_the_top_down() {
    let root = tempfile::tempdir().unwrap();
    let hierarchies = Hierarchies::from_mountinfo("1 2 0:1 / / rw - cgroup2 cgroup2 rw\n", root.path());
    let put = |path: &str, text: &str| std::fs::write(root.path().join(path), text).unwrap();
    std::fs::create_dir_all(root.path().join("mydocker/p/c")).unwrap();
    put("cgroup.controllers", "cpu io memory pids\n");
    for dir in ["", "mydocker/", "mydocker/p/"] {
        put(&format!("{dir}cgroup.subtree_control"), "");
    }
    for file in ["memory.max", "cpu.weight", "pids.max", "io.weight"] {
        put(&format!("mydocker/p/c/{file}"), "");
    }
    put("mydocker/p/c/cgroup.controllers", "pids\n");
    hierarchies.create(&CgroupPath::new("/mydocker/p/c").unwrap(), &ancestor()).unwrap();
    for dir in ["", "mydocker/", "mydocker/p/"] {
        // A plain file keeps only the last write; the kernel's takes each.
        assert!(value(root.path(), &format!("{dir}cgroup.subtree_control")).starts_with('+'));
    }
    let leaf = root.path().join("mydocker/p/c");
    let values = ["memory.max", "cpu.weight", "pids.max", "io.weight"].map(|file| value(&leaf, file));
    assert_eq!(values, ["1073741824", "50", "333", "102"]);
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let tree = Subtree::new("figures");
    let mean = |what: &str, limits: &ResourceLimits| {
        let mut make = Duration::ZERO;
        let mut remove = Duration::ZERO;
        for at in 0..50 {
            let before = std::time::Instant::now();
            let cgroup = tree.create(&format!("c{at}"), limits);
            make += before.elapsed();
            let before = std::time::Instant::now();
            cgroup.remove(PATIENCE).unwrap();
            remove += before.elapsed();
        }
        println!("{what}: create {:?}, remove {:?}", make / 50, remove / 50);
    };
    mean("no limits", &ResourceLimits::default());
    mean("pids", &ResourceLimits { pids: Some(100), ..ResourceLimits::default() });
    mean("cpu", &ResourceLimits { nano_cpus: Some(1_000_000_000), ..ResourceLimits::default() });
    mean("memory", &ResourceLimits { memory: Some(1 << 30), ..ResourceLimits::default() });
    mean("ancestor's four", &ancestor());
}
