//! F38, F40, F64, F65: memory that runs out, fork bombs, cgroups that are not there, processes that stand still.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci, state};
use crate::support::{Case, Project, Sandbox, cases, eventually};
use crate::{ancestor, run};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        memory_of_the_main_process: Controllers,
        memory_of_a_child_only: Controllers,
        a_fork_bomb: Controllers,
        cgroups_that_cannot_be_written,
        cgroups_that_are_not_mounted: Controllers,
        a_cgroup_that_somebody_removed,
        frozen_and_without_a_supervisor: Controllers,
        frozen_by_somebody_elsewhere: Controllers,
        frozen_containers_of_the_runtime: Controllers,
        a_frozen_cgroup_in_the_way: Controllers,
    ]
}

/// What `ps` says of a service.
fn row(project: &Project<'_>, service: &str) -> Value {
    let shown = project.compose(&["ps", "-a", "--format", "json", service]).ok().stdout;
    serde_json::from_str(shown.lines().next().unwrap_or_default()).expect("ps --format json")
}

fn memory_of_the_main_process(sandbox: &Sandbox) {
    let project = sandbox.project(
        "oom",
        "\n services:\n  hog: {image: root_fs, network_mode: none, mem_limit: 16m, memswap_limit: 16m, command: [tail, /dev/zero]}\n",
    );
    project.up();
    assert_eq!(project.wait_exited("hog").exit_code, 137);
    let row = row(&project, "hog");
    assert_eq!(row["OOMKilled"], true, "{row}");
    assert!(row["Status"].as_str().unwrap_or_default().contains("oom-killed"), "{row}");
    let limits = ["--memory", "16m", "--memory-swap", "16m", "tail", "/dev/zero"];
    let told = run(sandbox, &limits).expect_code(137);
    assert!(told.stderr.contains("ran out of memory") && told.stderr.contains("16777216"), "{}", told.describe());
    let told =
        ancestor(sandbox, &["-ac", "-M", "16777216"], &["--memory-swap", "16m", "tail", "/dev/zero"]).expect_code(137);
    assert!(told.stderr.contains("ran out of memory"), "{}", told.describe());
    let bundle = Bundle::new(sandbox, "hog", "exec tail /dev/zero");
    bundle.edit(|config| config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    bundle.oci(&["run", "hog"]).expect_code(137);
    expect_nothing_of(sandbox, &project);
}

/// The shell sees that its child was killed and goes on; the container is not taken for dead.
fn memory_of_a_child_only(sandbox: &Sandbox) {
    let script = "tail /dev/zero; echo child $$?; exec sleep infinity";
    let project = sandbox.project(
        "oom",
        &format!("\n services:\n  web: {{image: root_fs, network_mode: none, mem_limit: 16m, memswap_limit: 16m, restart: always, command: [sh, -c, '{script}']}}\n"),
    );
    project.up();
    project.wait_for_log("child 137");
    let first = project.container("web");
    assert_eq!((first.state.as_str(), &row(&project, "web")["RestartCount"]), ("running", &json!(0)));
    let told =
        run(sandbox, &["--memory", "16m", "--memory-swap", "16m", "sh", "-c", "tail /dev/zero; echo child $?"]).ok();
    assert_eq!(told.stdout, "child 137\n");
    assert_eq!(project.container("web").identity(), first.identity());
    expect_nothing_of(sandbox, &project);
}

/// A shell that cannot fork ends; this one begins anew then.
const BOMB: &str = "trap 'exec sh \"$0\" 2>/dev/null' EXIT\nf() { f | f & }\nwhile :; do f; done 2>/dev/null\n";

fn a_fork_bomb(sandbox: &Sandbox) {
    let project = sandbox.project(
        "bomb",
        r#"
        services:
          bomb: {image: root_fs, network_mode: none, pids_limit: 50, volumes: ['./bomb:/bomb'], command: [sh, /bomb]}
          calm: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
        "#,
    );
    let file = project.directory().join("bomb");
    fs::write(&file, BOMB).expect("our own");
    project.up();
    let id = project.container("bomb").id;
    let expect_many = |part: &str| {
        eventually("it has most of the processes that it may have", || {
            let now = sandbox.cgroup_file(part, &["pids.current"])?.parse::<u32>().ok()?;
            (now >= 30).then_some(())
        });
    };
    expect_many(&id);
    assert_eq!(project.exec("calm", &["echo", "well"]).ok().stdout, "well\n");
    let begun = Instant::now();
    project.compose(&["kill", "bomb"]).ok();
    assert_eq!(project.wait_exited("bomb").exit_code, 137);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(project.exec("calm", &["echo", "well"]).ok().stdout, "well\n");
    project.down();
    // The same of a bundle, which shares the host's processes: no namespace takes them along.
    let bundle = Bundle::new(sandbox, "bomb", "exec sh /tmp/bomb");
    bundle.mount(json!({ "destination": "/tmp/bomb", "type": "bind", "source": file, "options": ["bind"] }));
    bundle.edit(|config| {
        config["linux"]["resources"] = json!({"pids": {"limit": 50}});
        config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|one| one["type"] != "pid");
        config["mounts"].as_array_mut().expect("a list").retain(|one| one["destination"] != "/proc");
    });
    bundle.oci(&["run", "--detach", "bomb"]).ok();
    expect_many("bomb");
    let begun = Instant::now();
    oci(sandbox, &["delete", "--force", "bomb"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    crate::expect_nothing(sandbox);
}

const ONE: &str = "\n services:\n  web: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}\n";
const LIMITED: &str = "\n services:\n  web: {image: root_fs, init: true, network_mode: none, mem_limit: 64m, command: [sleep, infinity]}\n";

fn cgroups_that_cannot_be_written(sandbox: &Sandbox) {
    let project = sandbox.project("cg", ONE);
    let (bundle, words) =
        (Bundle::new(sandbox, "cg", "true"), ["/sys/fs/cgroup/", "read-only", "grep cgroup /proc/mounts"]);
    sandbox.shell("for m in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5); do mount --bind $m $m && mount -o remount,bind,ro $m; done").ok();
    project.compose(&["up", "-d"]).refused(1, &words);
    project.compose(&["down"]).ok();
    run(sandbox, &["true"]).refused(125, &words);
    ancestor(sandbox, &["-a"], &["true"]).refused(125, &words);
    bundle.oci(&["run", "cg"]).refused(125, &words);
    sandbox
        .shell("for m in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5 | sort -u); do umount $m; done")
        .ok();
    project.up();
    run(sandbox, &["true"]).ok();
    bundle.oci(&["run", "cg"]).ok();
    expect_nothing_of(sandbox, &project);
}

/// Nothing runs without the limits that it was given, and without cgroups nothing runs at all.
fn cgroups_that_are_not_mounted(sandbox: &Sandbox) {
    let project = sandbox.project("cg", LIMITED);
    let bundle = Bundle::new(sandbox, "cg", "true");
    bundle.edit(|config| config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}}));
    let memory = "$(grep -E ' - cgroup .*[ ,]memory' /proc/self/mountinfo | cut -d' ' -f5)";
    let hidden = sandbox.shell(&format!("m={memory}; [ -z \"$m\" ] || mount -t tmpfs none $m")).ok().code == 0;
    let has_v1 = sandbox.shell(&format!("[ -n \"{memory}\" ]")).code == 0;
    if hidden && has_v1 {
        // A directory in its place would take every write and limit nothing.
        let words = ["find a cgroup file system on /sys/fs/cgroup", "its type is"];
        project.compose(&["up", "-d"]).refused(1, &words);
        run(sandbox, &["--memory", "64m", "true"]).refused(125, &words);
        ancestor(sandbox, &["-ac"], &["true"]).refused(125, &words);
        bundle.oci(&["run", "cg"]).refused(125, &words);
        // A supervisor that has seen a hierarchy keeps to it.
        project.down();
        sandbox.expect_quiet();
        sandbox.shell(&format!("m={memory}; umount $m; umount $m")).ok();
        let words = ["no cgroup hierarchy has the controller `memory`", "/proc/cgroups"];
        project.compose(&["up", "-d"]).refused(1, &words);
        run(sandbox, &["--memory", "64m", "true"]).refused(125, &words);
        bundle.oci(&["run", "cg"]).refused(125, &words);
        project.down();
        sandbox.expect_quiet();
    }
    let again = sandbox.shell("grep -E ' - cgroup2? ' /proc/self/mountinfo | sed 's/.* \\(\\/[^ ]*\\) .* - \\(cgroup2*\\) [^ ]* \\(.*\\)/\\2 \\1 \\3/'").ok().stdout;
    sandbox
        .shell("for m in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5); do umount -l $m; done")
        .ok();
    let words = ["find a cgroup file system", "mount -t cgroup2"];
    project.compose(&["up", "-d"]).refused(1, &words);
    run(sandbox, &["true"]).refused(125, &words);
    ancestor(sandbox, &["-a"], &["true"]).refused(125, &words);
    bundle.oci(&["run", "cg"]).refused(125, &words);
    let left = fs::read_dir(sandbox.run_dir().join("oci")).expect("it is there").count();
    assert_eq!(left, 0, "a container that was never made has no state");
    // The test's end takes the project down, for which it needs them again.
    for line in again.lines() {
        let mut words = line.split(' ');
        let (kind, point, options) =
            (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let options =
            if kind == "cgroup2" { String::new() } else { format!("-o {}", options.trim_start_matches("rw,")) };
        sandbox.shell(&format!("mount -t {kind} {options} none {point}"));
    }
}

