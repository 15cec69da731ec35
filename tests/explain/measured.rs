//! `mydocker explain --run`: each step has the time that it took, and what the container does and says stays what it is.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Output, Sandbox};
use crate::{bundle, explain, run, traced};

const WHOLE: [&str; 4] = ["version", "container", "warnings", "steps"];

/// Carries a launch out; returns its explanation, and all that came of it.
fn measured(sandbox: &Sandbox, words: &[&str], code: i32) -> (Value, Output) {
    let output = sandbox.mydocker(&[&["explain", "--run", "--format", "json"], words].concat()).expect_code(code);
    let explanation = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{}", output.describe()));
    check(&explanation, &output);
    (explanation, output)
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {value}"))
}

fn steps(explanation: &Value) -> &Vec<Value> {
    explanation["steps"].as_array().unwrap()
}

#[track_caller]
fn step<'a>(explanation: &'a Value, kind: &str) -> &'a Value {
    let found = steps(explanation).iter().find(|step| step["kind"] == kind);
    found.unwrap_or_else(|| panic!("no step `{kind}`"))
}

/// What holds for every explanation of a run.
fn check(explanation: &Value, output: &Output) {
    let run = &explanation["run"];
    let total = number(run, "nanoseconds");
    assert!(Duration::from_nanos(total) <= output.took, "{run}");
    assert_eq!(number(run, "exit_code"), u64::try_from(output.code).unwrap());
    let moments: Vec<u64> = ["until_clone", "until_program", "until_end", "nanoseconds"]
        .into_iter()
        .filter_map(|field| run[field].as_u64())
        .collect();
    assert!(moments[0] > 0 && moments.is_sorted(), "{run}");
    for step in steps(explanation) {
        let outcome = step["outcome"].as_str().unwrap();
        if outcome == "not_reached" {
            assert!(step.get("nanoseconds").is_none() && step.get("began").is_none(), "{step}");
            continue;
        }
        assert!(["done", "nothing_to_do", "failed"].contains(&outcome), "{step}");
        if step["kind"] == "seal" && step.get("nanoseconds").is_none() {
            // A static binary does it before anything of it can look at a clock.
            continue;
        }
        // Of a step that its process did not live to end nobody knows how long it took.
        if outcome == "failed" && step.get("nanoseconds").is_none() {
            continue;
        }
        assert!(number(step, "nanoseconds") > 0, "{step}");
        assert!(number(step, "began") + number(step, "nanoseconds") <= total, "{step}");
        assert!(step["waited"].as_u64().unwrap_or(0) <= number(step, "nanoseconds"), "{step}");
    }
    for process in run["processes"].as_array().unwrap() {
        let mine = || steps(explanation).iter().filter(|step| step["process"] == process["process"]);
        let sum = |field: &str| mine().filter_map(|step| step[field].as_u64()).sum::<u64>();
        assert_eq!(sum("nanoseconds"), number(process, "in_steps"));
        assert_eq!(sum("waited"), number(process, "waited"));
        assert!(number(process, "in_steps") <= number(process, "nanoseconds"), "{process}");
        assert!(number(process, "began") + number(process, "nanoseconds") <= total, "{process}");
        for step in mine().filter(|step| step["outcome"] != "not_reached") {
            assert!(number(step, "began") >= number(process, "began"), "{process} {step}");
        }
    }
    let processes: Vec<_> = run["processes"].as_array().unwrap().iter().map(|each| &each["process"]).collect();
    for step in steps(explanation).iter().filter(|step| step["outcome"] != "not_reached") {
        assert!(processes.contains(&&step["process"]), "{step}");
    }
}

/// Every step was carried out, and begins when the one before it in the same process has ended.
fn expect_all_done(explanation: &Value) {
    for step in steps(explanation) {
        assert!(step["outcome"] == "done" || step["outcome"] == "nothing_to_do", "{step}");
    }
    let mut end = 0;
    for step in steps(explanation).iter().filter(|step| step["process"] == "child") {
        assert!(number(step, "began") >= end, "{step}");
        end = number(step, "began") + number(step, "nanoseconds");
    }
}

