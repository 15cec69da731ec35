//! `--device`, `--device-cgroup-rule`, `--privileged` and the keys of compose files: which of the host's devices a container has,
//! and what it may do with them.
//!
//! The device is 1:11, the kernel's log, which every machine has and no container by itself: opened for writing and not written to.

use std::fs;

use crate::support::{Case, Sandbox, cases};
use crate::{ancestor, run};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_device_of_the_host,
        devices_of_a_directory,
        a_rule_without_a_node,
        devices_that_are_none,
        a_device_in_a_user_namespace,
        privileged_has_everything,
        privileged_with_less,
        system_paths_unconfined,
        devices_of_a_service,
    ]
}

/// Makes a node of the kernel's log in a directory of the sandbox; returns its path.
fn node(sandbox: &Sandbox, name: &str) -> String {
    let path = sandbox.dir().join("nodes").join(name).to_str().expect("UTF-8").to_owned();
    sandbox.shell(&format!("mkdir -p nodes && mknod -m 666 {path} c 1 11")).ok();
    path
}

fn a_device_of_the_host(sandbox: &Sandbox) {
    let path = node(sandbox, "log");
    let make = "mknod /dev/own c 1 11 && exec 3>/dev/own";
    let refused = run(sandbox, &["sh", "-c", make]);
    assert!(refused.stderr.contains("Operation not permitted"), "without it: {}", refused.describe());
    let script = "stat -c '%t:%T %a' /dev/log && exec 3>/dev/log && echo open";
    let told = run(sandbox, &["--device", &format!("{path}:/dev/log"), "sh", "-c", script]).ok();
    assert_eq!(told.stdout, "1:b 666\nopen\n");
    let read_only = run(sandbox, &["--device", &format!("{path}:/dev/log:r"), "sh", "-c", script]);
    assert!(read_only.stderr.contains("Operation not permitted"), "{}", read_only.describe());
    // What has a place of its own below /dev, and a link that leads to the node.
    std::os::unix::fs::symlink(&path, sandbox.dir().join("by-name")).expect("our own");
    let link = format!("{}/by-name:/dev/deep/er/log:w", sandbox.dir().display());
    let told = run(sandbox, &["--device", &link, "sh", "-c", "exec 3>/dev/deep/er/log && echo open"]).ok();
    assert_eq!(told.stdout, "open\n");
}

fn devices_of_a_directory(sandbox: &Sandbox) {
    let directory = node(sandbox, "one").trim_end_matches("/one").to_owned();
    node(sandbox, "two");
    fs::write(sandbox.dir().join("nodes/file"), "no device").expect("our own");
    let device = format!("{directory}:/dev/logs");
    let script = "ls /dev/logs; exec 3>/dev/logs/one 4>/dev/logs/two && echo open";
    let told = run(sandbox, &["--device", &device, "sh", "-c", script]).ok();
    assert_eq!(told.stdout, "one\ntwo\nopen\n");
}

fn a_rule_without_a_node(sandbox: &Sandbox) {
    let make = "mknod /dev/own c 1 11 && exec 3>/dev/own && echo open";
    let told = run(sandbox, &["--device-cgroup-rule", "c 1:11 rwm", "sh", "-c", make]).ok();
    assert_eq!(told.stdout, "open\n");
    let other = run(sandbox, &["--device-cgroup-rule", "b *:* rwm", "sh", "-c", make]);
    assert!(other.stderr.contains("Operation not permitted"), "{}", other.describe());
}

fn devices_that_are_none(sandbox: &Sandbox) {
    run(sandbox, &["--device", "/dev/nosuch", "true"]).refused(125, &["/dev/nosuch", "none"]);
    run(sandbox, &["--device", "/etc/passwd", "true"]).refused(125, &["/etc/passwd", "no device"]);
    run(sandbox, &["--device", "dev/null", "true"]).refused(125, &["--device", "dev/null"]);
    run(sandbox, &["--device", "/dev/null:/dev/x:z", "true"]).refused(125, &["--device", "r, w and m"]);
    run(sandbox, &["--device-cgroup-rule", "c 1:3", "true"]).refused(125, &["--device-cgroup-rule", "c 1:3"]);
}

fn a_device_in_a_user_namespace(sandbox: &Sandbox) {
    let path = node(sandbox, "log");
    let script = "stat -c '%t:%T' /dev/log && exec 3>/dev/log && echo open";
    let told = ancestor(sandbox, &["-aU", "--device", &format!("{path}:/dev/log")], &["sh", "-c", script]);
    // A node on a file system that allows no devices stays one that cannot be opened.
    let nodev = sandbox.shell(&format!("findmnt -no OPTIONS -T {path}")).ok().stdout.contains("nodev");
    assert_eq!(told.stdout, if nodev { "1:b\n" } else { "1:b\nopen\n" }, "{}", told.describe());
}

