//! Keeper, shim and supervisor: what they are, what each may lose, and that containers outlive any one of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Case, Container, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        an_init_looks_like_one_and_tells_nothing_of_the_host,
        three_processes_stand_behind_a_project,
        a_daemon_holds_nothing_of_its_client,
        a_killed_supervisor_is_replaced,
        a_killed_shim_is_replaced,
        no_exit_status_is_lost_with_the_supervisor,
        no_exit_status_is_lost_with_the_shim,
        a_killed_container_is_restarted,
        fifty_containers_at_once: Bridge,
        closed_standard_streams,
        exits_of_many_at_once,
    ]
}

/// The roles by the beginning of their command line.
const ROLES: [&str; 3] = ["mydocker-keeper", "mydocker-shim", "mydocker-superv"];

/// Finds one of the three processes of the sandbox's only project.
fn role(sandbox: &Sandbox, name: &str) -> Option<Pid> {
    sandbox.processes().into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(name.as_bytes())
    })
}

fn running_role(sandbox: &Sandbox, name: &str) -> Pid {
    eventually(&format!("{name} runs"), || role(sandbox, name))
}

/// Kills one of the three and waits until another has its place.
fn replace_role(sandbox: &Sandbox, name: &str) -> Pid {
    let old = running_role(sandbox, name);
    kill(old, Signal::SIGKILL).expect("it runs");
    eventually(&format!("{name} is replaced"), || role(sandbox, name).filter(|new| *new != old))
}

const STEADY: &str = r#"
    x-service: &service
      image: root_fs
      init: true
      network_mode: none
      command: [sh, -c, 'i=0; while true; do i=$$((i + 1)); echo "line $$i"; sleep 0.02; done']
    services:
      one: {<<: *service}
      two: {<<: *service}
"#;

fn three_processes_stand_behind_a_project(sandbox: &Sandbox) {
    let project = sandbox.project("three", STEADY);
    project.up();
    for name in ROLES {
        let pid = running_role(sandbox, name);
        let link = |what: &str| fs::read_link(format!("/proc/{pid}/{what}")).expect("it runs");
        assert_eq!(link("cwd"), PathBuf::from("/"), "{name} holds no directory");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let session = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3)).unwrap_or_default();
        assert_ne!(session, nix::unistd::getsid(None).expect("ours").to_string(), "{name} has a session of its own");
        assert_ne!(
            link("exe"),
            fs::canonicalize(env!("CARGO_BIN_EXE_mydocker")).expect("built"),
            "{name} runs from a copy or clone"
        );
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
        let own = format!("/{}/three/supervision", sandbox.token());
        assert!(cgroups.lines().any(|line| line.ends_with(&own)), "{name} lies in {own}: {cgroups}");
        let owner = fs::metadata(format!("/proc/{pid}/fd")).map(|found| found.uid()).expect("it runs");
        assert_eq!(owner, 0, "{name} is not dumpable, so its files are root's");
    }
    let keeper = running_role(sandbox, "mydocker-keeper");
    for name in ["mydocker-shim", "mydocker-superv"] {
        let status = fs::read_to_string(format!("/proc/{}/status", running_role(sandbox, name))).expect("it runs");
        assert!(status.contains(&format!("PPid:\t{keeper}\n")), "{name} is the keeper's child");
    }
    let threads =
        fs::read_dir(format!("/proc/{}/task", running_role(sandbox, "mydocker-shim"))).expect("it runs").count();
    assert_eq!(threads, 1, "the shim clones, so it has one thread");
}

fn a_daemon_holds_nothing_of_its_client(sandbox: &Sandbox) {
    let project = sandbox.project("holds", STEADY);
    project.compose(&["ps"]).ok();
    // cat ends when nobody holds the pipe any more; and descriptor 9 must not travel.
    let script = format!("exec 9<\"$0\"; \"$MYDOCKER\" compose -f {} up -d 2>&1 | cat", project.file().display());
    let file = project.file().to_str().expect("UTF-8").to_owned();
    sandbox.host(&["bash", "-c", &script, &file]).ok();
    for name in ROLES {
        let pid = running_role(sandbox, name);
        let held: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it runs")
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|target| target.ends_with("compose.yaml") || target.to_string_lossy().starts_with("/dev/pts"))
            .collect();
        assert!(held.is_empty(), "{name} holds {held:?}");
    }
    // None of ours, none of the client's: ls has the three and the directory that it reads.
    let inside = project.exec("one", &["sh", "-c", "ls /proc/1/fd | sort -n | tr '\\n' ' '"]).ok().stdout;
    assert_eq!(inside.trim(), "0 1 2");
}

