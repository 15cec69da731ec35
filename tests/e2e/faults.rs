//! Things that go wrong around mydocker: run directories that cannot be written, clients that come all at once, files that were cut off.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Case, Container, Project, Running, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_read_only_run_directory,
        a_full_run_directory,
        a_full_run_directory_leaves_running_ones_alone,
        a_read_only_data_directory,
        many_ups_at_once,
        up_and_down_at_once,
        a_stale_control_socket,
        damaged_records_of_containers: Bridge,
        a_damaged_record_of_the_project: Bridge,
        a_damaged_record_of_a_network: Bridge,
        a_damaged_record_of_a_place: Bridge,
        everything_damaged: Bridge,
        damaged_while_nobody_runs: Bridge,
        a_run_directory_of_others,
        a_missing_tool_is_named: Bridge,
        interrupted_while_it_waits_for_health,
    ]
}

const ONE: &str = r#"
    services:
      one: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
      two: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
"#;

fn up_words(project: &Project<'_>) -> Vec<String> {
    let file = project.file().to_str().expect("UTF-8").to_owned();
    ["compose", "-f", &file, "up", "-d"].map(str::to_owned).to_vec()
}

fn a_read_only_run_directory(sandbox: &Sandbox) {
    // F12
    let project = sandbox.project("ro", ONE);
    let run = sandbox.run_dir().display().to_string();
    sandbox.shell(&format!("mount --bind {run} {run} && mount -o remount,ro,bind {run}")).ok();
    sandbox.mydocker(&up_words(&project)).refused(1, &[&run, "read-only"]);
    sandbox.expect_quiet();
    sandbox.shell(&format!("umount {run}")).ok();
    project.up();
}

fn a_full_run_directory(sandbox: &Sandbox) {
    // F13
    let project = sandbox.project("full", ONE);
    let run = sandbox.run_dir().display().to_string();
    sandbox
        .shell(&format!("mount -t tmpfs -o size=64k,mode=700 tiny {run} && (cat /dev/zero > {run}/filler || true)"))
        .ok();
    let up = sandbox.mydocker(&up_words(&project)).refused(1, &["no space"]);
    assert!(up.stderr.contains(&run), "{}", up.describe());
    sandbox.expect_quiet();
    sandbox.shell(&format!("rm {run}/filler")).ok();
    project.up();
    project.down();
    sandbox.shell(&format!("umount {run}")).ok();
}

fn a_full_run_directory_leaves_running_ones_alone(sandbox: &Sandbox) {
    let run = sandbox.run_dir().display().to_string();
    sandbox.shell(&format!("mount -t tmpfs -o size=1m,mode=700 tiny {run}")).ok();
    let project = sandbox.project("runs", ONE);
    project.up();
    let before = project.containers();
    sandbox.shell(&format!("cat /dev/zero > {run}/filler || true")).ok();
    let second = sandbox.project("second", ONE);
    sandbox.mydocker(&up_words(&second)).refused(1, &["no space"]);
    assert_eq!(project.containers(), before);
    // One that ends meanwhile is still seen to end
    project.container("two").signal(Signal::SIGKILL);
    assert_eq!(project.wait_exited("two").exit_code, 137);
    sandbox.shell(&format!("rm {run}/filler")).ok();
    project.down();
    sandbox.shell(&format!("umount {run}")).ok();
}

fn a_read_only_data_directory(sandbox: &Sandbox) {
    let project = sandbox.project("ro", ONE);
    let data = sandbox.data_dir().display().to_string();
    sandbox.shell(&format!("mount --bind {data} {data} && mount -o remount,ro,bind {data}")).ok();
    sandbox.mydocker(&up_words(&project)).refused(1, &[&data, "read-only"]);
    sandbox.expect_quiet();
    sandbox.shell(&format!("umount {data}")).ok();
    project.up();
}

fn many_ups_at_once(sandbox: &Sandbox) {
    // F57
    let project = sandbox.project("crowd", ONE);
    let clients: Vec<Running> = (0..10).map(|_| project.spawn(&["up", "-d"])).collect();
    let mut worked = 0;
    for client in clients {
        let up = sandbox.finish(client, crate::support::PATIENCE).without_panic();
        assert!(up.code == 0 || (up.code == 1 && up.stderr.contains("busy")), "{}", up.describe());
        worked += usize::from(up.code == 0);
    }
    assert!(worked >= 1);
    let containers = project.containers();
    assert_eq!(containers.len(), 2, "one set: {containers:?}");
    assert!(containers.iter().all(|one| one.state == "running"));
    let keepers = sandbox
        .processes()
        .into_iter()
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"mydocker-keeper")));
    assert_eq!(keepers.count(), 1);
}

