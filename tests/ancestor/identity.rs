//! B: namespaces and who somebody is in them, under `-a` and `-aU`.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Case, Sandbox, cases};
use crate::{ancestor, our_namespace, run, spawn_ancestor};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a9_exit_codes_of_the_ancestor,
        b1_namespaces_of_the_ancestor,
        b2_only_its_own_processes,
        b3_the_hosts_name_stays,
        b4_no_message_queue_of_the_host,
        b5_ids_of_the_ancestor_on_the_host,
        b6_maps_of_ones_own,
    ]
}

fn a9_exit_codes_of_the_ancestor(sandbox: &Sandbox) {
    assert_eq!(ancestor(sandbox, &["-a"], &["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(ancestor(sandbox, &["-a", "--init"], &["sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(ancestor(sandbox, &["-aU"], &["/bin/nope"]).code, 127);
    assert_eq!(ancestor(sandbox, &["-a"], &["/etc/passwd"]).code, 126);
}

fn b1_namespaces_of_the_ancestor(sandbox: &Sandbox) {
    let script = "for k in mnt uts ipc pid net cgroup user; do readlink /proc/self/ns/$k; done";
    for (flags, kept) in [("-a", &["user"][..]), ("-aU", &[])] {
        let told = ancestor(sandbox, &[flags], &["sh", "-c", script]).ok().stdout;
        for (kind, inside) in ["mnt", "uts", "ipc", "pid", "net", "cgroup", "user"].into_iter().zip(told.lines()) {
            let ours = our_namespace(sandbox, kind);
            assert_eq!(ours.trim() == inside, kept.contains(&kind), "{flags}: {kind} {inside}, ours {ours}");
        }
    }
}

fn b2_only_its_own_processes(sandbox: &Sandbox) {
    let told = ancestor(sandbox, &["-a"], &["sh", "-c", "echo $$; ls -d /proc/[0-9]*; true"]).ok().stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines, ["1", "/proc/1"], "the shell, as it looks for names");
}

fn b3_the_hosts_name_stays(sandbox: &Sandbox) {
    let before = sandbox.host(&["hostname"]).ok().stdout;
    let told = ancestor(sandbox, &["-a", "--cap-add", "SYS_ADMIN"], &["hostname"]).ok().stdout;
    assert_eq!(told, "container\n");
    let script = "hostname other && hostname";
    let words = ["--cap-add", "SYS_ADMIN", "--hostname", "named", "sh", "-c", script];
    assert_eq!(run(sandbox, &words).ok().stdout, "other\n");
    assert_eq!(sandbox.host(&["hostname"]).ok().stdout, before);
}

fn b4_no_message_queue_of_the_host(sandbox: &Sandbox) {
    // ipcmk(1) names it; without that tool there is no queue of the host to look for.
    let made = sandbox.shell("ipcmk -Q | grep -o '[0-9]*$'").ok().stdout;
    let queue = made.trim();
    let shown = ancestor(sandbox, &["-a"], &["cat", "/proc/sysvipc/msg"]);
    let gone = sandbox.host(&["ipcrm", "-q", queue]);
    assert_eq!(shown.ok().stdout.lines().count(), 1, "the head of the table alone");
    gone.ok();
}

fn b5_ids_of_the_ancestor_on_the_host(sandbox: &Sandbox) {
    let mut running =
        spawn_ancestor(sandbox, &["-aU"], &["sh", "-c", "cat /proc/self/gid_map; echo up; exec sleep 60"]);
    let told = running.wait_for_stdout("up");
    assert_eq!(told.split_whitespace().take(3).collect::<Vec<_>>(), ["0", "100000", "65536"]);
    let pid = *sandbox.pids().first().expect("the container's process");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    for line in ["Uid:\t100000\t100000\t100000\t100000", "Gid:\t100000\t100000\t100000\t100000"] {
        assert!(status.contains(line), "{status}");
    }
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(143);
}

fn b6_maps_of_ones_own(sandbox: &Sandbox) {
    let words = [
        "--uid-map",
        "0:5000:10,10:7000:5",
        "--gid-map",
        "0:6000:10",
        "sh",
        "-c",
        "cat /proc/self/uid_map /proc/self/gid_map",
    ];
    let told = run(sandbox, &words).ok().stdout;
    let words: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(words, ["0", "5000", "10", "10", "7000", "5", "0", "6000", "10"]);
    run(sandbox, &["--uid-map", "0:5000", "true"]).refused(125, &["--uid-map"]);
}
