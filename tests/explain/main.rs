//! `mydocker explain`: that what it tells is what happens, and that telling changes nothing.
//!
//! The same container is explained and run under strace(1). Every call that was told of has to be seen, in order and with its
//! arguments; and no call that a launch is made of may be seen that was not told of (`compare.rs` lists them).

#![expect(clippy::unwrap_used, reason = "tests: the panic is the message")]

use std::fs;
use std::process::ExitCode;

use serde_json::{Value, json};

mod compare;
mod measured;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test programs use the rest of it")]
mod support;
mod trace;

use compare::{Comparison, told};
use measured::{
    a_run_is_measured_step_by_step, a_service_runs_by_itself, a_slow_step_shows_in_its_time,
    a_time_namespace_does_not_change_times, a_user_namespace_and_networks_are_measured, people_can_read_times,
    what_is_not_measured_costs_nothing, what_was_not_reached_is_said,
};
use support::{Case, MYDOCKER, Sandbox, cases, rootfs};
use trace::Trace;

fn main() -> ExitCode {
    support::run_all(all_cases())
}

fn all_cases() -> Vec<Case> {
    cases![
        an_ordinary_container_is_as_told: Strace,
        one_with_much_about_it_is_as_told: Strace + Controllers,
        one_in_a_user_namespace_is_as_told: Strace,
        networks_are_as_told: Strace + Bridge,
        a_bundle_is_as_told: Strace,
        one_with_hooks_and_namespaces_of_others_is_as_told: Strace,
        a_service_is_as_told: Strace + Bridge,
        errors_are_those_of_the_command,
        telling_makes_and_changes_nothing,
        the_form_of_json_is_stable,
        people_can_read_it,
        a_run_is_measured_step_by_step: Controllers,
        a_user_namespace_and_networks_are_measured: Bridge,
        a_slow_step_shows_in_its_time,
        a_time_namespace_does_not_change_times,
        what_was_not_reached_is_said,
        a_service_runs_by_itself: Bridge,
        people_can_read_times,
        what_is_not_measured_costs_nothing: Strace,
    ]
}

/// `run --rootfs R` and then `words`.
fn run<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let root = rootfs().to_str().unwrap();
    [&["run", "--rootfs", root], words].concat()
}

fn explain(sandbox: &Sandbox, words: &[&str]) -> Value {
    let output = sandbox.mydocker(&[&["explain", "--format", "json"], words].concat()).ok();
    serde_json::from_str(&output.stdout).unwrap()
}

/// Runs a container under strace.
fn traced(sandbox: &Sandbox, words: &[&str]) -> Trace {
    let directory = sandbox.dir().join("out/trace");
    fs::create_dir_all(&directory).unwrap();
    let prefix = directory.join("t");
    let strace = ["strace", "-ff", "-y", "-s", "65536", "-o", prefix.to_str().unwrap(), MYDOCKER];
    sandbox.host(&[&strace, words].concat()).ok();
    let trace = Trace::read(&directory, MYDOCKER);
    fs::remove_dir_all(&directory).unwrap();
    trace
}

/// An explanation has an id of its own: gives it that of the run.
fn with_id(explanation: &Value, id: &str) -> Value {
    let own = explanation["container"].as_str().unwrap();
    let text = explanation.to_string().replace(own, id).replace(&own[..12], &id[..12]);
    serde_json::from_str(&text).unwrap()
}

/// Explains and runs a container.
#[track_caller]
fn expect_as_told(sandbox: &Sandbox, words: &[&str]) {
    let words = run(words);
    let explanation = explain(sandbox, &words);
    let trace = traced(sandbox, &words);
    let id = trace.parent().iter().find_map(|seen| seen.text.split_once("/containers/").map(|(_, rest)| &rest[..64]));
    compare(&with_id(&explanation, id.expect("a container's directory is made")), &trace);
}

/// Compares the two for each process.
#[track_caller]
fn compare(explanation: &Value, trace: &Trace) {
    let mut steps = Vec::new();
    for (process, seen) in [
        ("parent", trace.parent()),
        ("between", trace.between()),
        ("child", trace.child()),
        ("program", trace.program()),
    ] {
        let told = told(explanation, process);
        if told.is_empty() {
            continue;
        }
        let comparison = Comparison::new(seen, told, process != "parent");
        let found = comparison.steps().unwrap_or_else(|difference| panic!("{process}: {difference}"));
        // A step that is left out must not pass unseen.
        for step in &found {
            assert!(comparison.misses(*step), "{process}: without step {step} nothing seems to be missing");
        }
        steps.extend(found);
    }
    // Nearly all steps have a call that has to be told of.
    let all = explanation["steps"].as_array().unwrap().len();
    assert!(steps.len() * 3 > all * 2, "{} of {all} steps are seen", steps.len());
}

fn an_ordinary_container_is_as_told(sandbox: &Sandbox) {
    expect_as_told(sandbox, &["--network", "none", "/bin/true"]);
    // The second finds the directory that the first has left unused.
    expect_as_told(sandbox, &["--network", "none", "/bin/true"]);
}