fn privileged_has_everything(sandbox: &Sandbox) {
    let script = "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status; find /dev -type c -o -type b | sort; echo --; cat /proc/mounts; \
                  mknod /own c 1 11 && exec 3>/own && echo open";
    let told = run(sandbox, &["--privileged", "sh", "-c", script]).ok().stdout;
    let bounding = sandbox.shell("grep ^CapBnd: /proc/self/status").ok().stdout;
    let all = bounding.trim_start_matches("CapBnd:").trim();
    for line in [format!("CapEff:\t{all}"), format!("CapBnd:\t{all}"), "Seccomp:\t0".to_owned()] {
        assert!(told.contains(&line), "{line} in {told}");
    }
    let (listed, rest) = told.split_once("--\n").expect("the list ends");
    let hosts = sandbox.shell("find /dev -xdev -type c -o -xdev -type b").ok().stdout;
    let own = ["/dev/console", "/dev/ptmx"];
    let missing: Vec<&str> =
        hosts.lines().filter(|path| !own.contains(path) && !listed.lines().any(|had| had == *path)).collect();
    assert!(missing.is_empty(), "{missing:?} in {listed}");
    assert!(rest.contains("open\n"), "{rest}");
    let options = |point: &str| {
        let line = rest.lines().find(|line| line.split(' ').nth(1) == Some(point)).unwrap_or_default().to_owned();
        line.split(' ').nth(3).unwrap_or_default().split(',').next().unwrap_or_default().to_owned()
    };
    assert_eq!(options("/sys"), "rw", "{rest}");
    assert!(rest.lines().all(|line| !line.contains(" /proc/")), "nothing of /proc is covered: {rest}");
    let cgroups = rest.lines().filter(|line| line.contains(" cgroup"));
    assert!(cgroups.clone().count() > 0 && cgroups.clone().all(|line| line.contains(" rw,")), "{rest}");
}

fn privileged_with_less(sandbox: &Sandbox) {
    let script = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status";
    let words = ["--privileged", "--cap-drop", "ALL", "--security-opt", "seccomp=default", "sh", "-c", script];
    let told = run(sandbox, &words).ok().stdout;
    assert!(told.contains("CapEff:\t0000000000000000") && told.contains("Seccomp:\t2"), "{told}");
    let told = ancestor(sandbox, &["-a", "--privileged"], &["sh", "-c", script]).ok().stdout;
    assert!(!told.contains("425eb") && told.contains("Seccomp:\t0"), "{told}");
}

fn system_paths_unconfined(sandbox: &Sandbox) {
    let covered = "grep -c ' /proc/' /proc/mounts";
    let usual = run(sandbox, &["sh", "-c", covered]).ok().stdout;
    assert!(usual.trim().parse::<u32>().expect("a number") > 5, "{usual}");
    let open = run(sandbox, &["--security-opt", "systempaths=unconfined", "sh", "-c", covered]);
    assert_eq!(open.stdout, "0\n", "{}", open.describe());
    // It is about /proc and /sys alone.
    let told =
        run(sandbox, &["--security-opt", "systempaths=unconfined", "grep", "Seccomp:", "/proc/self/status"]).ok();
    assert_eq!(told.stdout, "Seccomp:\t2\n");
}

fn devices_of_a_service(sandbox: &Sandbox) {
    let path = node(sandbox, "log");
    let yaml = format!(
        r#"
        x-s: &s {{image: root_fs, init: true, network_mode: none, stop_grace_period: 0s, command: [sleep, infinity]}}
        services:
          plain: *s
          short: {{<<: *s, devices: ["{path}:/dev/log:rw"]}}
          long: {{<<: *s, devices: [{{source: "{path}", target: /dev/log}}]}}
          rule: {{<<: *s, device_cgroup_rules: ["c 1:11 rw"]}}
          all: {{<<: *s, privileged: true}}
        "#
    );
    let project = sandbox.project("devices", &yaml);
    project.up();
    for service in ["short", "long"] {
        project.exec(service, &["sh", "-c", "exec 3>/dev/log"]).ok();
    }
    let make = "mknod /own c 1 11 && exec 3>/own";
    for (service, code) in [("plain", false), ("rule", true), ("all", true)] {
        let told = project.exec(service, &["sh", "-c", make]);
        assert_eq!(told.code == 0, code, "{service}: {}", told.describe());
    }
    let rights = "grep -E '^(CapEff|Seccomp):' /proc/1/status; grep -c ' /proc/' /proc/mounts";
    let told = project.exec("all", &["sh", "-c", rights]).stdout;
    assert!(told.contains("Seccomp:\t0") && told.ends_with("\n0\n") && !told.contains("a80425fb"), "{told}");
    let wrong = sandbox.project(
        "wrong",
        "\n services:\n  one: {image: root_fs, network_mode: none, command: ['true'], devices: [/dev/nosuch]}\n",
    );
    wrong.compose(&["up", "-d"]).refused(1, &["/dev/nosuch", "one"]);
}