/// Nobody is in the project's cgroup while its service does not run: the host's cleaner takes it, and the next start makes it anew.
fn a_cgroup_that_somebody_removed(sandbox: &Sandbox) {
    let project = sandbox.project("gone", ONE);
    project.up();
    project.compose(&["stop", "-t", "0"]).ok();
    eventually("the supervisor has ended, or its cgroups can be removed", || {
        for dir in sandbox.cgroups().iter().rev() {
            let _ = fs::remove_dir(dir);
        }
        Some(())
    });
    project.compose(&["start"]).ok();
    project.wait_running("web");
    expect_nothing_of(sandbox, &project);
}

/// Freezes a container's cgroup in every hierarchy that can.
fn freeze(sandbox: &Sandbox, part: &str) {
    let own: Vec<_> = sandbox.cgroups().into_iter().filter(|dir| dir.to_string_lossy().contains(part)).collect();
    let mut frozen = 0;
    for dir in own {
        for (file, value) in [("cgroup.freeze", "1"), ("freezer.state", "FROZEN")] {
            frozen += usize::from(dir.join(file).exists() && fs::write(dir.join(file), value).is_ok());
        }
    }
    assert!(frozen > 0, "nothing was there to freeze {part} with");
}

fn frozen_and_without_a_supervisor(sandbox: &Sandbox) {
    let project = sandbox.project("frozen", LIMITED);
    for is_killed in [false, true] {
        project.up();
        freeze(sandbox, &project.wait_running("web").id);
        if is_killed {
            for pid in sandbox.processes() {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if line.starts_with(b"mydocker-") && !line.starts_with(b"mydocker-init") {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
        }
        let took = project.compose(&["down", "-t", "1"]).ok().took;
        assert!(took < Duration::from_secs(8), "{took:?}");
        crate::expect_nothing(sandbox);
    }
}

/// Version 1 has a freezer of its own, and whoever is frozen there does not even die. On a host without it there is nothing to look at but the end.
fn frozen_by_somebody_elsewhere(sandbox: &Sandbox) {
    let project = sandbox.project("frozen", ONE);
    project.up();
    let pid = project.wait_running("web").pid;
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let is_freezer = |line: &&str| line.contains(" - cgroup ") && line.rsplit([' ', ',']).any(|word| word == "freezer");
    let point = mounts.lines().find(is_freezer).and_then(|line| line.split(' ').nth(4));
    let other = point.map(|point| std::path::Path::new(point).join(sandbox.token()).join("other"));
    if let Some(other) = &other {
        fs::create_dir_all(other).expect("root may");
        for pid in sandbox.pids().into_iter().filter(|one| belongs_to(one.as_raw(), pid)) {
            fs::write(other.join("cgroup.procs"), pid.to_string()).expect("root may");
        }
        fs::write(other.join("freezer.state"), "FROZEN").expect("root may");
    }
    let took = project.compose(&["down", "-t", "1"]).ok().took;
    assert!(took < Duration::from_secs(8), "{took:?}");
    for dir in other.iter().flat_map(|other| [Some(other.as_path()), other.parent()]).flatten() {
        fs::remove_dir(dir).expect("nobody is in it");
    }
    crate::expect_nothing(sandbox);
}

/// Says whether a process is `first` or a child of its.
fn belongs_to(pid: i32, first: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    pid == first || status.contains(&format!("\nPPid:\t{first}\n"))
}

fn frozen_containers_of_the_runtime(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "still", "exec sleep 100");
    for by_hand in [false, true] {
        bundle.oci(&["run", "--detach", "still"]).ok();
        if by_hand {
            freeze(sandbox, "/still");
        } else {
            oci(sandbox, &["pause", "still"]).ok();
        }
        assert_eq!(state(sandbox, "still")["status"], "paused");
        oci(sandbox, &["delete", "--force", "still"]).ok();
        expect_nothing(sandbox);
    }
}

fn a_frozen_cgroup_in_the_way(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "frozen", "true");
    let path = format!("/{}/left", sandbox.token());
    bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    // One of each kind is enough; where there is no such hierarchy the other remains.
    for file in ["cgroup.freeze", "freezer.state"] {
        let find = format!(
            "for m in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5); do mkdir -p $m{path}; [ -e $m{path}/{file} ] || rmdir -p $m{path} 2>/dev/null; done; true"
        );
        sandbox.shell(&find).ok();
        let found = sandbox.cgroups().into_iter().any(|dir| dir.join(file).exists());
        if found {
            freeze(sandbox, "/left");
            bundle.oci(&["run", "frozen"]).refused(125, &["left", "it is frozen"]);
            assert_eq!(fs::read_dir(sandbox.run_dir().join("oci")).expect("it is there").count(), 0);
        }
        for dir in sandbox.cgroups().iter().rev() {
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
            let _ = fs::remove_dir(dir);
        }
    }
    bundle.oci(&["run", "frozen"]).ok();
    expect_nothing(sandbox);
}

fn expect_nothing_of(sandbox: &Sandbox, project: &Project<'_>) {
    project.down();
    crate::expect_nothing(sandbox);
}
