//! A14: `mydocker run` with Docker's flags, each seen from inside or in the cgroup.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Case, Sandbox, cases};
use crate::{run, spawn};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a14_who_and_where,
        a14_names_and_labels,
        a14_settings_of_namespaces,
        a14_an_init_reaps,
        a14_limits_of_docker: Controllers,
        a14_what_is_not_there_is_told,
    ]
}

fn a14_who_and_where(sandbox: &Sandbox) {
    let who = ["-u", "app:users", "--group-add", "7", "-w", "/made/here", "--entrypoint", "sh", "--"];
    let told = run(sandbox, &[&who[..], &["-c", "id -u; id -g; id -G; pwd; echo $0"]].concat());
    assert_eq!(told.stdout, "1000\n100\n100 7\n/made/here\nsh\n", "{}", told.describe());
}

fn a14_names_and_labels(sandbox: &Sandbox) {
    let file = sandbox.dir().join("id");
    let path = file.to_str().expect("UTF-8");
    let labels = sandbox.dir().join("labels");
    fs::write(&labels, "# a comment\na=b\n").expect("our own");
    let words = [
        "--rm",
        "--quiet",
        "--no-healthcheck",
        "--expose",
        "80",
        "--cidfile",
        path,
        "--label-file",
        labels.to_str().expect("UTF-8"),
        "--annotation",
        "x=y",
        "--label",
        "z",
        "--add-host",
        "db:10.9.8.7",
        "--hostname",
        "here",
        "--domainname",
        "example",
        "sh",
        "-c",
        "hostname; cat /proc/sys/kernel/domainname; grep db /etc/hosts",
    ];
    assert_eq!(run(sandbox, &words).ok().stdout, "here\nexample\n10.9.8.7\tdb\n");
    let id = fs::read_to_string(&file).expect("written");
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    run(sandbox, &words).refused(125, &["id", "exists"]);
}

fn a14_settings_of_namespaces(sandbox: &Sandbox) {
    let words = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.msgmax=4096",
        "--shm-size",
        "1m",
        "--tmpfs",
        "/t:size=1m",
        "--read-only",
        "sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; df -k /dev/shm /t | awk 'NR > 1 { print $2 }'; touch /x",
    ];
    let told = run(sandbox, &words);
    assert!(told.stdout == "1\n4096\n1024\n1024\n" && told.stderr.contains("Read-only"), "{}", told.describe());
    run(sandbox, &["--sysctl", "kernel.panic=1", "true"]).refused(125, &["kernel.panic"]);
    run(sandbox, &["--ipc", "host", "--sysctl", "kernel.msgmax=1", "true"]).refused(125, &["kernel.msgmax", "IPC"]);
}

fn a14_an_init_reaps(sandbox: &Sandbox) {
    // A grandchild whose parent is gone becomes the init's, and nobody else would take its status.
    let script = "(sh -c 'exit 3' & exec true); until ! grep -q 'State:.Z' /proc/[0-9]*/status; do sleep 0.02; done; cat /proc/1/comm";
    assert_eq!(run(sandbox, &["--init", "sh", "-c", script]).ok().stdout, "mydocker-init\n");
}

fn a14_limits_of_docker(sandbox: &Sandbox) {
    let words = [
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "40",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--ulimit",
        "nofile=77:99",
        "sh",
        "-c",
        "ulimit -n; grep Cpus_allowed_list /proc/self/status; echo up; exec sleep 60",
    ];
    let mut running = spawn(sandbox, &words);
    let told = running.wait_for_stdout("up");
    assert!(told.starts_with("77\n") && told.contains("list:\t0\n"), "{told}");
    let value = |names: &[&str]| sandbox.cgroup_file("", names);
    assert_eq!(value(&["memory.limit_in_bytes", "memory.max"]).as_deref(), Some("67108864"));
    assert_eq!(value(&["pids.max"]).as_deref(), Some("40"));
    let quota = value(&["cpu.cfs_quota_us", "cpu.max"]);
    assert!(matches!(quota.as_deref(), Some("50000" | "50000 100000")), "{quota:?}");
    assert_eq!(value(&["cpuset.mems"]).as_deref(), Some("0"));
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(143);
}

fn a14_what_is_not_there_is_told(sandbox: &Sandbox) {
    run(sandbox, &["--restart", "always", "true"]).refused(125, &["--restart", "-d"]);
    run(sandbox, &["--privilegd", "true"]).refused(125, &["--privilegd", "--privileged"]);
}
