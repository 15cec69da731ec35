//! A hook, a file system that hangs: whoever has to do with it waits, and nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::bundle::{Bundle, expect_nothing, oci, wait_status};
use crate::support::{Case, HangingFs, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_hook_that_hangs,
        a_signal_ends_a_create_whose_hook_hangs,
        a_signal_ends_a_create_whose_source_hangs: Fuse,
        a_source_of_a_bundle_that_hangs: Fuse,
        a_source_of_a_run_that_hangs: Fuse,
        a_source_of_a_service_that_hangs: Fuse,
    ]
}

/// A whole life beside it, and looks at all there is.
fn others_go_on(sandbox: &Sandbox) {
    let other = Bundle::new(sandbox, "other", "exec sleep 300");
    other.oci(&["create", "other"]).ok();
    oci(sandbox, &["start", "other"]).ok();
    wait_status(sandbox, "other", "running");
    assert!(oci(sandbox, &["list"]).ok().stdout.contains("other"));
    oci(sandbox, &["exec", "other", "true"]).ok();
    oci(sandbox, &["kill", "other", "KILL"]).ok();
    wait_status(sandbox, "other", "stopped");
    oci(sandbox, &["delete", "other"]).ok();
    sandbox.mydocker(&["run", "--network", "none", "root_fs", "true"]).ok();
    let project = sandbox.project(
        "other",
        "\n services:\n  one: {image: root_fs, network_mode: none, init: true, command: [sleep, infinity]}\n",
    );
    project.up();
    project.exec("one", &["true"]).ok();
    project.down();
}

fn a_hook_that_hangs(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let (script, begun) = (bundle.dir.join("hook"), bundle.dir.join("begun"));
    fs::write(&script, format!("#!/bin/sh\nsetsid sleep 301 &\nsleep 302 &\ntouch {}\nsleep 300\n", begun.display()))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for kind in ["createRuntime", "createContainer", "poststart", "poststop"] {
        bundle.edit(|config| {
            config["hooks"] = json!({ kind: [{ "path": script }] });
            config["process"]["args"] = json!(["true"]);
        });
        let running = bundle.spawn(&["run", "web"]);
        eventually("the hook has begun", || begun.exists().then_some(()));
        others_go_on(sandbox);
        oci(sandbox, &["state", "web"]).without_panic();
        running.signal(Signal::SIGKILL);
        drop(running);
        bundle.edit(|config| config["hooks"] = json!({}));
        fs::remove_file(&begun).unwrap();
        // What it recorded has the hook still, which would hang again.
        let recorded = sandbox.run_dir().join("oci/web/config.json");
        if recorded.exists() {
            fs::copy(bundle.dir.join("config.json"), &recorded).unwrap();
        }
        oci(sandbox, &["delete", "--force", "web"]).ok();
        expect_nothing(sandbox);
    }
}

