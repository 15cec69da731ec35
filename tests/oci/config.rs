//! What a configuration asks of the host: cgroups that are seen, device nodes, network devices.

use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci};
use crate::support::{Case, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_container_sees_its_own_cgroup,
        a_user_namespace_has_devices,
        labels_of_security_modules,
        classes_of_service,
        real_time_is_dealt_out,
    ]
}

fn add_namespace(config: &mut Value, kind: &str) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": kind }));
}

fn add_user_namespace(config: &mut Value, first: u32) {
    add_namespace(config, "user");
    let maps = json!([{ "containerID": 0, "hostID": first, "size": 65536 }]);
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
}

/// With a cgroup namespace and without, in a user namespace and outside.
fn a_container_sees_its_own_cgroup(sandbox: &Sandbox) {
    let script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2> /tmp/none";
    for (number, namespaces) in [&[][..], &["cgroup"], &["user"], &["user", "cgroup"]].into_iter().enumerate() {
        let bundle = Bundle::new(sandbox, &format!("b{number}"), script);
        bundle.edit(|config| {
            config["linux"]["resources"] = json!({ "pids": { "limit": 77 } });
            let options = json!(["nosuid", "noexec", "nodev", "ro"]);
            let mount = json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options });
            let cgroup =
                json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
            config["mounts"].as_array_mut().unwrap().extend([mount, cgroup]);
            for kind in namespaces {
                if *kind == "user" { add_user_namespace(config, 0) } else { add_namespace(config, kind) }
            }
        });
        let output = bundle.oci(&["run", "web"]);
        assert_eq!(output.stdout, "77\n", "{namespaces:?}: {}", output.describe());
    }
    expect_nothing(sandbox);
}

/// Nodes that the host's /dev need not have, with the owner as the container sees it.
fn a_user_namespace_has_devices(sandbox: &Sandbox) {
    let script = "stat -c '%n %F %t:%T %a %u:%g' /dev/null /dev/twin /dev/disk; echo x > /dev/twin && echo written; \
                  grep ' /dev/twin ' /proc/self/mountinfo | grep -c nosuid.*noexec";
    let bundle = Bundle::new(sandbox, "b", script);
    bundle.edit(|config| {
        add_user_namespace(config, 100_000);
        config["linux"]["devices"] = json!([
            { "path": "/dev/twin", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622, "uid": 10, "gid": 11 },
            { "path": "/dev/disk", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600 },
        ]);
    });
    let expected = "/dev/null character special file 1:3 666 0:0\n/dev/twin character special file 1:3 622 10:11\n\
                    /dev/disk block special file 7:c8 600 0:0\nwritten\n1\n";
    assert_eq!(bundle.oci(&["run", "web"]).ok().stdout, expected);
    expect_nothing(sandbox);
}

/// What confines must be there, or loaded; what says that nobody is confined is always good.
fn labels_of_security_modules(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.edit(|config| config["process"]["apparmorProfile"] = "unconfined".into());
    bundle.oci(&["run", "--detach", "web"]).ok();
    oci(sandbox, &["exec", "--apparmor", "unconfined", "web", "true"]).ok();
    oci(sandbox, &["exec", "--apparmor", "nosuch-profile", "web", "true"]).refused(125, &["AppArmor"]);
    oci(sandbox, &["exec", "--process-label", "nosuch-label", "web", "true"]).refused(125, &["SELinux"]);
    oci(sandbox, &["delete", "--force", "web"]).ok();
    let run =
        |option: &str| sandbox.mydocker(&["run", "--network", "none", "--security-opt", option, "root_fs", "true"]);
    run("apparmor=unconfined").ok();
    run("label=disable").ok();
    run("apparmor=nosuch-profile").refused(125, &["AppArmor"]);
    run("label=type:nosuch_t").refused(125, &["label=type:nosuch_t", "label=disable"]);
    expect_nothing(sandbox);
}

/// A host without resctrl says so; what is made on one that has it is tested beside the code.
fn classes_of_service(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "true");
    let has_one = std::path::Path::new("/sys/fs/resctrl/schemata").exists();
    let reason = if has_one { "there is no class" } else { "no resctrl file system" };
    bundle.edit(|config| config["linux"]["intelRdt"] = json!({ "closID": "nosuch-class" }));
    bundle.oci(&["create", "web"]).refused(1, &["linux.intelRdt", reason]);
    bundle.oci(&["run", "web"]).refused(125, &["linux.intelRdt", reason]);
    expect_nothing(sandbox);
}

/// In a cgroup of v1's cpu controller nobody is real-time before the cgroup was given time for it, and all above it.
fn real_time_is_dealt_out(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "grep ^policy /proc/self/sched | tr -d ' '");
    for deep in [false, true] {
        for policy in ["SCHED_FIFO", "SCHED_RR"] {
            bundle.edit(|config| {
                config["process"]["scheduler"] = json!({ "policy": policy, "priority": 5 });
                config["linux"]["resources"] = json!({});
                if deep {
                    config["linux"]["cgroupsPath"] = format!("/{}/deep/er", sandbox.token()).into();
                }
            });
            let number = if policy == "SCHED_FIFO" { "policy:1\n" } else { "policy:2\n" };
            if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
                bundle.oci(&["run", "web"]).refused(125, &["process.scheduler", "linux.resources.cpu.realtimeRuntime"]);
                let time = json!({ "realtimeRuntime": 1000, "realtimePeriod": 1_000_000 });
                bundle.edit(|config| config["linux"]["resources"]["cpu"] = time);
            }
            assert_eq!(bundle.oci(&["run", "web"]).ok().stdout, number);
            expect_nothing(sandbox);
        }
    }
}
