//! Hooks that the runtime runs: when, with what, and what happens when they fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci, wait_status};
use crate::support::{Case, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        hooks_run_at_their_moments,
        a_failing_hook_ends_create_and_leaves_nothing,
        a_hook_that_takes_too_long_is_killed_with_its_children,
        a_failing_poststart_hook_ends_the_container,
        poststop_hooks_that_fail_are_warnings,
        hooks_have_an_environment,
        what_hooks_say_goes_to_files,
        a_hook_may_ask_for_the_state,
        a_hook_s_child_holds_nobody_up,
    ]
}

/// A program on the sandbox's host that appends to `log`.
fn hook(sandbox: &Sandbox, name: &str, script: &str) -> Value {
    let path = sandbox.dir().join(name);
    let log = sandbox.dir().join("hooks.log");
    fs::write(&path, format!("#!/bin/sh\nexec 9>>{}\n{script}\n", log.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    json!({ "path": path, "args": [name, "argument"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=b"] })
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.dir().join("hooks.log")).unwrap_or_default()
}

fn hooks_run_at_their_moments(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let note = |kind: &str| hook(sandbox, kind, &format!("state=$(cat); echo {kind} $1 $A $(pwd) \"$state\" >&9"));
    bundle.edit(|config| {
        config["hooks"] = json!({
            "prestart": [note("prestart")], "createRuntime": [note("createRuntime")],
            "poststart": [note("poststart")], "poststop": [note("poststop")],
        });
    });
    bundle.oci(&["create", "web"]).ok();
    let kinds = || log(sandbox).lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(), ["prestart", "createRuntime"]);
    oci(sandbox, &["start", "web"]).ok();
    assert_eq!(kinds(), ["prestart", "createRuntime", "poststart"]);
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    let text = log(sandbox);
    let statuses: Vec<String> = text
        .lines()
        .map(|line| {
            let mut words = line.splitn(5, ' ');
            assert_eq!(words.nth(1), Some("argument"), "{line}");
            assert_eq!(words.next(), Some("b"), "{line}");
            assert_eq!(words.next(), bundle.dir.to_str(), "{line}");
            let state: Value = serde_json::from_str(words.next().unwrap()).unwrap();
            assert_eq!((&state["id"], &state["bundle"]), (&"web".into(), &bundle.dir.to_str().into()));
            state["status"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(statuses, ["created", "created", "running", "stopped"]);
    expect_nothing(sandbox);
}

fn a_failing_hook_ends_create_and_leaves_nothing(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    for kind in ["prestart", "createRuntime"] {
        let fails = hook(sandbox, "fails", "echo the reason >&2; exit 3");
        bundle.edit(|config| config["hooks"] = json!({ kind: [fails] }));
        let words = format!("{kind} hook failed with exit code 3");
        bundle.oci(&["create", "web"]).refused(1, &[&words, "the reason"]);
        bundle.oci(&["run", "web"]).refused(125, &[&words]);
        expect_nothing(sandbox);
    }
    bundle.edit(|config| config["hooks"] = json!({ "createRuntime": [{ "path": "/nosuch/hook" }] }));
    bundle.oci(&["create", "web"]).refused(1, &["/nosuch/hook", "no such file or directory"]);
    expect_nothing(sandbox);
}

fn a_hook_that_takes_too_long_is_killed_with_its_children(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let mut slow = hook(sandbox, "slow", "setsid sleep 301 & sleep 302");
    slow["timeout"] = 1.into();
    bundle.edit(|config| config["hooks"] = json!({ "createRuntime": [slow] }));
    let output = bundle.oci(&["create", "web"]).expect_code(1);
    assert!(output.stderr.contains("timeout of 1 s"), "{}", output.describe());
    assert!(output.took < std::time::Duration::from_secs(10), "{}", output.describe());
    expect_nothing(sandbox);
}

/// Runtime specification, "Lifecycle": step 9 goes on at step 12.
fn a_failing_poststart_hook_ends_the_container(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let (fails, next) = (hook(sandbox, "fails", "exit 3"), hook(sandbox, "next", "echo next >&9"));
    let last = hook(sandbox, "last", "echo last >&9");
    bundle.edit(|config| config["hooks"] = json!({ "poststart": [fails, next], "poststop": [last] }));
    let words = ["poststart hook failed with exit code 3", "fails"];
    bundle.oci(&["create", "web"]).ok();
    oci(sandbox, &["start", "web"]).refused(1, &words);
    expect_nothing(sandbox);
    bundle.oci(&["run", "--detach", "web"]).refused(1, &words);
    expect_nothing(sandbox);
    bundle.oci(&["run", "web"]).refused(125, &words);
    expect_nothing(sandbox);
    assert_eq!(log(sandbox), "last\nlast\nlast\n");
}

fn poststop_hooks_that_fail_are_warnings(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let (fails, next) = (hook(sandbox, "fails", "exit 3"), hook(sandbox, "next", "echo next >&9"));
    bundle.edit(|config| config["hooks"] = json!({ "poststop": [fails, next] }));
    let file = sandbox.dir().join("log");
    bundle.oci(&["create", "web"]).ok();
    oci(sandbox, &["--log", file.to_str().unwrap(), "--log-format=json", "delete", "-f", "web"]).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("\"warning\"").count(), 1, "{text}");
    assert_eq!(log(sandbox), "next\n");
    // Without a log it is told on standard error: the container has ended.
    let words = "poststop hook failed with exit code 3";
    bundle.edit(|config| config["process"]["args"] = json!(["true"]));
    let output = bundle.oci(&["run", "web"]).ok();
    assert!(output.stderr.contains(words), "{}", output.describe());
    bundle.oci(&["create", "web"]).ok();
    let output = oci(sandbox, &["delete", "--force", "web"]).ok();
    assert!(output.stderr.contains(words), "{}", output.describe());
    expect_nothing(sandbox);
}

/// One that is given none has the runtime's; inside, the container's, which knows nothing of the host's.
fn hooks_have_an_environment(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "true");
    let given = hook(sandbox, "given", "env >&9");
    let mut none = hook(sandbox, "none", "echo $HOST_ONLY >&9");
    none.as_object_mut().unwrap().remove("env");
    let check = "test -z \"$HOST_ONLY\" && test \"$TERM\" = xterm";
    bundle.edit(|config| {
        config["hooks"] = json!({
            "createRuntime": [none, given], "createContainer": [none],
            "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", check] }],
        });
    });
    sandbox.shell(&format!("HOST_ONLY=here $MYDOCKER oci run -b {} web", bundle.dir.display())).ok();
    let text = log(sandbox);
    assert_eq!(text.matches("here\n").count(), 2, "{text}");
    assert!(text.contains("A=b\n") && !text.contains("HOST_ONLY"), "{text}");
    expect_nothing(sandbox);
}

fn what_hooks_say_goes_to_files(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "true");
    let says = hook(sandbox, "says", "echo out; echo err >&2");
    let file = |name: &str| sandbox.dir().join(name);
    bundle.edit(|config| {
        config["hooks"] = json!({ "createRuntime": [says, says] });
        config["annotations"] =
            json!({ "run.oci.hooks.stdout": file("stdout"), "run.oci.hooks.stderr": file("stderr") });
    });
    bundle.oci(&["run", "web"]).ok();
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    assert_eq!((read("stdout"), read("stderr")), ("out\nout\n".to_owned(), "err\nerr\n".to_owned()));
    // Those that the container's process runs, the last of them inside, where there is no such path and no way to the file.
    let inside =
        json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo in; echo inerr >&2; echo x >/proc/self/fd/1; exit 3"] });
    bundle.edit(|config| config["hooks"] = json!({ "createContainer": [says], "startContainer": [inside] }));
    bundle.oci(&["create", "web"]).ok();
    assert_eq!((read("stdout"), read("stderr")), ("out\nout\nout\n".to_owned(), "err\nerr\nerr\n".to_owned()));
    // A hook that fails is told of with its words all the same.
    oci(sandbox, &["start", "web"]).refused(1, &["startContainer", "inerr"]);
    assert_eq!(read("stderr"), "err\nerr\nerr\ninerr\n");
    assert!(read("stdout").starts_with("out\nout\nout\n"), "{}", read("stdout"));
    oci(sandbox, &["delete", "--force", "web"]).ok();
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        bundle.edit(|config| {
            config["hooks"] = json!({ kind: [says] });
            config["annotations"] = json!({ "run.oci.hooks.stdout": "/nosuch/file" });
        });
        bundle.oci(&["run", "web"]).refused(125, &["run.oci.hooks.stdout", "no such file or directory"]);
    }
    expect_nothing(sandbox);
}

fn a_hook_may_ask_for_the_state(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let script = format!(
        "export MYDOCKER_RUN_DIR={}; {} oci state web | grep -e status -e '\"pid\"' >&9",
        sandbox.run_dir().display(),
        crate::support::MYDOCKER
    );
    let asks = hook(sandbox, "asks", &script);
    bundle.edit(|config| config["hooks"] = json!({ "createRuntime": [asks] }));
    bundle.oci(&["create", "web"]).ok();
    let pid = crate::bundle::state(sandbox, "web")["pid"].to_string();
    let text = log(sandbox);
    assert!(text.contains("\"creating\"") && text.contains(&pid), "{text}");
    oci(sandbox, &["delete", "-f", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_hook_s_child_holds_nobody_up(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let leaves = hook(sandbox, "leaves", "sleep 303 & echo $! >&9");
    bundle.edit(|config| config["hooks"] = json!({ "createRuntime": [leaves] }));
    let output = bundle.oci(&["create", "web"]).ok();
    assert!(output.took < std::time::Duration::from_secs(10), "{}", output.describe());
    oci(sandbox, &["delete", "-f", "web"]).ok();
    sandbox.shell(&format!("kill {}", log(sandbox).trim())).ok();
    expect_nothing(sandbox);
}
