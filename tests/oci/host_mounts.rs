//! A container without a mount namespace: its mounts are the host's, here the sandbox's.

use crate::bundle::{Bundle, expect_nothing, oci, state, wait_status};
use crate::support::{Case, Sandbox, cases, rootfs};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        its_mounts_are_the_host_s_and_go_with_it,
        a_create_that_fails_leaves_no_mount,
        mounts_that_somebody_took_away_are_not_missed,
        mounts_are_listed_in_their_order,
    ]
}

/// A root of its own: mounts on that of all tests would be in the others' way.
fn without_mount_namespace<'a>(sandbox: &'a Sandbox, script: &str) -> Bundle<'a> {
    let bundle = Bundle::new(sandbox, "b", script);
    sandbox.shell(&format!("cp -a {} {}/rootfs", rootfs().display(), bundle.dir.display())).ok();
    bundle.edit(|config| {
        config["root"]["path"] = "rootfs".into();
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "mount");
    });
    bundle
}

/// The mounts of the sandbox's host that lie in the bundle.
fn mounts(sandbox: &Sandbox, bundle: &Bundle<'_>) -> Vec<String> {
    let text = sandbox.shell("cat /proc/self/mountinfo").ok().stdout;
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter_map(|path| path.strip_prefix(bundle.dir.to_str()?).map(str::to_owned));
    points.collect()
}

fn its_mounts_are_the_host_s_and_go_with_it(sandbox: &Sandbox) {
    let bundle = without_mount_namespace(sandbox, "ls -d /bundles; exec sleep 300");
    bundle.oci(&["create", "web"]).ok();
    let made = mounts(sandbox, &bundle);
    assert!(made.contains(&"/rootfs".to_owned()) && made.contains(&"/rootfs/dev/pts".to_owned()), "{made:?}");
    let pid = state(sandbox, "web")["pid"].to_string();
    let same = format!("test $(readlink /proc/self/ns/mnt) = $(readlink /proc/{pid}/ns/mnt)");
    sandbox.shell(&same).ok();
    oci(sandbox, &["start", "web"]).ok();
    // An exec finds itself in the container's root, not in the host's.
    let root = oci(sandbox, &["exec", "web", "ls", "-d", "/rootfs", bundle.dir.to_str().unwrap(), "/bin/busybox"]);
    assert_eq!(root.stdout, "/bin/busybox\n", "{}", root.describe());
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    assert!(mounts(sandbox, &bundle).is_empty(), "{:?}", mounts(sandbox, &bundle));
    expect_nothing(sandbox);
}

fn a_create_that_fails_leaves_no_mount(sandbox: &Sandbox) {
    let bundle = without_mount_namespace(sandbox, "true");
    bundle.edit(|config| config["process"]["args"] = serde_json::json!(["nosuch"]));
    bundle.oci(&["create", "web"]).refused(1, &["nosuch"]);
    assert!(mounts(sandbox, &bundle).is_empty(), "{:?}", mounts(sandbox, &bundle));
    bundle.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }))
    });
    bundle.oci(&["create", "web"]).refused(1, &["mount"]);
    expect_nothing(sandbox);
}

fn mounts_that_somebody_took_away_are_not_missed(sandbox: &Sandbox) {
    let bundle = without_mount_namespace(sandbox, "exec sleep 300");
    bundle.oci(&["create", "web"]).ok();
    sandbox.shell(&format!("umount --lazy {}/rootfs", bundle.dir.display())).ok();
    // One that was there before is somebody else's.
    oci(sandbox, &["delete", "--force", "web"]).ok();
    let root = bundle.dir.join("rootfs");
    sandbox.shell(&format!("mount --bind {0} {0}", root.display())).ok();
    bundle.oci(&["create", "web"]).ok();
    oci(sandbox, &["delete", "--force", "web"]).ok();
    assert_eq!(mounts(sandbox, &bundle), ["/rootfs"]);
    sandbox.shell(&format!("umount {}", root.display())).ok();
    expect_nothing(sandbox);
}

/// The kernel lists them by age since 6.8, and lets a detached tree be cloned, which makes it young, since 6.15.
fn mounts_are_listed_in_their_order(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "grep -o ' /tmp/[a-d] ' /proc/self/mountinfo | tr -d ' \\n'");
    bundle.edit(|config| {
        for (name, bind) in [("a", true), ("b", false), ("c", true), ("d", false)] {
            let (kind, source) = if bind { ("bind", "/etc") } else { ("tmpfs", "tmpfs") };
            let options = if bind { vec!["bind"] } else { vec![] };
            let mount = serde_json::json!({ "destination": format!("/tmp/{name}"), "type": kind, "source": source, "options": options });
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
    });
    let listed = bundle.oci(&["run", "web"]).ok().stdout;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let wanted =
        if ((6, 8)..(6, 15)).contains(&version) { "/tmp/a/tmp/c/tmp/b/tmp/d" } else { "/tmp/a/tmp/b/tmp/c/tmp/d" };
    assert_eq!(listed, wanted);
    expect_nothing(sandbox);
}