pub(crate) fn a_run_is_measured_step_by_step(sandbox: &Sandbox) {
    let script = "echo out; echo err >&2; exit 7";
    let words = run(&["--init", "--network", "none", "--user", "1000:1000", "--memory", "64m", "sh", "-c", script]);
    let (explanation, output) = measured(sandbox, &words, 7);
    // The explanation has standard output to itself.
    assert!(output.stderr.contains("out\n") && output.stderr.contains("err\n"), "{}", output.describe());
    expect_all_done(&explanation);
    assert!(number(&explanation["run"], "until_program") < number(&explanation["run"], "until_end"));
    for process in ["parent", "child", "program"] {
        assert!(steps(&explanation).iter().any(|step| step["process"] == process), "{process}");
    }
    // /proc/kcore is there, /proc/latency_stats or /proc/sched_debug is not.
    let outcomes: Vec<_> = steps(&explanation)
        .iter()
        .filter(|step| step["kind"] == "mask_path")
        .map(|step| step["outcome"].as_str().unwrap())
        .collect();
    assert!(outcomes.contains(&"done") && outcomes.contains(&"nothing_to_do"), "{outcomes:?}");
    // Steps are those that are told without a run, and the rest is there besides.
    let told = explain(sandbox, &words);
    let kinds = |of: &Value| steps(of).iter().map(|step| step["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&told), kinds(&explanation));
    let keys: Vec<_> = explanation.as_object().unwrap().keys().cloned().collect();
    assert!(WHOLE.iter().all(|key| keys.iter().any(|had| had == key)) && keys.len() == WHOLE.len() + 1, "{keys:?}");
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(fields(&explanation["run"]), "exit_code nanoseconds processes until_clone until_end until_program");
    assert_eq!(fields(&explanation["run"]["processes"][0]), "began in_steps nanoseconds process waited");
    assert_eq!(
        fields(step(&explanation, "await_end")),
        "began calls kind manual nanoseconds number outcome process reason step waited without"
    );
}

pub(crate) fn a_user_namespace_and_networks_are_measured(sandbox: &Sandbox) {
    let maps = ["--uid-map", "0:100000:65536", "--gid-map", "0:100000:65536"];
    let words = run(&[&maps[..], &["--publish", "127.0.0.1:8080:80", "/bin/true"]].concat());
    let (explanation, _) = measured(sandbox, &words, 0);
    expect_all_done(&explanation);
    for kind in ["write_id_maps", "map_layer", "send_plan", "make_networks", "attach_network", "detach_networks"] {
        step(&explanation, kind);
    }
    // The child has to wait for its plan.
    assert!(number(step(&explanation, "begin"), "waited") > 0);
}

/// A hook that takes so long is found where it is run, and nowhere else.
pub(crate) fn a_slow_step_shows_in_its_time(sandbox: &Sandbox) {
    const SLOW: u64 = 300_000_000;
    let hook = json!([{"path": "/bin/sleep", "args": ["sleep", "0.3"]}]);
    let kinds = [
        ("createRuntime", "runtime_hook"),
        ("createContainer", "run_hook"),
        ("startContainer", "run_hook"),
        ("poststart", "poststart_hook"),
        ("poststop", "poststop_hook"),
    ];
    for (name, kind) in kinds {
        let bundle = bundle(sandbox, |config| config["hooks"] = json!({name: hook}));
        let (explanation, _) = measured(sandbox, &["oci", "--bundle", &bundle, "c1"], 0);
        expect_all_done(&explanation);
        let slow: Vec<_> = steps(&explanation)
            .iter()
            .filter(|step| number(step, "nanoseconds") - step["waited"].as_u64().unwrap_or(0) >= SLOW)
            .map(|step| step["kind"].as_str().unwrap())
            .collect();
        assert_eq!(slow, [kind], "{name}");
        assert!(number(&explanation["run"], "nanoseconds") >= SLOW);
        let before = number(&explanation["run"], "until_program") >= SLOW;
        assert_eq!(before, !name.starts_with("post"), "{name}");
    }
}

pub(crate) fn a_time_namespace_does_not_change_times(sandbox: &Sandbox) {
    let bundle = bundle(sandbox, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1000, "nanosecs": 5}});
    });
    let (explanation, _) = measured(sandbox, &["oci", "--bundle", &bundle, "c1"], 0);
    expect_all_done(&explanation);
    assert!(steps(&explanation).iter().any(|step| step["process"] == "between"));
}

