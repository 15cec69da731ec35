//! From `create` to `delete`.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bundle::{Bundle, expect_nothing, oci, state, wait_status};
use crate::support::{Case, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_container_goes_its_way,
        what_a_status_does_not_allow_is_refused,
        ids_stay_in_their_directory,
        without_a_process_it_is_created_and_never_started,
        what_cannot_be_granted_is_a_warning,
        run_gives_the_exit_code,
        a_filter_need_not_know_what_we_call,
        run_leaves_it_where_it_is_asked_to,
        signals_have_names_and_numbers,
        all_of_a_container_is_signalled,
        a_paused_container_stands_still,
        a_frozen_container_can_be_deleted,
        one_that_stands_still_elsewhere_can_be_deleted,
        many_are_deleted_at_once,
        processes_and_containers_are_listed,
        limits_are_changed,
        a_foreground_container_dies_with_its_parent,
        what_a_container_uses_is_told,
        two_containers_leave_no_cgroup,
        version_features_and_spec,
    ]
}

fn a_container_goes_its_way(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "echo up > /tmp/up; exec sleep 300");
    bundle.edit(|config| config["annotations"] = serde_json::json!({ "a.b": "c" }));
    let pid_file = sandbox.dir().join("pid");
    bundle.oci(&["create", "--pid-file", pid_file.to_str().unwrap(), "web"]).ok();
    let created = state(sandbox, "web");
    assert_eq!((&created["status"], &created["ociVersion"]), (&Value::from("created"), &Value::from("1.2.0")));
    assert_eq!(created["bundle"], bundle.dir.to_str().unwrap());
    assert_eq!(created["annotations"]["a.b"], "c");
    let pid = created["pid"].as_i64().unwrap();
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), pid.to_string());
    // Nobody else: what `create` was is gone.
    let processes: Vec<i64> = sandbox.processes().iter().map(|pid| pid.as_raw().into()).collect();
    assert_eq!(processes, [pid]);
    oci(sandbox, &["start", "web"]).ok();
    assert_eq!(state(sandbox, "web")["status"], "running");
    assert_eq!(state(sandbox, "web")["pid"].as_i64(), Some(pid));
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    wait_status(sandbox, "web", "stopped");
    assert_eq!(state(sandbox, "web")["pid"], 0);
    oci(sandbox, &["delete", "web"]).ok();
    oci(sandbox, &["state", "web"]).refused(1, &["container `web` does not exist"]);
    expect_nothing(sandbox);
}

fn what_a_status_does_not_allow_is_refused(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    for words in [&["start", "web"][..], &["kill", "web", "9"], &["delete", "web"], &["exec", "web", "true"]] {
        let output = oci(sandbox, words);
        assert!(output.code != 0 && output.stderr.contains("`web` does not exist"), "{}", output.describe());
    }
    bundle.oci(&["create", "web"]).ok();
    bundle.oci(&["create", "web"]).refused(1, &["`web` already exists"]);
    oci(sandbox, &["resume", "web"]).refused(1, &["cannot resume", "created"]);
    oci(sandbox, &["delete", "web"]).refused(1, &["cannot delete", "it is created"]);
    assert_eq!(state(sandbox, "web")["status"], "created");
    oci(sandbox, &["start", "web"]).ok();
    oci(sandbox, &["start", "web"]).refused(1, &["cannot start", "running already"]);
    oci(sandbox, &["delete", "web"]).refused(1, &["cannot delete", "it is running"]);
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["kill", "web", "KILL"]).refused(1, &["container not running"]);
    oci(sandbox, &["start", "web"]).refused(1, &["cannot start", "stopped"]);
    oci(sandbox, &["exec", "web", "true"]).refused(125, &["cannot exec", "stopped"]);
    oci(sandbox, &["pause", "web"]).refused(1, &["cannot pause", "stopped"]);
    oci(sandbox, &["delete", "web"]).ok();
    oci(sandbox, &["delete", "web"]).refused(1, &["does not exist"]);
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

fn ids_stay_in_their_directory(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    for bad in ["../x", "a/b", "..", ".", ".a", "a b", &"a".repeat(1025)] {
        let output = bundle.oci(&["create", bad]);
        assert!(output.code == 2 && output.stderr.contains("invalid container ID"), "{}", output.describe());
        oci(sandbox, &["delete", "--force", bad]).expect_code(2);
    }
    for good in ["a_b+c,d-e.f", "A", &"a".repeat(1024)] {
        bundle.oci(&["create", good]).ok();
        assert_eq!(state(sandbox, good)["id"], good);
        oci(sandbox, &["delete", "-f", good]).ok();
    }
    expect_nothing(sandbox);
}