fn up_and_down_at_once(sandbox: &Sandbox) {
    let project = sandbox.project("both", ONE);
    for _ in 0..5 {
        let clients: Vec<Running> = (0..6)
            .map(
                |number| {
                    if number % 2 == 0 { project.spawn(&["up", "-d"]) } else { project.spawn(&["down", "-t", "1"]) }
                },
            )
            .collect();
        for client in clients {
            let done = sandbox.finish(client, crate::support::PATIENCE).without_panic();
            assert!(done.code == 0 || done.code == 1, "{}", done.describe());
        }
    }
    project.up();
    assert_eq!(project.containers().iter().filter(|one| one.state == "running").count(), 2);
    project.down();
    sandbox.expect_quiet();
}

fn a_stale_control_socket(sandbox: &Sandbox) {
    // F74: a file where the socket should be, and nobody behind it
    let project = sandbox.project("stale", ONE);
    sandbox.shell(&format!("mkdir -m 700 -p {0} && python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' {0}/control.sock", project.state_dir().display())).ok();
    project.up();
    assert_eq!(project.containers().len(), 2);
}

fn a_run_directory_of_others(sandbox: &Sandbox) {
    // B59: whoever owns the directory could put his own socket there
    let open = sandbox.dir().join("open");
    fs::create_dir(&open).expect("our own");
    sandbox.shell(&format!("chmod 777 {}", open.display())).ok();
    sandbox.set_env("MYDOCKER_RUN_DIR", &open);
    let project = sandbox.project("others", ONE);
    sandbox.mydocker(&up_words(&project)).refused(1, &["open"]);
    sandbox.set_env("MYDOCKER_RUN_DIR", sandbox.run_dir());
}

fn a_missing_tool_is_named(sandbox: &Sandbox) {
    // iptables lies in these, and in nothing else; what tests need of them is back in time.
    let hide = "for d in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $d; done; [ -L /sbin ] || mount -t tmpfs none /sbin";
    sandbox.shell(hide).ok();
    let project =
        sandbox.project("bare", "\n services:\n  one: {image: root_fs, init: true, command: [sleep, infinity]}\n");
    project.compose(&["up", "-d"]).refused(1, &["iptables"]);
    sandbox.shell("umount /usr/sbin /usr/local/sbin; [ -L /sbin ] || umount /sbin").ok();
    project.up();
}

fn interrupted_while_it_waits_for_health(sandbox: &Sandbox) {
    // F27
    let project = sandbox.project(
        "waiting",
        r#"
        services:
          db:
            image: root_fs
            init: true
            network_mode: none
            command: [sleep, infinity]
            healthcheck: {test: [CMD, sleep, "60"], interval: 1s, timeout: 2m}
          web: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity], depends_on: {db: {condition: service_healthy}}}
        "#,
    );
    let mut up = project.spawn(&["up"]);
    up.wait_for("db has been started", |_, stderr| stderr.contains("waiting-db-1"));
    project.wait_running("db");
    up.signal(Signal::SIGINT);
    let begun = std::time::Instant::now();
    up.wait().ok().without_panic();
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "it does not wait for the check");
    assert!(project.containers().iter().all(|one| one.state != "running"));
}

/// Two services on a network of their own, one of which publishes a port.
const TWO: &str = r#"
    services:
      web: {image: root_fs, init: true, command: [sleep, infinity], ports: ["127.0.0.1:8071:80"]}
      db: {image: root_fs, init: true, command: [sleep, infinity]}
"#;

/// What may be found in a file of ours: nothing, its beginning, anything.
fn damages(whole: &[u8]) -> [Vec<u8>; 3] {
    [Vec::new(), whole[..whole.len() / 2].to_vec(), (0..200_u32).map(|n| (n * 167 % 251) as u8).collect()]
}

/// Damages every file that `is_meant`, kills the supervisor and waits until the next listens.
fn damage(sandbox: &Sandbox, project: &Project<'_>, way: usize, is_meant: impl Fn(&Path) -> bool) {
    let supervisor = supervisor(sandbox).expect("it runs");
    let mut pending = vec![sandbox.run_dir()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).expect("ours").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "json") && is_meant(&path) {
            let whole = fs::read(&path).expect("ours");
            fs::write(&path, &damages(&whole)[way]).expect("ours");
        }
    }
    kill(supervisor, Signal::SIGKILL).expect("it runs");
    eventually("another supervisor listens", || {
        let next = self::supervisor(sandbox).filter(|next| *next != supervisor)?;
        std::os::unix::net::UnixStream::connect(project.state_dir().join("control.sock")).ok().map(|_| next)
    });
}

fn supervisor(sandbox: &Sandbox) -> Option<Pid> {
    let is_it =
        |pid: &Pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"mydocker-superv"));
    sandbox.processes().into_iter().find(is_it)
}