fn one_with_much_about_it_is_as_told(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.dir().join("out/data")).unwrap();
    let volume = format!("{}:/data:ro", sandbox.dir().join("out/data").display());
    expect_as_told(
        sandbox,
        &[
            "--network",
            "none",
            "--init",
            "--read-only",
            "--memory",
            "64m",
            "--pids-limit",
            "100",
            "--cpus",
            "0.5",
            "--hostname",
            "web",
            "--domainname",
            "example.test",
            "--user",
            "1000:1000",
            "--workdir",
            "/srv/deep",
            "--volume",
            &volume,
            "--tmpfs",
            "/scratch:size=1m",
            "--ulimit",
            "nofile=64:128",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "--oom-score-adj",
            "100",
            "--cap-drop",
            "ALL",
            "--cap-add",
            "NET_BIND_SERVICE",
            "--security-opt",
            "no-new-privileges",
            "true",
        ],
    );
}

fn one_in_a_user_namespace_is_as_told(sandbox: &Sandbox) {
    let maps = ["--uid-map", "0:100000:65536", "--gid-map", "0:100000:65536"];
    expect_as_told(sandbox, &[&["--network", "none"], &maps[..], &["/bin/true"]].concat());
}

fn networks_are_as_told(sandbox: &Sandbox) {
    let words = run(&["--publish", "127.0.0.1:8080:80", "/bin/true"]);
    let explanation = explain(sandbox, &words);
    let trace = traced(sandbox, &words);
    // Which thread makes which call, and when, is left to them.
    let told = told(&explanation, "networks");
    assert!(told.len() > 4);
    for told in told {
        assert!(trace.threads().any(|seen| !seen.failed && told.fits(&seen.text)), "{told:?}");
    }
}

/// A bundle whose container runs `true`.
fn bundle(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) -> String {
    let directory = sandbox.dir().join("bundle");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("config.json");
    let _ = fs::remove_file(&file);
    let text = directory.to_str().unwrap().to_owned();
    sandbox.mydocker(&["oci", "spec", "--bundle", &text]).ok();
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["root"] = json!({"path": rootfs(), "readonly": true});
    config["process"]["args"] = json!(["/bin/true"]);
    config["process"]["terminal"] = json!(false);
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
    text
}

#[track_caller]
fn expect_bundle_as_told(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) {
    let bundle = bundle(sandbox, change);
    let explanation = explain(sandbox, &["oci", "--bundle", &bundle, "c1"]);
    let trace = traced(sandbox, &["oci", "run", "--bundle", &bundle, "c1"]);
    compare(&explanation, &trace);
}

fn a_bundle_is_as_told(sandbox: &Sandbox) {
    expect_bundle_as_told(sandbox, |_| ());
    let user = json!({"type": "user"});
    expect_bundle_as_told(sandbox, |config| {
        let maps = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(user);
        config["linux"]["rootfsPropagation"] = json!("shared");
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]);
        let few = json!(["CAP_KILL", "CAP_CHOWN"]);
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            config["process"]["capabilities"][set] = few.clone();
        }
    });
}

fn one_with_hooks_and_namespaces_of_others_is_as_told(sandbox: &Sandbox) {
    let hook = json!([{"path": "/bin/true", "args": ["true"]}]);
    expect_bundle_as_told(sandbox, |config| {
        config["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "startContainer": hook});
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mseal"], "action": "SCMP_ACT_ERRNO"},
        ]});
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 1});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        config["process"]["oomScoreAdj"] = json!(10);
    });
    // A time namespace needs a process in between.
    expect_bundle_as_told(sandbox, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 100, "nanosecs": 0}});
    });
}

fn a_service_is_as_told(sandbox: &Sandbox) {
    let yaml = "services:\n  web:\n    image: root_fs\n    command: sleep 1000\n    hostname: web\n    volumes: [data:/data]\n\
                volumes:\n  data:\n";
    let project = sandbox.project("told", yaml);
    let file = sandbox.dir().join("projects/told/compose.yaml");
    let file = file.to_str().unwrap();
    let explanation = explain(sandbox, &["compose", "-p", "told", "-f", file, "web"]);
    // All that comes of `up` is traced, and ends with `down`.
    let directory = sandbox.dir().join("out/trace");
    fs::create_dir_all(&directory).unwrap();
    let prefix = directory.join("t");
    let script =
        format!("exec strace -ff -y -s 65536 -o {} \"$MYDOCKER\" compose -p told -f {file} up -d", prefix.display());
    let strace = sandbox.spawn_shell(&script);
    let container = project.wait_running("web");
    project.compose(&["down", "--volumes"]).ok();
    strace.wait().ok();
    let trace = Trace::read(&directory, MYDOCKER);
    fs::remove_dir_all(&directory).unwrap();
    let explanation = with_id(&explanation, &container.id);
    let told_child = told(&explanation, "child");
    let comparison = Comparison::new(trace.child(), told_child, true);
    let found = comparison.steps().unwrap_or_else(|difference| panic!("{difference}"));
    assert!(found.iter().all(|step| comparison.misses(*step)));
    // Supervisor, shim and threads share the rest.
    for told in told(&explanation, "parent").into_iter().chain(told(&explanation, "networks")) {
        let seen = trace.threads().any(|seen| !seen.failed && told.fits(&seen.text));
        assert!(seen || told.conditional, "{told:?}");
    }
}

