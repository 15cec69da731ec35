//! B9: namespaces that are shared by choice, the host's and other containers'.

use nix::sys::signal::Signal;

use crate::support::{Case, Running, Sandbox, cases, eventually};
use crate::{ancestor, our_namespace, run, spawn};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        b9_the_hosts_namespaces,
        b9_the_namespaces_of_another_container,
        b9_a_service_in_the_hosts_namespaces,
        b9_containers_that_are_none,
        b9_a_user_namespace_shares_nothing_of_the_host,
        b10_nothing_stays_in_the_hosts_processes,
    ]
}

fn b9_the_hosts_namespaces(sandbox: &Sandbox) {
    for (option, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--network", "net")]
    {
        let link = format!("/proc/self/ns/{kind}");
        let ours = our_namespace(sandbox, kind);
        let words = ["readlink", link.as_str()];
        let root = crate::rootfs().to_str().expect("UTF-8");
        let network: &[&str] = if kind == "net" { &[] } else { &["--network", "none"] };
        let at = |mode: &[&str]| {
            sandbox.mydocker(&[&["run", "--rootfs", root], network, mode, &words[..]].concat()).ok().stdout
        };
        assert_eq!(at(&[option, "host"]), ours, "{option} host");
        let private: &[&str] = if kind == "net" { &["--network", "none"] } else { &[option, "private"] };
        assert_ne!(at(private), ours, "{option} private");
    }
    let name = sandbox.host(&["hostname"]).ok().stdout;
    assert_eq!(run(sandbox, &["--uts", "host", "sh", "-c", "hostname; echo $HOSTNAME"]).ok().stdout, name.repeat(2));
    run(sandbox, &["--uts", "host", "--hostname", "x", "true"]).refused(125, &["--uts", "--hostname"]);
    let pid = run(sandbox, &["--pid", "host", "sh", "-c", "echo $$; ls -d /proc/$PPID"]).ok().stdout;
    assert!(!pid.starts_with("1\n"), "{pid}");
    let own = run(sandbox, &["--cgroupns", "host", "cat", "/proc/self/cgroup"]).ok().stdout;
    assert!(own.contains(sandbox.token()), "{own}");
    run(sandbox, &["--ipc", "host", "sh", "-c", "df /dev/shm | grep -q /dev/shm"]).ok();
}

/// A container with a name, that has written into its shared memory.
fn named(sandbox: &Sandbox, name: &str) -> Running {
    let script = "echo mine >/dev/shm/note; for k in pid ipc net uts; do readlink /proc/self/ns/$k; done; echo up; exec sleep 60";
    let mut running = spawn(sandbox, &["--name", name, "--hostname", "first", "sh", "-c", script]);
    running.wait_for_stdout("up");
    running
}

fn b9_the_namespaces_of_another_container(sandbox: &Sandbox) {
    let first = named(sandbox, "first");
    let stdout = first.stdout();
    let theirs: Vec<&str> = stdout.lines().collect();
    let told = run(sandbox, &["--pid", "container:first", "sh", "-c", "readlink /proc/self/ns/pid; ps"]).ok().stdout;
    assert!(told.starts_with(theirs[0]) && told.contains("sleep 60"), "{told}");
    let told = run(sandbox, &["--ipc", "container:first", "sh", "-c", "readlink /proc/self/ns/ipc; cat /dev/shm/note"]);
    assert_eq!(told.stdout, format!("{}\nmine\n", theirs[1]), "{}", told.describe());
    let root = crate::rootfs().to_str().expect("UTF-8");
    let words =
        ["run", "--rootfs", root, "--network", "container:first", "sh", "-c", "readlink /proc/self/ns/net; hostname"];
    let told = sandbox.mydocker(&words).ok().stdout;
    assert_eq!(told, format!("{}\nfirst\n", theirs[2]));
    // All at once, and none of them is the first one's end.
    let all = [
        "run",
        "--rootfs",
        root,
        "--network",
        "container:first",
        "--ipc",
        "container:first",
        "--pid",
        "container:first",
        "true",
    ];
    sandbox.mydocker(&all).ok();
    first.signal(Signal::SIGTERM);
    first.wait().expect_code(143);
    run(sandbox, &["--pid", "container:first", "true"]).refused(125, &["first", "runs"]);
}

fn b9_a_service_in_the_hosts_namespaces(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          one: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity], container_name: svc,
                pid: host, ipc: host, uts: host, cgroup: host, stop_grace_period: 0s}
          own: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity], container_name: own, stop_grace_period: 0s}
    "#;
    let project = sandbox.project("shares", yaml);
    project.up();
    for kind in ["pid", "ipc", "uts", "cgroup"] {
        let told = project.exec("one", &["readlink", &format!("/proc/self/ns/{kind}")]).ok().stdout;
        assert_eq!(told, our_namespace(sandbox, kind), "{kind}");
    }
    // A container in the foreground finds one of a project by its name.
    let theirs = project.exec("own", &["readlink", "/proc/self/ns/ipc"]).ok().stdout;
    assert_eq!(run(sandbox, &["--ipc", "container:own", "readlink", "/proc/self/ns/ipc"]).ok().stdout, theirs);
    project.down();
}

fn b9_containers_that_are_none(sandbox: &Sandbox) {
    run(sandbox, &["--pid", "container:nosuch", "true"]).refused(125, &["nosuch"]);
    run(sandbox, &["--ipc", "guest", "true"]).refused(125, &["--ipc", "shareable"]);
    run(sandbox, &["--pid", "container:", "true"]).refused(125, &["--pid"]);
    let root = crate::rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&["run", "--rootfs", root, "--network", "container:nosuch", "true"]).refused(125, &["nosuch"]);
    let words = ["run", "--rootfs", root, "--network", "container:nosuch", "-p", "80", "true"];
    sandbox.mydocker(&words).refused(125, &["--publish"]);
    let _twins = (named(sandbox, "twin"), named(sandbox, "twin"));
    run(sandbox, &["--pid", "container:twin", "true"]).refused(125, &["twin", "several"]);
    for twin in [_twins.0, _twins.1] {
        twin.signal(Signal::SIGTERM);
        twin.wait().expect_code(143);
    }
}

fn b9_a_user_namespace_shares_nothing_of_the_host(sandbox: &Sandbox) {
    for words in [["--pid", "host"], ["--ipc", "host"], ["--cgroupns", "host"]] {
        ancestor(sandbox, &[&["-aU"][..], &words].concat(), &["true"]).refused(125, &["user namespace"]);
    }
    ancestor(sandbox, &["-aU", "--uts", "host"], &["true"]).ok();
}

fn b10_nothing_stays_in_the_hosts_processes(sandbox: &Sandbox) {
    let left = "sleep 300 & sleep 300 & echo left; exit 4";
    run(sandbox, &["--pid", "host", "sh", "-c", left]).expect_code(4);
    assert!(sandbox.pids().is_empty(), "what it started ends with it");
    run(sandbox, &["--pid", "host", "--init", "sh", "-c", left]).expect_code(4);
    // Killed, it leaves the rest to the next start.
    let mut running = spawn(sandbox, &["--pid", "host", "sh", "-c", "sleep 300 & echo up; exec sleep 300"]);
    running.wait_for_stdout("up");
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait().code, 137);
    run(sandbox, &["true"]).ok();
    eventually("nothing of it runs", || sandbox.pids().is_empty().then_some(()));
}