/// All is well, with as many directories of containers as there should be; then nothing is left.
fn works_and_goes(sandbox: &Sandbox, project: &Project<'_>, label: &str, directories: usize) {
    let containers = project.containers();
    assert_eq!(containers.iter().filter(|one| one.state == "running").count(), 2, "{label}: {containers:?}");
    let web = project.container("web").pid.to_string();
    let pinged = sandbox.host(&["nsenter", "-t", &web, "-n", "busybox", "ping", "-c1", "-W2", "10.11.0.1"]);
    assert_eq!(pinged.code, 0, "{label}: {}", pinged.describe());
    let count = || fs::read_dir(sandbox.data_dir().join("containers")).expect("it is there").count();
    assert_eq!(count(), directories, "{label}");
    project.down();
    assert_eq!(count(), 0, "{label}");
    sandbox.expect_clean_within(3);
}

fn damaged_records_of_containers(sandbox: &Sandbox) {
    // F09
    let project = sandbox.project("damaged", TWO);
    for way in 0..3 {
        project.up();
        let before = project.container("db");
        damage(sandbox, &project, way, |path| path.parent().is_some_and(|above| above.ends_with("damaged/containers")));
        let listed = project.compose(&["ps", "-a"]).ok();
        assert_eq!(listed.stderr.matches("was moved to").count(), 2, "{}", listed.describe());
        assert_eq!(
            listed.stderr.matches(&format!("container {} is lost", &before.id[..12])).count(),
            1,
            "{}",
            listed.describe()
        );
        let up = project.up();
        assert!(!up.stderr.contains("was moved to"), "told once: {}", up.describe());
        works_and_goes(sandbox, &project, &format!("way {way}"), 4);
    }
}

fn a_damaged_record_of_the_project(sandbox: &Sandbox) {
    let project = sandbox.project("damaged", TWO);
    for way in 0..3 {
        project.up();
        let before = project.containers();
        damage(sandbox, &project, way, |path| path.ends_with("damaged/project.json"));
        let up = project.up();
        assert!(up.stderr.contains("project.json.corrupt-1"), "{}", up.describe());
        assert_eq!(project.containers(), before, "nothing was touched");
        works_and_goes(sandbox, &project, &format!("way {way}"), 2);
    }
}

fn a_damaged_record_of_a_network(sandbox: &Sandbox) {
    let project = sandbox.project("damaged", TWO);
    for way in 0..3 {
        project.up();
        let before = project.containers();
        damage(sandbox, &project, way, |path| path.ends_with("records/damaged_default.json"));
        assert_eq!(project.containers(), before, "nothing was touched");
        project.up();
        works_and_goes(sandbox, &project, &format!("way {way}"), 2);
    }
}

fn a_damaged_record_of_a_place(sandbox: &Sandbox) {
    let project = sandbox.project("damaged", TWO);
    for way in 0..3 {
        project.up();
        let before = project.containers();
        damage(sandbox, &project, way, |path| path.to_string_lossy().contains("/attachments/"));
        // They are made anew: nobody knows what was published for them.
        eventually("both run again", || {
            let now = project.containers();
            let again = |one: &Container| one.state == "running" && !before.iter().any(|old| old.pid == one.pid);
            (now.len() == 2 && now.iter().all(again)).then_some(())
        });
        works_and_goes(sandbox, &project, &format!("way {way}"), 2);
    }
}

fn everything_damaged(sandbox: &Sandbox) {
    let project = sandbox.project("damaged", TWO);
    for way in 0..3 {
        project.up();
        damage(sandbox, &project, way, |_| true);
        project.up();
        works_and_goes(sandbox, &project, &format!("way {way}, up"), 4);
        project.up();
        damage(sandbox, &project, way, |_| true);
        let down = project.down();
        assert!(down.stderr.contains("warning:"), "{}", down.describe());
        assert_eq!(fs::read_dir(sandbox.data_dir().join("containers")).expect("it is there").count(), 0, "way {way}");
        sandbox.expect_clean_within(3);
    }
}

fn damaged_while_nobody_runs(sandbox: &Sandbox) {
    let project = sandbox.project("damaged", TWO);
    for (way, command) in [(0, &["up", "-d"] as &[&str]), (1, &["logs"]), (2, &["down"])] {
        project.up();
        project.compose(&["stop", "-t", "1"]).ok();
        sandbox.expect_quiet();
        for entry in fs::read_dir(project.state_dir().join("containers")).expect("ours") {
            let path = entry.expect("an entry").path();
            let whole = fs::read(&path).expect("ours");
            fs::write(&path, &damages(&whole)[way]).expect("ours");
        }
        for _ in 0..2 {
            // Who only looks moves nothing.
            let listed = project.compose(&["ps", "-a"]).ok();
            assert_eq!(listed.stderr.matches("warning:").count(), 2, "{}", listed.describe());
        }
        project.compose(command).ok();
        project.up();
        works_and_goes(sandbox, &project, &format!("{command:?}"), if way == 2 { 2 } else { 4 });
    }
}
