//! B30, B32, B33: limits, sysctls, capabilities.

use serde_json::json;

use crate::bundle::{Bundle, expect_nothing};
use crate::support::{Case, Sandbox, cases};
use crate::{ancestor, good_up, refused_bundle, refused_run, refused_up, run};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        limits_of_services: Controllers,
        limits_of_runs: Controllers,
        limits_of_the_ancestor: Controllers,
        limits_of_bundles: Controllers,
        sysctls,
        sysctls_of_the_hosts_network,
        capabilities,
    ]
}

fn limits_of_services(sandbox: &Sandbox) {
    for (key, words) in [
        ("mem_limit: 1", &["6 MiB", "mem_limit"] as &[&str]),
        ("mem_limit: 5m", &["6 MiB"]),
        ("mem_limit: -1", &["`-1` is not a size", "512m"]),
        ("mem_limit: 1e30", &["is not a size"]),
        ("mem_limit: 6mm", &["`6mm` is not a size"]),
        ("mem_limit: 99999999999g", &["16 EiB"]),
        ("mem_reservation: 1", &["6 MiB", "mem_reservation"]),
        ("cpus: 0", &["0.001", "cpus"]),
        ("cpus: -1", &["0.001"]),
        ("cpus: 1000", &["1000 CPUs are more than there are", "services.web.cpus"]),
        ("deploy: {resources: {limits: {cpus: '1000'}}}", &["1000 CPUs are more than there are"]),
        ("pids_limit: 0", &["1 or more"]),
        ("pids_limit: 99999999999", &["4194304"]),
        ("cpuset: 0-9999", &["9999 are not there", "this host has", "services.web.cpuset"]),
        ("cpuset: x", &["`x` is not a set of CPUs"]),
        ("cpuset: 1-0", &["`1-0` is not a set of CPUs"]),
    ] {
        refused_up(sandbox, key, words);
    }
    // What the file says of a service that is not meant is no reason to refuse.
    let text = "services:\n  web: {image: root_fs, network_mode: none, init: true, command: [sleep, '99']}\n  db: {image: root_fs, cpus: 1000, command: ['true']}\n";
    std::fs::write(sandbox.dir().join("f.yaml"), text).expect("our own");
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "up", "-d", "web"]).ok();
    crate::down(sandbox);
    for key in ["mem_limit: 6m", "pids_limit: -1", "cpuset: '0'", "cpus: 0.5"] {
        good_up(sandbox, key);
    }
}

fn limits_of_runs(sandbox: &Sandbox) {
    for (options, words) in [
        (&["--memory", "1"] as &[&str], &["--memory 1", "6m"] as &[&str]),
        (&["--memory", "-1"], &["--memory", "`-1` is not a size"]),
        (&["--memory", "1e30"], &["--memory", "is not a size"]),
        (&["--memory", "6mm"], &["--memory", "is not a size"]),
        (&["--memory", "8m", "--memory-reservation", "9m"], &["--memory-reservation"]),
        (&["--cpus", "0"], &["--cpus", "0.01"]),
        (&["--cpus", "-1"], &["--cpus", "0.01"]),
        (&["--cpus", "1000"], &["--cpus", "this host has"]),
        (&["--pids-limit", "0"], &["--pids-limit", "1 to 4194304"]),
        (&["--pids-limit", "99999999999"], &["--pids-limit", "1 to 4194304"]),
        (&["--cpuset-cpus", "0-9999"], &["--cpuset-cpus", "this host has"]),
        (&["--cpuset-cpus", "x"], &["--cpuset-cpus", "list of numbers"]),
        (&["--cpuset-mems", "9999"], &["--cpuset-mems", "this host has"]),
        (&["--cpu-quota", "1"], &["--cpu-quota", "1000"]),
        (&["--cpu-period", "5"], &["--cpu-period", "1000000"]),
    ] {
        refused_run(sandbox, options, words);
    }
    run(sandbox, &["--memory", "1", "true"]).refused(125, &["6m"]);
    // As Docker has them: no limit.
    run(sandbox, &["--memory", "0", "--pids-limit", "-1", "true"]).ok();
}

fn limits_of_the_ancestor(sandbox: &Sandbox) {
    for (flags, words) in [
        (&["-ac", "-M", "0"] as &[&str], &["`-M 0`", "from 1 to 4294967296"] as &[&str]),
        (&["-ac", "-M", "-1"], &["`-M -1`", "from 1"]),
        (&["-ac", "-M", "1e30"], &["from 1"]),
        (&["-ac", "-M", "6mm"], &["from 1"]),
        (&["-ac", "-C", "0"], &["from 1 to 100"]),
        (&["-ac", "-P", "0"], &["from 10 to 32768"]),
        // Its range begins at one byte, and the kernel has the last word.
        (&["-ac", "-M", "1"], &["ran out of memory", "6 MiB"]),
    ] {
        ancestor(sandbox, flags, &["true"]).refused(125, words);
        crate::expect_nothing(sandbox);
    }
}