/// The hook ends, and what it started, in a session of its own even; nothing of the container is left.
fn a_signal_ends_a_create_whose_hook_hangs(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let (script, begun) = (bundle.dir.join("hook"), bundle.dir.join("begun"));
    fs::write(&script, format!("#!/bin/sh\nsetsid sleep 301 &\ntouch {}\nsleep 300\n", begun.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for kind in ["createRuntime", "createContainer"] {
        bundle.edit(|config| config["hooks"] = json!({ kind: [{ "path": script }] }));
        for (command, code) in [("create", 1), ("run", 125)] {
            for signal in [Signal::SIGTERM, Signal::SIGINT] {
                let running = bundle.spawn(&[command, "web"]);
                eventually("the hook has begun", || begun.exists().then_some(()));
                running.signal(signal);
                running.wait().refused(code, &["a signal ended the making of the container"]);
                expect_nothing(sandbox);
                fs::remove_file(&begun).unwrap();
            }
        }
    }
    // One that is killed has no time to clear up; its hook ends all the same.
    bundle.edit(|config| config["hooks"] = json!({ "createRuntime": [{ "path": script }] }));
    let running = bundle.spawn(&["create", "web"]);
    eventually("the hook has begun", || begun.exists().then_some(()));
    running.signal(Signal::SIGKILL);
    drop(running);
    eventually("no process is left", || sandbox.processes().is_empty().then_some(()));
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

/// The caller is free at once. The container's process cannot be killed while it waits in the kernel: that is told.
fn a_signal_ends_a_create_whose_source_hangs(sandbox: &Sandbox) {
    let hanging = HangingFs::mount(sandbox);
    let bundle = Bundle::new(sandbox, "b", "true");
    let source = hanging.path().join("x");
    bundle.mount(json!({ "destination": "/tmp/x", "type": "bind", "source": source, "options": ["bind"] }));
    for (number, (command, signal)) in
        [("create", Signal::SIGTERM), ("create", Signal::SIGINT), ("run", Signal::SIGTERM)].into_iter().enumerate()
    {
        let name = format!("web{number}");
        let running = bundle.spawn(&[command, &name]);
        hanging.wait_for_victims(1);
        eventually("its process is there", || {
            sandbox.cgroup_file(&name, &["cgroup.procs"]).filter(|pids| !pids.is_empty())
        });
        running.signal(signal);
        let output = running.wait().without_panic();
        assert!(output.code != 0 && output.took.as_secs() < 20, "{}", output.describe());
        assert!(output.stderr.contains("a signal ended the making"), "{}", output.describe());
        let stuck = output.stderr.contains("stuck in the kernel");
        assert!(!stuck || output.stderr.contains(&format!("delete --force {name}")), "{}", output.describe());
    }
    others_go_on(sandbox);
    drop(hanging);
    (0..3).for_each(|number| drop(oci(sandbox, &["delete", "--force", &format!("web{number}")]).ok()));
    expect_nothing(sandbox);
}

fn a_source_of_a_bundle_that_hangs(sandbox: &Sandbox) {
    let hanging = HangingFs::mount(sandbox);
    let bundle = Bundle::new(sandbox, "b", "true");
    bundle.mount(
        json!({ "destination": "/tmp/x", "type": "bind", "source": hanging.path().join("x"), "options": ["bind"] }),
    );
    let running = bundle.spawn(&["run", "web"]);
    hanging.wait_for_victims(1);
    others_go_on(sandbox);
    oci(sandbox, &["state", "web"]).without_panic();
    running.signal(Signal::SIGKILL);
    drop(running);
    // The process cannot be killed as long as it waits: that is told, and not waited for without end.
    let output = oci(sandbox, &["delete", "--force", "web"]).without_panic();
    drop(hanging);
    if output.code != 0 {
        oci(sandbox, &["delete", "--force", "web"]).ok();
    }
    expect_nothing(sandbox);
}

fn a_source_of_a_run_that_hangs(sandbox: &Sandbox) {
    let hanging = HangingFs::mount(sandbox);
    let volume = format!("{}:/x", hanging.path().join("x").display());
    let running = [Signal::SIGTERM, Signal::SIGKILL]
        .map(|signal| (signal, sandbox.spawn(&["run", "--network", "none", "-v", &volume, "root_fs", "true"])));
    hanging.wait_for_victims(1);
    others_go_on(sandbox);
    running.iter().for_each(|(signal, running)| running.signal(*signal));
    others_go_on(sandbox);
    // What waits in the kernel ends with the wait.
    drop(hanging);
    for (_, running) in running {
        running.wait().without_panic();
    }
    // The next one clears what could not be cleared.
    sandbox.mydocker(&["run", "--network", "none", "root_fs", "true"]).ok();
    expect_nothing(sandbox);
}

fn a_source_of_a_service_that_hangs(sandbox: &Sandbox) {
    let hanging = HangingFs::mount(sandbox);
    let yaml = format!(
        "
        x-service: &service {{image: root_fs, network_mode: none, init: true, command: [sleep, infinity]}}
        services:
          good: {{<<: *service}}
          hung: {{<<: *service, volumes: ['{}:/x']}}
        ",
        hanging.path().join("x").display()
    );
    let project = sandbox.project("hung", &yaml);
    let up = project.spawn(&["up", "-d"]);
    hanging.wait_for_victims(1);
    project.wait_running("good");
    project.exec("good", &["true"]).ok();
    assert!(project.compose(&["ps"]).ok().stdout.contains("good"));
    project.compose(&["restart", "-t", "0", "good"]).ok();
    others_go_on(sandbox);
    drop(hanging);
    up.wait().without_panic();
}