fn errors_are_those_of_the_command(sandbox: &Sandbox) {
    let file = |name: &str, text: &str| {
        let file = sandbox.dir().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let bad = file("bad.yaml", "services:\n  web:\n    image: root_fs\n    comand: x\n    command: [1, {}]\n");
    let told = sandbox.mydocker(&["explain", "compose", "-f", &bad, "web"]).refused(125, &["bad.yaml:5"]);
    let up = sandbox.mydocker(&["compose", "-f", &bad, "up"]).refused(2, &["bad.yaml:5"]);
    assert_eq!(told.stderr, up.stderr);
    let good = file("good.yaml", "services:\n  web:\n    image: root_fs\n    command: [\"true\"]\n");
    sandbox.mydocker(&["explain", "compose", "-f", &good, "wbe"]).refused(125, &["wbe", "did you mean `web`?"]);
    sandbox.mydocker(&["explain", "oci", "--bundle", "/nowhere"]).refused(125, &["/nowhere"]);
    let bundle = bundle(sandbox, |config| config["process"]["cwd"] = json!("relative"));
    sandbox.mydocker(&["explain", "oci", "--bundle", &bundle]).refused(125, &["process.cwd"]);
}

fn telling_makes_and_changes_nothing(sandbox: &Sandbox) {
    // Not even what a first start makes: the leak check of each test compares the rest of the host.
    let bare = sandbox.dir().join("bare");
    let (run_dir, data_dir) = (bare.join("run"), bare.join("data"));
    let places = ["--run-dir", run_dir.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()];
    for format in ["text", "json"] {
        let words = [&["explain", "--format", format], &run(&[])[..], &places, &["-v", "vol:/v", "/bin/true"]].concat();
        sandbox.mydocker(&words).ok();
    }
    let bundle = bundle(sandbox, |_| ());
    sandbox.mydocker(&[&["explain", "oci", "--bundle", &bundle], &places[..]].concat()).ok();
    let yaml = "services:\n  web:\n    image: root_fs\n    command: x\n    volumes: [data:/data]\nvolumes:\n  data:\n";
    sandbox.project("told", yaml);
    let file = sandbox.dir().join("projects/told/compose.yaml");
    sandbox.mydocker(&[&["explain", "compose", "-f", file.to_str().unwrap(), "web"], &places[..]].concat()).ok();
    assert!(!bare.exists());
    // It needs no root either.
    let script = format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups \"$MYDOCKER\" explain run --rootfs {} /bin/true",
        "/usr"
    );
    let output = sandbox.shell(&script).ok();
    assert!(output.stderr.contains("not root") && output.stdout.contains("pivot_root"), "{}", output.describe());
}

/// The names of all fields, and their types, are what src/engine/explain/README.md says.
fn the_form_of_json_is_stable(sandbox: &Sandbox) {
    let explanation = explain(sandbox, &run(&["--memory", "64m", "/bin/true"]));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&explanation), "container steps version warnings");
    assert_eq!(explanation["version"], 1);
    for (at, step) in explanation["steps"].as_array().unwrap().iter().enumerate() {
        assert_eq!(keys(step), "calls kind manual number process reason step without", "{step}");
        assert_eq!(step["number"], at + 1);
        assert!(["parent", "networks", "child"].contains(&step["process"].as_str().unwrap()), "{step}");
        for text in ["kind", "reason", "step", "without"] {
            assert!(step[text].as_str().unwrap().len() > 3, "{step}");
        }
        assert!(!step["manual"].as_array().unwrap().is_empty(), "{step}");
        for call in step["calls"].as_array().unwrap() {
            let form = keys(call);
            assert!(form == "call" || form == "call when", "{step}");
            assert!(call["call"].as_str().unwrap().ends_with(')'), "{step}");
        }
    }
}

fn people_can_read_it(sandbox: &Sandbox) {
    let output = sandbox.mydocker(&[&["explain"], &run(&["/bin/true"])[..]].concat()).ok();
    assert!(!output.stdout.contains('\u{1b}'), "colours are for terminals: {}", output.describe());
    for part in ["parent: mydocker", "child: the container", "pivot_root(\".\", \".\")", "without", "pivot_root(2)"] {
        assert!(output.stdout.contains(part), "{part}: {}", output.describe());
    }
    sandbox.mydocker(&["explain", "run", "--rootfs", "/nowhere", "true"]).refused(125, &["/nowhere"]);
    sandbox.mydocker(&["explain", "runn"]).refused(125, &["`run`"]);
    sandbox.mydocker(&["explain", "--format", "xml", "run", "true"]).refused(125, &["xml"]);
}