fn without_a_process_it_is_created_and_never_started(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "");
    bundle.edit(|config| config["process"] = Value::Null);
    bundle.oci(&["create", "web"]).ok();
    oci(sandbox, &["start", "web"]).refused(1, &["cannot start", "no `process`"]);
    assert_eq!(state(sandbox, "web")["status"], "created");
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    bundle.oci(&["run", "web"]).refused(125, &["no `process`"]);
    expect_nothing(sandbox);
}

fn what_cannot_be_granted_is_a_warning(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "grep CapInh /proc/self/status");
    bundle.edit(|config| {
        let sets = &mut config["process"]["capabilities"];
        sets["effective"].as_array_mut().unwrap().push("CAP_MOON".into());
        sets["inheritable"] = serde_json::json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]);
    });
    bundle.oci(&["create", "web"]).ok();
    oci(sandbox, &["delete", "-f", "web"]).ok();
    let output = bundle.oci(&["run", "web"]).ok();
    assert_eq!(output.stdout, "CapInh:\t0000000000000001\n");
    for words in ["warning: process.capabilities: ignoring unknown", "[CAP_MOON]", "[CAP_SYS_ADMIN]", "not permitted"] {
        assert!(output.stderr.contains(words), "{}", output.describe());
    }
    // With a log, standard error is the container's alone.
    let log = sandbox.dir().join("log");
    let output = bundle.oci(&["--log", log.to_str().unwrap(), "run", "web"]).ok();
    assert_eq!(output.stderr, "");
    assert!(std::fs::read_to_string(&log).unwrap().contains("level=warning"));
    expect_nothing(sandbox);
}

fn run_gives_the_exit_code(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "echo out; echo err >&2; exit 42");
    let output = bundle.oci(&["run", "web"]).expect_code(42);
    assert_eq!((&output.stdout[..], &output.stderr[..]), ("out\n", "err\n"));
    bundle.edit(|config| config["process"]["args"] = serde_json::json!(["sh", "-c", "kill -9 $$; sleep 9 & wait"]));
    bundle.edit(|config| config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid"));
    bundle.oci(&["run", "web"]).expect_code(137);
    expect_nothing(sandbox);
}

/// Profiles that are older than a system call refuse it.
fn a_filter_need_not_know_what_we_call(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exit 3");
    for no_new_privileges in [true, false] {
        bundle.edit(|config| {
            config["process"]["noNewPrivileges"] = no_new_privileges.into();
            config["linux"]["seccomp"] = serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["close_range", "openat2"], "action": "SCMP_ACT_ERRNO" }],
            });
        });
        assert_eq!(bundle.oci(&["run", "old"]).code, 3);
    }
    expect_nothing(sandbox);
}

fn run_leaves_it_where_it_is_asked_to(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "--detach", "web"]).ok();
    assert_eq!(state(sandbox, "web")["status"], "running");
    oci(sandbox, &["delete", "-f", "web"]).ok();
    let bundle = Bundle::new(sandbox, "c", "true");
    bundle.oci(&["run", "--keep", "web"]).ok();
    assert_eq!(state(sandbox, "web")["status"], "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    expect_nothing(sandbox);
}

fn signals_have_names_and_numbers(sandbox: &Sandbox) {
    let script = "trap 'echo term' TERM; trap 'echo one' USR1; trap 'echo hup' HUP; echo ready; \
                  while true; do sleep 0.05; done";
    let bundle = Bundle::new(sandbox, "b", script);
    let mut running = bundle.spawn(&["run", "web"]);
    running.wait_for_stdout("ready");
    for (signal, word) in [("TERM", "term"), ("SIGUSR1", "one"), ("1", "hup")] {
        oci(sandbox, &["kill", "web", signal]).ok();
        running.wait_for_stdout(word);
    }
    oci(sandbox, &["kill", "web", "NOSUCH"]).refused(2, &["NOSUCH"]);
    oci(sandbox, &["kill", "web", "65"]).refused(2, &["65"]);
    // Without a name it is TERM, and those that `run` gets go on to the container.
    oci(sandbox, &["kill", "web"]).ok();
    running.wait_for("a second term", |stdout, _| stdout.matches("term").count() == 2);
    running.signal(Signal::SIGUSR1);
    running.wait_for("a second one", |stdout, _| stdout.matches("one").count() == 2);
    oci(sandbox, &["kill", "web", "kill"]).ok();
    running.wait().expect_code(137);
    expect_nothing(sandbox);
}