fn limits_of_bundles(sandbox: &Sandbox) {
    for (resources, words) in [
        (json!({"memory": {"limit": 1}}), &["ran out of memory", "limit"] as &[&str]),
        (json!({"memory": {"limit": -2}}), &["linux.resources.memory.limit", "invalid argument"]),
        (json!({"memory": {"limit": 1e30}}), &["linux.resources.memory.limit"]),
        (json!({"memory": {"limit": "6mm"}}), &["linux.resources.memory.limit"]),
        (json!({"pids": {"limit": 99_999_999_999_u64}}), &["linux.resources.pids.limit", "invalid argument"]),
        (json!({"cpu": {"cpus": "0-9999"}}), &["linux.resources.cpu.cpus", "out of range"]),
        (json!({"cpu": {"quota": 1}}), &["linux.resources.cpu.quota", "invalid argument"]),
    ] {
        refused_bundle(sandbox, |config| config["linux"]["resources"] = resources, words);
    }
}

fn sysctls(sandbox: &Sandbox) {
    for (name, value, word) in [
        ("kernel.panic", "1", "host"),
        ("kernel.hostname", "x", "host"),
        ("nosuch", "1", "host"),
        ("net.ipv4.nosuch", "1", "no setting `net.ipv4.nosuch`"),
        ("net.ipv4.ip_forward", "1\\n2", "line"),
        ("net/../kernel/panic", "1", "is not a name"),
    ] {
        let path = format!("services.web.sysctls.{name}");
        refused_up(sandbox, &format!("sysctls: {{'{name}': \"{value}\"}}"), &[name, word, &path]);
        let option = format!("{name}={}", value.replace("\\n", "\n"));
        refused_run(sandbox, &["--sysctl", &option], &[name]);
        let value = value.replace("\\n", "\n");
        refused_bundle(sandbox, |config| config["linux"]["sysctl"] = json!({ name: value }), &[name]);
    }
    // One that is the container's own, and whose value the kernel does not take: its answer is told.
    run(sandbox, &["--sysctl", "net.ipv4.ip_forward=x", "true"]).refused(125, &["ip_forward", "Invalid argument"]);
    good_up(sandbox, "sysctls: {net.core.somaxconn: 1000, kernel.shmmax: 1000}");
    assert_eq!(
        run(sandbox, &["--sysctl", "net.core.somaxconn=77", "cat", "/proc/sys/net/core/somaxconn"]).ok().stdout,
        "77\n"
    );
}

fn sysctls_of_the_hosts_network(sandbox: &Sandbox) {
    let before = sandbox.shell("cat /proc/sys/net/ipv4/ip_forward").ok().stdout;
    let text = "services:\n  web:\n    image: root_fs\n    network_mode: host\n    command: ['true']\n    sysctls: {net.ipv4.ip_forward: 1}\n";
    crate::up_file(sandbox, text).refused(2, &["f.yaml:6", "network namespace"]);
    let root = crate::rootfs().to_str().expect("UTF-8");
    let words = ["run", "--network", "host", "--rootfs", root, "--sysctl", "net.ipv4.ip_forward=1", "true"];
    sandbox.mydocker(&words).refused(125, &["ip_forward", "network namespace"]);
    let change = |config: &mut serde_json::Value| {
        config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}]);
        config["hostname"] = json!("");
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    };
    refused_bundle(sandbox, change, &["linux.sysctl.net.ipv4.ip_forward", "host"]);
    assert_eq!(sandbox.shell("cat /proc/sys/net/ipv4/ip_forward").ok().stdout, before);
}

fn capabilities(sandbox: &Sandbox) {
    for option in ["cap_add", "cap_drop"] {
        refused_up(sandbox, &format!("{option}: [SYS_MODULEX]"), &["did you mean `SYS_MODULE`?", option]);
        let long = format!("--{}", option.replace('_', "-"));
        refused_run(sandbox, &[&long, "SYS_MODULEX"], &["did you mean `SYS_MODULE`?"]);
        refused_run(sandbox, &[&long, ""], &["is not a capability"]);
    }
    for name in ["chown", "CAP_CHOWN", "cap_chown"] {
        let quiet = good_up(sandbox, &format!("cap_drop: [ALL]\n    cap_add: [{name}]"));
        assert!(!quiet.stderr.contains("take over the host"), "{}", quiet.describe());
        let told = run(sandbox, &["--cap-drop", "all", "--cap-add", name, "grep", "CapBnd", "/proc/self/status"]).ok();
        assert_eq!(told.stdout, "CapBnd:\t0000000000000001\n", "{name}");
    }
    // Allowed, with a line about the risk.
    let told = good_up(sandbox, "cap_add: [ALL]");
    assert!(
        told.stderr.contains("f.yaml:7:15: warning") && told.stderr.contains("take over the host"),
        "{}",
        told.describe()
    );
    let told = run(sandbox, &["--cap-add", "ALL", "true"]).ok();
    assert!(told.stderr.contains("--cap-add ALL") && told.stderr.contains("take over the host"), "{}", told.describe());
    // A bundle's unknown ones are left out and told, as runc does.
    let bundle = Bundle::new(sandbox, "caps", "grep CapBnd /proc/self/status");
    bundle.edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_MODULEX", "CAP_CHOWN"]);
        }
    });
    // Only a terminal or a log is told what is left out.
    let told = bundle.oci(&["--log", "log", "run", "caps"]).ok();
    assert_eq!(told.stdout, "CapBnd:\t0000000000000001\n");
    let log = std::fs::read_to_string(sandbox.dir().join("log")).unwrap_or_default();
    assert!(log.contains("CAP_SYS_MODULEX"), "{log}");
    expect_nothing(sandbox);
}