fn line_numbers(project: &Project<'_>, service: &str) -> Vec<u32> {
    let logs = project.compose(&["logs", "--no-color", "--no-log-prefix", service]).ok().stdout;
    logs.lines().filter_map(|line| line.strip_prefix("line ")).map(|number| number.parse().expect("a number")).collect()
}

/// Kills a role under a running project and looks whether anything that it served was hurt.
fn survives(sandbox: &Sandbox, name: &str) {
    let project = sandbox.project("survive", STEADY);
    project.up();
    project.wait_for_log("line 5");
    let before = project.containers();
    let mut follower = project.spawn(&["logs", "-f", "--no-log-prefix", "one"]);
    follower.wait_for_stdout("line 3\n");
    replace_role(sandbox, name);
    let seen = line_numbers(&project, "one").len();
    eventually("the log goes on", || (line_numbers(&project, "one").len() > seen + 10).then_some(()));
    assert_eq!(project.containers(), before, "the same processes");
    let numbers = line_numbers(&project, "one");
    assert_eq!(numbers, (1..).take(numbers.len()).collect::<Vec<u32>>(), "no line lost or doubled");
    follower.wait_for(&format!("line {seen}"), |stdout, _| stdout.contains(&format!("line {seen}\n")));
    // It does its work, too: one stops, is started, and goes
    project.compose(&["stop", "-t", "1", "one"]).ok();
    assert_eq!(project.container("one").state, "exited");
    project.compose(&["start", "one"]).ok();
    project.wait_running("one");
    project.down();
}

fn a_killed_supervisor_is_replaced(sandbox: &Sandbox) {
    survives(sandbox, "mydocker-superv");
}

fn a_killed_shim_is_replaced(sandbox: &Sandbox) {
    survives(sandbox, "mydocker-shim");
}

/// Containers end with statuses of their own in the very moment in which `name` is killed.
fn statuses_outlive(sandbox: &Sandbox, name: &str) {
    let gate = sandbox.dir().join("gate");
    fs::create_dir(&gate).expect("a directory of our own");
    let services: String = (1..=8)
        .map(|number| {
            format!(
                "\n          s{number}: {{image: root_fs, network_mode: none, volumes: ['{}:/gate'], \
                 command: [sh, -c, 'until [ -e /gate/open ]; do sleep 0.01; done; exit {number}']}}",
                gate.display()
            )
        })
        .collect();
    let project = sandbox.project("statuses", &format!("\n        services:{services}\n"));
    for round in 0..4 {
        project.up();
        let victim = running_role(sandbox, name);
        fs::write(gate.join("open"), "").expect("a file of our own");
        // A little later each time: before, while and after they exit.
        std::thread::park_timeout(std::time::Duration::from_millis(round * 5));
        kill(victim, Signal::SIGKILL).expect("it runs");
        for number in 1..=8 {
            let ended = project.wait_exited(&format!("s{number}"));
            assert_eq!(ended.exit_code, number, "round {round}, s{number}");
        }
        fs::remove_file(gate.join("open")).expect("a file of our own");
    }
}

fn no_exit_status_is_lost_with_the_supervisor(sandbox: &Sandbox) {
    statuses_outlive(sandbox, "mydocker-superv");
}

fn no_exit_status_is_lost_with_the_shim(sandbox: &Sandbox) {
    statuses_outlive(sandbox, "mydocker-shim");
}

fn a_killed_container_is_restarted(sandbox: &Sandbox) {
    let project = sandbox.project(
        "killed",
        r#"
        services:
          back: {image: root_fs, network_mode: none, restart: always, command: [sleep, infinity]}
          gone: {image: root_fs, network_mode: none, command: [sleep, infinity]}
        "#,
    );
    project.up();
    let before = project.container("back");
    before.signal(Signal::SIGKILL); // F05
    project.container("gone").signal(Signal::SIGKILL);
    let after = project
        .wait_for("back", "another process", |one| one.state == "running" && one.identity() != before.identity());
    assert_eq!(after.id, before.id);
    assert_eq!(project.wait_exited("gone").exit_code, 137);
}

fn fifty_containers_at_once(sandbox: &Sandbox) {
    let services: String = (1..=50)
        .map(|number| format!("\n          s{number}: {{image: root_fs, init: true, command: [sleep, infinity]}}"))
        .collect();
    let project = sandbox.project("fifty", &format!("\n        services:{services}\n"));
    project.up();
    let containers = project.containers();
    assert_eq!(containers.iter().filter(|one| one.state == "running").count(), 50);
    let mut pids: Vec<i32> = containers.iter().map(|one| one.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 50);
    let mut addresses: Vec<String> = containers.iter().map(|one| address(sandbox, one)).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 50, "{addresses:?}");
    project.down();
}