fn all_of_a_container_is_signalled(sandbox: &Sandbox) {
    // Without a PID namespace nobody takes the others along.
    let bundle = Bundle::new(sandbox, "b", "sleep 301 & sleep 302 & echo ready; wait");
    bundle.edit(|config| config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid"));
    bundle.oci(&["run", "-d", "web"]).ok();
    eventually("three processes", || (sandbox.pids().len() == 3).then_some(()));
    oci(sandbox, &["kill", "--all", "web", "KILL"]).ok();
    eventually("nobody", || sandbox.pids().is_empty().then_some(()));
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_paused_container_stands_still(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "trap 'echo term' TERM; echo ready; while true; do sleep 0.05; done");
    let mut running = bundle.spawn(&["run", "web"]);
    running.wait_for_stdout("ready");
    oci(sandbox, &["pause", "web"]).ok();
    assert_eq!(state(sandbox, "web")["status"], "paused");
    oci(sandbox, &["pause", "web"]).refused(1, &["cannot pause", "paused"]);
    oci(sandbox, &["exec", "web", "true"]).refused(125, &["cannot exec", "paused"]);
    oci(sandbox, &["kill", "web", "TERM"]).ok();
    assert!(!running.stdout().contains("term"));
    oci(sandbox, &["resume", "web"]).ok();
    running.wait_for_stdout("term");
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    running.wait().expect_code(137);
    expect_nothing(sandbox);
}

fn a_frozen_container_can_be_deleted(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "-d", "web"]).ok();
    oci(sandbox, &["pause", "web"]).ok();
    oci(sandbox, &["delete", "web"]).refused(1, &["it is paused"]);
    // SIGKILL ends a frozen one, too.
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    bundle.oci(&["run", "-d", "web"]).ok();
    oci(sandbox, &["pause", "web"]).ok();
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

fn one_that_stands_still_elsewhere_can_be_deleted(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "-d", "web"]).ok();
    let pid = state(sandbox, "web")["pid"].to_string();
    let own = sandbox.cgroups().into_iter().find(|dir| dir.ends_with("web") && dir.join("freezer.state").exists());
    // Under version 2 alone a process that is frozen anywhere dies of SIGKILL.
    let Some(own) = own else {
        oci(sandbox, &["delete", "-f", "web"]).ok();
        return expect_nothing(sandbox);
    };
    let other = own.with_file_name("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("cgroup.procs"), &pid).unwrap();
    std::fs::write(other.join("freezer.state"), "FROZEN").unwrap();
    oci(sandbox, &["delete", "--force", "web"]).ok();
    std::fs::remove_dir(&other).unwrap();
    // The parent that was made for the container had somebody else's cgroup in it.
    let _ = std::fs::remove_dir(own.parent().unwrap());
    expect_nothing(sandbox);
}

fn many_are_deleted_at_once(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    for id in ["one", "two", "three"] {
        bundle.oci(&["create", id]).ok();
    }
    oci(sandbox, &["start", "two"]).ok();
    oci(sandbox, &["kill", "three", "KILL"]).ok();
    wait_status(sandbox, "three", "stopped");
    oci(sandbox, &["delete", "--regex", "^t"]).refused(1, &["cannot delete container `two`"]);
    assert_eq!(oci(sandbox, &["list", "-q"]).ok().stdout, "one\ntwo\n");
    oci(sandbox, &["delete", "-f", "--regex", "[eo]$"]).ok();
    oci(sandbox, &["delete", "--regex", "nobody"]).ok();
    oci(sandbox, &["delete", "--regex", "("]).refused(2, &["("]);
    oci(sandbox, &["delete"]).expect_code(2);
    expect_nothing(sandbox);
}

fn processes_and_containers_are_listed(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "sleep 300 & wait");
    bundle.oci(&["run", "-d", "web"]).ok();
    bundle.oci(&["create", "db"]).ok();
    let pids = eventually("two processes", || {
        let pids: Vec<i64> =
            serde_json::from_str(&oci(sandbox, &["ps", "--format", "json", "web"]).ok().stdout).unwrap();
        (pids.len() == 2).then_some(pids)
    });
    assert!(pids.contains(&state(sandbox, "web")["pid"].as_i64().unwrap()));
    let table = oci(sandbox, &["ps", "web"]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert_eq!(oci(sandbox, &["ps", "web", "-o", "pid,args"]).ok().stdout.lines().count(), 3);
    assert_eq!(oci(sandbox, &["list", "--quiet"]).ok().stdout, "db\nweb\n");
    let table = oci(sandbox, &["list"]).ok().stdout;
    assert!(table.starts_with("ID ") && table.contains("created") && table.contains("running"), "{table}");
    let list: Vec<Value> = serde_json::from_str(&oci(sandbox, &["list", "-f", "json"]).ok().stdout).unwrap();
    assert_eq!(list.iter().map(|one| one["status"].as_str().unwrap()).collect::<Vec<_>>(), ["created", "running"]);
    for id in ["db", "web"] {
        oci(sandbox, &["delete", "-f", id]).ok();
    }
    assert_eq!(oci(sandbox, &["list", "--format=json"]).ok().stdout.trim(), "[]");
    expect_nothing(sandbox);
}