pub(crate) fn what_was_not_reached_is_said(sandbox: &Sandbox) {
    let (explanation, output) = measured(sandbox, &run(&["--network", "none", "/no/such/program"]), 127);
    assert!(output.stderr.contains("/no/such/program"), "{}", output.describe());
    assert_eq!(step(&explanation, "execute")["outcome"], "failed");
    assert_eq!(step(&explanation, "enter_root")["outcome"], "done");
    assert_eq!(step(&explanation, "await_end")["outcome"], "not_reached");
    assert_eq!(step(&explanation, "give_up")["outcome"], "done");
    assert!(explanation["run"].get("until_program").is_none());
    // A step in the middle.
    let bundle = bundle(sandbox, |config| {
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/x", "source": "/nowhere", "type": "bind"}));
    });
    let (explanation, _) = measured(sandbox, &["oci", "--bundle", &bundle, "c1"], 125);
    let failed: Vec<_> = steps(&explanation).iter().filter(|step| step["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0]["step"].as_str().unwrap().contains("/nowhere"), "{}", failed[0]);
    assert_eq!(step(&explanation, "enter_root")["outcome"], "not_reached");
    // What is wrong before anything is done has no explanation.
    sandbox.mydocker(&["explain", "--run", "run", "--rootfs", "/nowhere", "true"]).refused(125, &["/nowhere"]);
}

pub(crate) fn a_service_runs_by_itself(sandbox: &Sandbox) {
    let yaml = "services:\n  web:\n    image: root_fs\n    command: sh -c 'echo in $$HOSTNAME_; echo kept > /data/file; exit 3'\n\
                \x20   environment: {HOSTNAME_: service}\n    volumes: [data:/data]\n    ports: ['127.0.0.1:8081:80']\n    depends_on: [db]\n\
                \x20 db:\n    image: root_fs\n    command: sleep 1000\n  \
                side:\n    image: root_fs\n    command: 'true'\n    network_mode: service:db\nvolumes:\n  data:\n";
    let project = sandbox.project("oneoff", yaml);
    let file = project.file().to_str().unwrap().to_owned();
    let (explanation, output) = measured(sandbox, &["compose", "-p", "oneoff", "-f", &file, "web"], 3);
    assert!(output.stderr.contains("in service"), "{}", output.describe());
    expect_all_done(&explanation);
    step(&explanation, "attach_network");
    // The volume stays, as after `down`; network and container are gone.
    let kept = sandbox.data_dir().join("volumes/oneoff_data/_data/file");
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept\n");
    assert_eq!(project.containers().len(), 0);
    let refused = sandbox.mydocker(&["explain", "--run", "compose", "-p", "oneoff", "-f", &file, "side"]);
    refused.refused(125, &["side", "service `db`", "--run"]);
    // Beside the project it uses its network, and leaves it there.
    project.up();
    measured(sandbox, &["compose", "-p", "oneoff", "-f", &file, "web"], 3);
    let networks = sandbox.mydocker(&["network", "ls"]).ok();
    assert!(networks.stdout.contains("oneoff_default"), "{}", networks.describe());
    project.compose(&["down", "--volumes"]).ok();
}

pub(crate) fn people_can_read_times(sandbox: &Sandbox) {
    let words = [&["explain", "--run"], &run(&["--network", "none", "/bin/true"])[..]].concat();
    let output = sandbox.mydocker(&words).ok();
    for part in ["took ", "had nothing to do", "── times ──", "until its program ran", "exit code 0", "the longest"]
    {
        assert!(output.stdout.contains(part), "{part}: {}", output.describe());
    }
    let output = sandbox.mydocker(&["explain", "--help"]).ok();
    assert!(output.stdout.contains("--run"), "{}", output.describe());
}

/// A run that nobody measures maps no memory for it and looks at no other clock.
pub(crate) fn what_is_not_measured_costs_nothing(sandbox: &Sandbox) {
    let shared = |trace: &crate::Trace| {
        trace.parent().iter().filter(|seen| seen.text.contains("MAP_SHARED|MAP_ANONYMOUS")).count()
    };
    let words = run(&["--network", "none", "/bin/true"]);
    assert_eq!(shared(&traced(sandbox, &words)), 0);
    assert_eq!(shared(&traced(sandbox, &[&["explain", "--run"], &words[..]].concat())), 1);
}
