//! Order, health, restarts and stopping.

use std::time::{Duration, Instant};

use crate::support::{Case, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        what_stays_when_nothing_is_left: Bridge,
        back_off_doubles,
        back_off_starts_anew_after_ten_seconds,
        stop_cancels_a_waiting_restart,
        restart_policies,
        a_service_that_ignores_term_is_killed_after_its_grace,
        pid_one_without_handlers_gets_a_hint,
        stop_signal_is_the_one_asked_for,
        a_one_shot_must_complete_first,
        a_failed_one_shot_stops_the_rest,
        healthy_comes_before_the_dependant,
        an_unhealthy_service_is_shown_and_fails_the_dependant,
        init_reaps_and_forwards,
    ]
}

/// Seconds since boot that a service printed at each start.
fn starts(project: &Project<'_>, service: &str) -> Vec<f64> {
    let logs = project.compose(&["logs", "--no-color", "--no-log-prefix", service]).ok().stdout;
    logs.lines().filter_map(|line| line.strip_prefix("at ")).map(|time| time.parse().expect("seconds")).collect()
}

fn gaps(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn back_off_doubles(sandbox: &Sandbox) {
    let project = sandbox.project(
        "loop",
        r#"
        services:
          crash:
            image: root_fs
            network_mode: none
            restart: always
            command: [sh, -c, 'echo "at $$(cut -d" " -f1 /proc/uptime)"; exit 1']
        "#,
    );
    project.up();
    let times = eventually("six starts", || Some(starts(&project, "crash")).filter(|times| times.len() >= 6));
    for (gap, wanted) in gaps(&times).into_iter().zip([0.1, 0.2, 0.4, 0.8, 1.6]) {
        // Never too early; a start takes its own time on a busy machine.
        assert!(gap >= wanted * 0.95 && gap <= wanted * 1.2 + 0.3, "{gap} s instead of {wanted} s in {times:?}");
    }
    let shown = project.compose(&["ps", "-a"]).ok().stdout;
    assert!(shown.contains("Restarting (1)"), "{shown}");
}

fn back_off_starts_anew_after_ten_seconds(sandbox: &Sandbox) {
    let count = sandbox.dir().join("count");
    std::fs::create_dir(&count).expect("a directory of our own");
    // Four quick crashes, one after a good run, then quick ones again.
    let yaml = format!(
        r#"
        services:
          crash:
            image: root_fs
            network_mode: none
            restart: always
            volumes: ["{}:/count"]
            command: [sh, -c, 'echo "at $$(cut -d" " -f1 /proc/uptime)"; echo x >> /count/n; [ $$(wc -l < /count/n) != 4 ] || sleep 10.3; exit 1']
        "#,
        count.display()
    );
    let project = sandbox.project("anew", &yaml);
    project.up();
    let times = eventually("six starts", || Some(starts(&project, "crash")).filter(|times| times.len() >= 6));
    let gaps = gaps(&times);
    assert!(gaps[2] >= 0.38, "0.4 s before the fourth: {gaps:?}");
    assert!(gaps[3] >= 10.3 && gaps[3] < 10.9, "100 ms again after ten good seconds: {gaps:?}");
    assert!(gaps[4] >= 0.19 && gaps[4] < 0.6, "and 200 ms next: {gaps:?}");
}

fn stop_cancels_a_waiting_restart(sandbox: &Sandbox) {
    let project = sandbox.project(
        "cancel",
        r#"
        services:
          crash:
            image: root_fs
            network_mode: none
            restart: always
            command: [sh, -c, 'echo "at $$(cut -d" " -f1 /proc/uptime)"; exit 1']
        "#,
    );
    project.up();
    // The next one would come after 1.6 s
    eventually("five starts", || (starts(&project, "crash").len() >= 5).then_some(()));
    let before = starts(&project, "crash").len();
    let stop = project.compose(&["stop"]).ok();
    assert!(stop.took < Duration::from_secs(1), "{}", stop.describe());
    assert_eq!(project.container("crash").state, "exited");
    let late = Instant::now() + Duration::from_millis(2200);
    eventually("its time is over", || (Instant::now() > late).then_some(()));
    assert_eq!(starts(&project, "crash").len(), before, "no late start");
}

fn restart_policies(sandbox: &Sandbox) {
    let project = sandbox.project(
        "policies",
        r#"
        services:
          never: {image: root_fs, network_mode: none, command: [sh, -c, 'echo "at 1"; exit 1'], restart: "no"}
          thrice: {image: root_fs, network_mode: none, command: [sh, -c, 'echo "at 1"; exit 1'], restart: on-failure:3}
          fine: {image: root_fs, network_mode: none, command: [echo, at 1], restart: on-failure}
          always: {image: root_fs, network_mode: none, command: [echo, at 1], restart: always}
          unless: {image: root_fs, network_mode: none, command: [echo, at 1], restart: unless-stopped}
        "#,
    );
    project.up();
    for (service, times) in [("always", 3), ("unless", 3), ("thrice", 4)] {
        eventually(&format!("{service} starts {times} times"), || {
            (starts(&project, service).len() >= times).then_some(())
        });
    }
    assert_eq!(project.wait_exited("thrice").exit_code, 1);
    for (service, times) in [("never", 1), ("fine", 1), ("thrice", 4)] {
        assert_eq!(starts(&project, service).len(), times, "{service}");
        assert_eq!(project.container(service).state, "exited");
    }
}

fn a_service_that_ignores_term_is_killed_after_its_grace(sandbox: &Sandbox) {
    let project = sandbox.project(
        "deaf",
        r#"
        services:
          deaf:
            image: root_fs
            network_mode: none
            stop_grace_period: 1s
            command: [sh, -c, "trap '' TERM; echo ready; while true; do sleep 0.05; done"]
        "#,
    );
    project.up();
    project.wait_for_log("ready");
    let stop = project.compose(&["stop"]).ok(); // F28
    assert!(stop.took >= Duration::from_millis(950) && stop.took < Duration::from_millis(1600), "{}", stop.describe());
    assert_eq!(project.container("deaf").exit_code, 137);
    // `-t` on the command line wins
    project.compose(&["start"]).ok();
    project.wait_running("deaf");
    let down = project.compose(&["down", "-t", "0"]).ok();
    assert!(down.took < Duration::from_millis(900), "{}", down.describe());
}

fn pid_one_without_handlers_gets_a_hint(sandbox: &Sandbox) {
    let project = sandbox.project(
        "one",
        r#"
        services:
          sleeper: {image: root_fs, network_mode: none, stop_grace_period: 500ms, command: [sleep, infinity]}
        "#,
    );
    project.up();
    let stop = project.compose(&["stop"]).ok(); // F42
    assert!(stop.took >= Duration::from_millis(450), "{}", stop.describe());
    assert!(stop.stderr.contains("init: true"), "{}", stop.describe());
    assert_eq!(project.container("sleeper").exit_code, 137);
}

fn stop_signal_is_the_one_asked_for(sandbox: &Sandbox) {
    let project = sandbox.project(
        "signal",
        r#"
        services:
          one:
            image: root_fs
            network_mode: none
            stop_signal: SIGUSR1
            command: [sh, -c, 'trap "exit 21" USR1; echo ready; while true; do sleep 0.02; done']
        "#,
    );
    project.up();
    project.wait_for_log("ready");
    project.compose(&["stop"]).ok();
    assert_eq!(project.container("one").exit_code, 21);
}

fn a_one_shot_must_complete_first(sandbox: &Sandbox) {
    let project = sandbox.project(
        "oneshot",
        r#"
        services:
          setup:
            image: root_fs
            network_mode: none
            volumes: [shared:/shared]
            command: [sh, -c, 'sleep 0.5; echo done > /shared/state']
          web:
            image: root_fs
            network_mode: none
            volumes: [shared:/shared]
            command: [sh, -c, 'cat /shared/state']
            depends_on: {setup: {condition: service_completed_successfully}}
        volumes:
          shared:
        "#,
    );
    let up = project.compose(&["up"]).ok();
    assert!(up.stdout.contains("web-1    | done\n"), "{}", up.describe());
    assert_eq!((project.container("setup").exit_code, project.container("web").exit_code), (0, 0));
}

fn a_failed_one_shot_stops_the_rest(sandbox: &Sandbox) {
    let project = sandbox.project(
        "failing",
        r#"
        services:
          setup: {image: root_fs, network_mode: none, command: [sh, -c, 'exit 4']}
          web:
            image: root_fs
            network_mode: none
            command: [echo, never shown]
            depends_on: {setup: {condition: service_completed_successfully}}
        "#,
    );
    let up = project.compose(&["up", "-d"]).expect_code(1);
    assert!(up.stderr.contains("setup") && up.stderr.contains('4'), "{}", up.describe());
    assert!(!project.logs().contains("never shown"));
}

fn healthy_comes_before_the_dependant(sandbox: &Sandbox) {
    let project = sandbox.project(
        "health",
        r#"
        services:
          db:
            image: root_fs
            init: true
            network_mode: none
            command: [sh, -c, 'sleep 0.4; touch /tmp/ready; echo "db is ready"; exec sleep infinity']
            healthcheck: {test: [CMD, test, -e, /tmp/ready], interval: 200ms, timeout: 1s, retries: 20}
          web:
            image: root_fs
            init: true
            network_mode: none
            command: [sh, -c, 'echo "web starts"; exec sleep infinity']
            depends_on: {db: {condition: service_healthy}}
        "#,
    );
    project.up();
    assert_eq!(project.container("db").health, "healthy");
    let logs = project.wait_for_log("web starts");
    let ready = logs.find("db is ready").expect("logged");
    assert!(ready < logs.find("web starts").expect("logged"), "{logs}");
    assert!(project.compose(&["ps"]).ok().stdout.contains("(healthy)"));
}

fn an_unhealthy_service_is_shown_and_fails_the_dependant(sandbox: &Sandbox) {
    let project = sandbox.project(
        "sick",
        r#"
        services:
          db:
            image: root_fs
            init: true
            network_mode: none
            command: [sleep, infinity]
            healthcheck: {test: "exit 1", interval: 100ms, timeout: 1s, retries: 2, start_period: 0s}
          web:
            image: root_fs
            network_mode: none
            command: [echo, never shown]
            depends_on: {db: {condition: service_healthy}}
        "#,
    );
    let up = project.compose(&["up", "-d"]).expect_code(1);
    assert!(up.stderr.contains("db") && up.stderr.contains("unhealthy"), "{}", up.describe());
    assert_eq!(project.container("db").health, "unhealthy");
    assert!(!project.logs().contains("never shown"));
}

fn init_reaps_and_forwards(sandbox: &Sandbox) {
    let project = sandbox.project(
        "init",
        r#"
        services:
          one:
            image: root_fs
            init: true
            network_mode: none
            command: [sh, -c, 'trap "echo got it; exit 7" TERM; echo ready; while true; do sleep 0.02; done']
        "#,
    );
    project.up();
    project.wait_for_log("ready");
    // Orphans: their parent ends at once, PID 1 has to reap them.
    project.exec("one", &["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.01 &); done"]).ok();
    eventually("no zombies", || {
        let states = project.exec("one", &["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '"]);
        (states.stdout.trim() == "0").then_some(())
    });
    let stop = project.compose(&["stop"]).ok();
    assert!(!stop.stderr.contains("no handler"), "an init does hear it: {}", stop.describe());
    assert_eq!(project.container("one").exit_code, 7);
    assert!(project.logs().contains("got it"));
}

fn what_stays_when_nothing_is_left(sandbox: &Sandbox) {
    // The list of src/store/README.md.
    let (run, data) = (sandbox.run_dir(), sandbox.data_dir());
    let emptied = format!("rm -rf {0} {1} && mkdir -m 700 {0} && mkdir -m 711 {1}", run.display(), data.display());
    sandbox.shell(&emptied).ok();
    let project = sandbox.project("last", "services: {one: {image: root_fs, init: true, command: [sleep, infinity]}}");
    project.up();
    project.down();
    sandbox.expect_quiet();
    let listed =
        sandbox.shell(&format!("cd {} && find . | sort; cd {} && find . | sort", run.display(), data.display()));
    let found: Vec<&str> = listed.stdout.lines().filter(|line| !line.starts_with("./cache")).collect();
    let run = [
        ".",
        "./foreground",
        "./networks",
        "./networks/allocation.lock",
        "./networks/attachments",
        "./networks/firewall.lock",
        "./networks/names",
        "./networks/records",
        "./projects",
    ];
    assert_eq!(found, [&run as &[&str], &[".", "./containers", "./volumes"]].concat());
    // It was there before, and only `oci` makes it.
    sandbox.shell(&format!("mkdir -m 700 {}/oci", sandbox.run_dir().display())).ok();
}