/// The address of `eth0` as the host sees it through the container's namespace.
fn address(sandbox: &Sandbox, container: &Container) -> String {
    let pid = container.pid.to_string();
    let shown = sandbox.host(&["nsenter", "-t", &pid, "-n", "ip", "-o", "-4", "addr", "show", "eth0"]).ok().stdout;
    shown.split_whitespace().nth(3).unwrap_or_default().to_owned()
}

fn closed_standard_streams(sandbox: &Sandbox) {
    // B67: 0 to 2 are opened on null, so that nothing else gets those numbers
    let project = sandbox.project("closed", STEADY);
    project.compose(&["ps"]).ok();
    let file = project.file().display().to_string();
    sandbox.shell(&format!("\"$MYDOCKER\" compose -f {file} up -d <&- >&- 2>&-")).ok();
    for service in ["one", "two"] {
        assert_eq!(project.container(service).state, "running");
    }
    project.wait_for_log("line 3");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        sandbox.shell(&format!("\"$MYDOCKER\" compose -f {file} ps -a {closed}")).without_panic();
        let run = sandbox
            .shell(&format!("\"$MYDOCKER\" run --network none --rootfs \"$MYDOCKER_ROOTFS\" sh -c 'exit 5' {closed}"));
        assert_eq!(run.code, 5, "{}", run.describe());
    }
    sandbox.shell(&format!("\"$MYDOCKER\" compose -f {file} down -t 1 <&- >&- 2>&-")).ok();
    sandbox.expect_quiet();
}

fn exits_of_many_at_once(sandbox: &Sandbox) {
    let services: String = (0..30)
        .map(|number| {
            format!("\n          s{number}: {{image: root_fs, network_mode: none, command: [sh, -c, 'exit {number}']}}")
        })
        .collect();
    let project = sandbox.project("burst", &format!("\n        services:{services}\n"));
    let up = project.compose(&["up"]).ok();
    for container in project.containers() {
        let number: i64 = container.service[1..].parse().expect("a number");
        assert_eq!((container.state.as_str(), container.exit_code), ("exited", number), "{}", up.describe());
    }
}

fn an_init_looks_like_one_and_tells_nothing_of_the_host(sandbox: &Sandbox) {
    sandbox.set_env("HOST_SECRET", "of-the-host");
    let long = "x".repeat(600);
    let project = sandbox.project(
        "init",
        &format!(
            "
        services:
          one:
            image: root_fs
            init: true
            network_mode: none
            cap_add: [SYS_PTRACE]
            command: [sleep, infinity, --]
          long: {{image: root_fs, init: true, network_mode: none, command: [sh, -c, 'sleep infinity', {long}]}}
        "
        ),
    );
    project.up();
    let seen = |line: &[u8]| String::from_utf8_lossy(line).trim_end_matches('\0').replace('\0', " ");
    let host = |service: &str, file: &str| {
        seen(&fs::read(format!("/proc/{}/{file}", project.container(service).pid)).expect("it runs"))
    };
    assert_eq!(host("one", "cmdline"), "mydocker-init -- sleep infinity --");
    assert_eq!(host("one", "comm"), "mydocker-init\n");
    // A long command line may reach into where the environment was.
    assert!(!host("one", "environ").contains('='), "{}", host("one", "environ"));
    assert!(!host("long", "environ").contains('='), "{}", host("long", "environ"));
    assert_eq!(host("long", "cmdline"), format!("mydocker-init -- sh -c sleep infinity {long}"));
    let inside = project.compose(&["exec", "-T", "one", "cat", "/proc/1/cmdline", "/proc/1/comm"]).ok().stdout;
    assert!(seen(inside.as_bytes()).starts_with("mydocker-init -- sleep infinity -- "), "{inside:?}");
    assert!(inside.ends_with("mydocker-init\n"), "{inside:?}");
    let environ = project.compose(&["exec", "-T", "one", "cat", "/proc/1/environ"]);
    assert!(environ.code == 0 && !environ.stdout.contains('='), "{}", environ.describe());

    let script = "cat /proc/1/cmdline /proc/1/comm; cat /proc/1/environ 2>&1; env";
    let root = crate::support::rootfs().to_str().expect("UTF-8");
    for more in [&["--cap-add", "SYS_PTRACE"] as &[&str], &[]] {
        let words = [&["run", "--rootfs", root, "--network", "none", "--init"], more, &["sh", "-c", script]].concat();
        let told = sandbox.mydocker(&words);
        let shown = seen(told.stdout.as_bytes());
        assert!(shown.starts_with("mydocker-init -- sh -c cat "), "{}", told.describe());
        assert!(!told.stdout.contains("HOST_SECRET") && !told.stdout.contains("MYDOCKER_"), "{}", told.describe());
    }
}