fn limits_are_changed(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "-d", "web"]).ok();
    let limit = || sandbox.cgroup_file("web", &["pids.max"]).unwrap_or_default();
    oci(sandbox, &["update", "--pids-limit", "77", "web"]).ok();
    assert_eq!(limit(), "77");
    let file = sandbox.dir().join("resources.json");
    std::fs::write(&file, r#"{"pids":{"limit":78}}"#).unwrap();
    oci(sandbox, &["update", "--resources", file.to_str().unwrap(), "web"]).ok();
    assert_eq!(limit(), "78");
    sandbox.shell("echo '{\"pids\":{\"limit\":79}}' | $MYDOCKER oci update --resources - web").ok();
    assert_eq!(limit(), "79");
    sandbox.shell("echo '{\"pids\":' | $MYDOCKER oci update -r - web").refused(1, &["parse standard input"]);
    oci(sandbox, &["delete", "-f", "web"]).ok();
    expect_nothing(sandbox);
}

fn what_a_container_uses_is_told(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "-d", "web"]).ok();
    let once: Value = serde_json::from_str(&oci(sandbox, &["events", "--stats", "web"]).ok().stdout).unwrap();
    assert_eq!(
        (&once["type"], &once["id"], &once["data"]["pids"]["current"]),
        (&"stats".into(), &"web".into(), &1.into())
    );
    assert!(once["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    let mut watcher = sandbox.spawn(&["oci", "events", "--interval", "20ms", "web"]);
    watcher.wait_for("three lines", |stdout, _| stdout.lines().count() >= 3);
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    watcher.wait().ok();
    oci(sandbox, &["events", "--stats", "web"]).refused(1, &["container not running"]);
    oci(sandbox, &["delete", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_foreground_container_dies_with_its_parent(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "echo ready; exec sleep 300");
    let mut running = bundle.spawn(&["run", "web"]);
    running.wait_for_stdout("ready");
    running.signal(Signal::SIGKILL);
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    expect_nothing(sandbox);
}

fn two_containers_leave_no_cgroup(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    for id in ["one", "two"] {
        bundle.oci(&["run", "-d", id]).ok();
    }
    for id in ["one", "two"] {
        oci(sandbox, &["delete", "-f", id]).ok();
    }
    expect_nothing(sandbox);
}

fn version_features_and_spec(sandbox: &Sandbox) {
    let version = oci(sandbox, &["--version"]).ok().stdout;
    assert!(version.starts_with("mydocker-oci version ") && version.contains("\nspec: 1.2."), "{version}");
    assert_eq!(oci(sandbox, &["-v"]).ok().stdout, version);
    // By the other name it is the same.
    sandbox.shell("ln -s $MYDOCKER mydocker-oci && ./mydocker-oci --version | grep -q '^spec: '").ok();
    let features: Value = serde_json::from_str(&oci(sandbox, &["features"]).ok().stdout).unwrap();
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&"time".into()), "{features}");
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    for part in ["netDevices", "apparmor", "selinux", "intelRdt"] {
        assert_eq!(features["linux"][part]["enabled"], true, "{part}");
    }
    for words in [&["spec"][..], &["spec", "--rootless"]] {
        sandbox.shell(&format!("rm -f config.json && $MYDOCKER oci {}", words.join(" "))).ok();
        let text = std::fs::read(sandbox.dir().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&config["root"]["path"], &config["process"]["args"][0]), (&"rootfs".into(), &"sh".into()));
    }
    sandbox.shell("$MYDOCKER oci spec").refused(1, &["config.json", "file exists"]);
    oci(sandbox, &["checkpoint", "web", "--leave-running"]).refused(1, &["checkpoint"]);
    oci(sandbox, &["--systemd-cgroup", "state", "web"]).refused(1, &["systemd"]);
}
