//! A and E: limits on the command line, and what the kernel makes of them.

use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::support::{Case, Running, Sandbox, cases, eventually};
use crate::{ancestor, run, spawn_ancestor};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a4_the_ends_of_the_ranges: Controllers,
        a6_c_alone_means_all_four: Controllers,
        e3_processes_are_counted_and_ours_is_not: Controllers,
        e4_the_weight_is_a_ratio: Controllers,
        e6_only_the_container_is_in_its_cgroup: Controllers,
        e7_a_cgroup_namespace: Controllers,
        e10_limits_of_a_process,
    ]
}

fn value(sandbox: &Sandbox, names: &[&str]) -> Option<String> {
    sandbox.cgroup_file("", names)
}

/// The weight of block I/O, where this host has one.
fn io_weight(sandbox: &Sandbox) -> Option<String> {
    let found = value(sandbox, &["blkio.weight", "blkio.bfq.weight", "io.bfq.weight", "io.weight"])?;
    found.lines().next().and_then(|line| line.split_whitespace().last()).map(str::to_owned)
}

fn end(running: Running) {
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(143);
}

fn a4_the_ends_of_the_ranges(sandbox: &Sandbox) {
    for (percent, pids, weight, shares) in [("1", "10", "10", "10"), ("100", "32768", "1000", "1024")] {
        let flags = ["-ac", "-M", "4294967296", "-C", percent, "-P", pids, "-I", weight];
        let mut running = spawn_ancestor(sandbox, &flags, &["sh", "-c", "echo up; exec sleep 60"]);
        running.wait_for_stdout("up");
        assert_eq!(value(sandbox, &["memory.limit_in_bytes", "memory.max"]).as_deref(), Some("4294967296"));
        assert_eq!(value(sandbox, &["pids.max"]).as_deref(), Some(pids));
        let cpu = value(sandbox, &["cpu.shares", "cpu.weight"]);
        assert!(cpu.as_deref() == Some(shares) || cpu.as_deref() == Some(percent), "{cpu:?}");
        end(running);
    }
}

fn a6_c_alone_means_all_four(sandbox: &Sandbox) {
    let mut running = spawn_ancestor(sandbox, &["-ac"], &["sh", "-c", "echo up; exec sleep 60"]);
    running.wait_for_stdout("up");
    assert_eq!(value(sandbox, &["memory.limit_in_bytes", "memory.max"]).as_deref(), Some("1073741824"));
    assert_eq!(value(sandbox, &["pids.max"]).as_deref(), Some("64"));
    let cpu = value(sandbox, &["cpu.shares", "cpu.weight"]);
    assert!(matches!(cpu.as_deref(), Some("256" | "25")), "{cpu:?}");
    match io_weight(sandbox) {
        Some(weight) => assert!(matches!(weight.as_str(), "10" | "1"), "{weight}"),
        None => {
            assert!(running.stderr().contains("weight"), "a weight that cannot be set is told: {}", running.stderr())
        }
    }
    end(running);
}

fn e3_processes_are_counted_and_ours_is_not(sandbox: &Sandbox) {
    // The shell and nine more; the tenth is one too many.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo nine; sleep 60 & echo ten";
    let told = ancestor(sandbox, &["-ac", "-P", "10"], &["sh", "-c", script]);
    assert!(told.stdout.starts_with("nine\n") && told.stderr.contains("can't fork"), "{}", told.describe());
}

/// Ticks of CPU time that a process has had.
fn ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let rest = stat.rsplit_once(") ").expect("a name").1;
    let number = |at: usize| rest.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok()).expect("a number");
    number(11) + number(12)
}

fn e4_the_weight_is_a_ratio(sandbox: &Sandbox) {
    let spin = |percent: &str| {
        // CPU 0 is there on every machine.
        let flags = ["-ac", "-C", percent, "--cpuset-cpus", "0"];
        let before = sandbox.pids();
        let mut running = spawn_ancestor(sandbox, &flags, &["sh", "-c", "echo up; while :; do :; done"]);
        running.wait_for_stdout("up");
        let pid = sandbox.pids().into_iter().find(|pid| !before.contains(pid)).expect("its process");
        (running, pid)
    };
    let (much, little) = (spin("75"), spin("25"));
    let begun = (ticks(much.1), ticks(little.1));
    let (more, less) = eventually("they have had two seconds of the CPU", || {
        let had = (ticks(much.1) - begun.0, ticks(little.1) - begun.1);
        (had.0 + had.1 >= 200).then_some(had)
    });
    for (running, _) in [much, little] {
        running.signal(Signal::SIGKILL);
        running.wait();
    }
    run(sandbox, &["true"]).ok();
    // 3 to 1 is meant; the scheduler of a loaded machine is forgiven much.
    assert!(more > less * 3 / 2 && less > 0, "{more} to {less}");
}

fn e6_only_the_container_is_in_its_cgroup(sandbox: &Sandbox) {
    let ours = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    let mut running = spawn_ancestor(sandbox, &["-ac"], &["sh", "-c", "sleep 60 & echo up; wait"]);
    running.wait_for_stdout("up");
    let of_mydocker = fs::read_to_string(format!("/proc/{}/cgroup", running.pid())).expect("it runs");
    assert_eq!(of_mydocker, ours, "mydocker stays where it was started");
    let inside = sandbox.pids();
    assert_eq!(inside.len(), 2, "the shell and its sleep: {inside:?}");
    for pid in inside {
        let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).expect("it runs");
        assert_ne!(namespace, fs::read_link("/proc/self/ns/pid").expect("ours"));
    }
    running.signal(Signal::SIGKILL);
    running.wait();
    eventually("it has ended, too", || sandbox.pids().is_empty().then_some(()));
    run(sandbox, &["true"]).ok();
}

fn e7_a_cgroup_namespace(sandbox: &Sandbox) {
    let told = ancestor(sandbox, &["-ac"], &["cat", "/proc/self/cgroup"]).ok().stdout;
    // Of hierarchies that it has no cgroup in, the root is its mydocker's.
    let ours = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    for controller in [":memory:", ":pids:", ":cpu", "0::"] {
        let line = told.lines().find(|line| line.contains(controller));
        let at_root = line.is_none_or(|line| line.ends_with(":/"));
        assert!(at_root, "{controller} {line:?}, ours:\n{ours}");
    }
}

fn e10_limits_of_a_process(sandbox: &Sandbox) {
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let told = run(sandbox, &["--ulimit", "nofile=64", "--ulimit", "core=0:1024", "sh", "-c", script]).ok();
    assert_eq!(told.stdout, "64\n64\n0\n2\n", "ulimit -c counts blocks of 512 bytes");
    run(sandbox, &["--ulimit", "nosuch=1", "true"]).refused(125, &["nosuch"]);
    run(sandbox, &["--ulimit", "nofile=9:8", "true"]).refused(125, &["nofile"]);
}
