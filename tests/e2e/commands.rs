//! The commands of `mydocker compose` as a person uses them.

use serde_json::Value;

use crate::support::{Case, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        up_detached_then_ps_and_logs,
        up_in_the_foreground_ends_with_the_last_service,
        up_twice_changes_nothing,
        up_recreates_what_changed,
        up_of_one_service_starts_what_it_depends_on,
        down_twice_and_of_nothing,
        stop_and_start_keep_the_container,
        kill_sends_any_signal,
        exec_runs_beside_the_service,
        exec_refuses,
        logs_follow,
        logs_tail_and_timestamps,
        config_prints_what_was_understood,
        version,
        the_project_is_named_by_file_option_and_environment,
        orphans_are_named_and_removed,
    ]
}

/// Two services that run until they are stopped.
const TWO: &str = r#"
    services:
      web:
        image: root_fs
        init: true
        command: [sh, -c, 'echo "web is up"; echo "a word on stderr" >&2; exec sleep infinity']
        network_mode: none
      worker:
        image: root_fs
        init: true
        command: [sh, -c, 'echo "worker is up"; exec sleep infinity']
        network_mode: none
"#;

fn up_detached_then_ps_and_logs(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    let up = project.up();
    assert_eq!(up.stdout, "", "`up -d` has no data to show: {}", up.describe());

    let table = project.compose(&["ps"]).ok().stdout;
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
    assert_eq!(table.lines().count(), 3, "two rows: {table}");
    assert!(table.contains("two-web-1") && table.contains("two-worker-1") && table.contains("Up"), "{table}");

    let containers = project.containers();
    assert_eq!(containers.len(), 2);
    for one in &containers {
        assert_eq!(one.name, format!("two-{}-1", one.service));
        assert_eq!((one.state.as_str(), one.exit_code), ("running", 0));
        assert!(one.pid > 0 && one.started > 0, "{one:?}");
    }
    let ids = project.compose(&["ps", "-q"]).ok().stdout;
    assert_eq!(ids.lines().count(), 2);
    assert!(ids.lines().all(|id| id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{ids}");

    let logs = project.wait_for_log("worker is up");
    assert!(logs.contains("web-1     | web is up\n"), "padded prefix: {logs}");
    assert!(logs.contains("worker-1  | worker is up\n"), "{logs}");
    assert!(project.compose(&["logs", "--no-log-prefix", "web"]).ok().stdout.lines().any(|line| line == "web is up"));

    project.down();
    assert_eq!(project.containers(), []);
}

fn up_in_the_foreground_ends_with_the_last_service(sandbox: &Sandbox) {
    let project = sandbox.project(
        "short",
        r#"
        services:
          one: {image: root_fs, network_mode: none, command: [echo, first]}
          two: {image: root_fs, network_mode: none, command: [sh, -c, 'echo second; exit 3']}
        "#,
    );
    let up = project.compose(&["up"]).ok();
    assert!(up.stdout.contains("one-1  | first\n") && up.stdout.contains("two-1  | second\n"), "{}", up.describe());
    assert!(up.stderr.contains("exited with code 3") || up.stdout.contains("exited with code 3"), "{}", up.describe());
    assert_eq!(project.container("two").exit_code, 3);
    assert_eq!(project.container("two").state, "exited");
}

fn up_twice_changes_nothing(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    project.up();
    let before = project.containers();
    project.up();
    assert_eq!(project.containers(), before, "same ids, pids, start times");
}

fn up_recreates_what_changed(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    project.up();
    let (web, worker) = (project.container("web"), project.container("worker"));
    project.rewrite(&TWO.replace("worker is up", "worker is new"));
    project.up();
    assert_eq!(project.container("web"), web, "nothing changed for web");
    let changed = project.container("worker");
    assert_ne!(changed.id, worker.id);
    assert_eq!(changed.state, "running");
    project.wait_for_log("worker is new");
    // What was asked for explicitly
    project.compose(&["up", "-d", "--force-recreate"]).ok();
    assert_ne!(project.container("web").id, web.id);
}

fn up_of_one_service_starts_what_it_depends_on(sandbox: &Sandbox) {
    let project = sandbox.project(
        "part",
        r#"
        x-service: &service {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
        services:
          db: {<<: *service}
          web: {<<: *service, depends_on: [db]}
          other: {<<: *service}
        "#,
    );
    project.compose(&["up", "-d", "web"]).ok();
    let mut services: Vec<String> = project.containers().into_iter().map(|one| one.service).collect();
    services.sort();
    assert_eq!(services, ["db", "web"]);
    project.compose(&["up", "-d", "nosuch"]).refused(2, &["nosuch"]);
}

fn down_twice_and_of_nothing(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    project.down(); // F59: of nothing
    project.up();
    project.down();
    project.down();
    sandbox.expect_quiet();
}

fn stop_and_start_keep_the_container(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    project.up();
    let before = project.container("web");
    project.exec("web", &["sh", "-c", "echo kept > /etc/note"]).ok();
    project.compose(&["stop", "web"]).ok();
    let stopped = project.container("web");
    assert_eq!((stopped.state.as_str(), stopped.exit_code, stopped.pid), ("exited", 143, 0), "init passes SIGTERM on");
    assert_eq!(project.container("worker").state, "running");
    assert!(!project.compose(&["ps"]).ok().stdout.contains("two-web-1"), "ps without -a shows what runs");

    project.compose(&["start", "web"]).ok();
    let after = project.wait_running("web");
    assert_eq!(after.id, before.id, "the same container");
    assert_ne!(after.identity(), before.identity(), "another process");
    assert_eq!(project.exec("web", &["cat", "/etc/note"]).ok().stdout, "kept\n", "its files are its own until `down`");
}

fn kill_sends_any_signal(sandbox: &Sandbox) {
    let project = sandbox.project(
        "signals",
        r#"
        services:
          trap:
            image: root_fs
            network_mode: none
            command: [sh, -c, 'trap "echo got USR1" USR1; trap "exit 9" HUP; echo ready; while true; do sleep 0.05; done']
          plain: {image: root_fs, network_mode: none, restart: always, command: [sleep, infinity]}
        "#,
    );
    project.up();
    project.wait_for_log("ready");
    project.compose(&["kill", "-s", "USR1", "trap"]).ok();
    project.wait_for_log("got USR1");
    project.compose(&["kill", "-s", "SIGHUP", "trap"]).ok();
    assert_eq!(project.wait_exited("trap").exit_code, 9);
    project.compose(&["kill", "plain"]).ok();
    assert_eq!(project.wait_exited("plain").exit_code, 137, "killed by its user, it stays down");
    project.compose(&["kill", "-s", "NOSUCH"]).refused(2, &["NOSUCH"]);
}

fn exec_runs_beside_the_service(sandbox: &Sandbox) {
    let project = sandbox.project(
        "exec",
        r#"
        services:
          web:
            image: root_fs
            init: true
            network_mode: none
            hostname: inside
            working_dir: /tmp
            environment: {COLOUR: blue}
            command: [sleep, infinity]
        "#,
    );
    project.up();
    assert_eq!(project.exec("web", &["sh", "-c", "exit 42"]).code, 42);
    assert_eq!(project.exec("web", &["sh", "-c", "kill -9 $$"]).code, 137);
    let told = project.exec("web", &["sh", "-c", "echo $COLOUR; pwd; hostname; id -u; echo error >&2"]).ok();
    assert_eq!(told.stdout, "blue\n/tmp\ninside\n0\n");
    assert_eq!(told.stderr, "error\n");
    let asked = project.compose(&[
        "exec",
        "-T",
        "-e",
        "COLOUR=red",
        "-w",
        "/etc",
        "-u",
        "app",
        "web",
        "sh",
        "-c",
        "echo $COLOUR $PWD $(id -un)",
    ]);
    assert_eq!(asked.ok().stdout, "red /etc app\n");
    // The same namespaces and cgroup, the same seccomp filter and capabilities
    let same = project.exec(
        "web",
        &[
            "sh",
            "-c",
            "for n in mnt pid net ipc uts cgroup; do for p in 1 self; do readlink /proc/$p/ns/$n; done; done | sort -u | wc -l",
        ],
    );
    assert_eq!(same.ok().stdout.trim(), "6");
    let status = project.exec(
        "web",
        &[
            "sh",
            "-c",
            "for p in 1 self; do grep -E '^(CapEff|CapBnd|Seccomp):' /proc/$p/status; done | sort -u | wc -l",
        ],
    );
    assert_eq!(status.ok().stdout.trim(), "3");
}

fn exec_refuses(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    project.up();
    project.exec("web", &["nosuch"]).refused(127, &["nosuch"]);
    project.exec("web", &["/etc/passwd"]).refused(126, &["/etc/passwd"]);
    project.exec("nosuch", &["true"]).refused(125, &["nosuch"]);
    project.compose(&["exec", "-T", "-u", "nobodyatall", "web", "true"]).refused(126, &["nobodyatall"]);
    project.compose(&["stop", "-t", "1", "web"]).ok();
    project.exec("web", &["true"]).refused(125, &["web", "not running"]);
}

fn logs_follow(sandbox: &Sandbox) {
    let project = sandbox.project(
        "follow",
        r#"
        services:
          clock:
            image: root_fs
            init: true
            network_mode: none
            command: [sh, -c, 'i=0; while true; do i=$$((i + 1)); echo "tick $$i"; sleep 0.05; done']
        "#,
    );
    project.up();
    let mut follower = project.spawn(&["logs", "-f"]);
    follower.wait_for_stdout("clock-1  | tick 5\n");
    project.compose(&["stop", "-t", "1"]).ok();
    let shown = follower.wait().ok().stdout;
    let ticks: Vec<u32> =
        shown.lines().filter_map(|line| line.strip_prefix("clock-1  | tick ")).filter_map(|n| n.parse().ok()).collect();
    let all: Vec<u32> = (1..).take(ticks.len()).collect();
    assert_eq!(ticks, all, "no line lost, doubled or out of order; the follower ends with the last container");
}

fn logs_tail_and_timestamps(sandbox: &Sandbox) {
    let project = sandbox.project(
        "tail",
        r#"
        services:
          count: {image: root_fs, network_mode: none, command: [seq, "5"]}
        "#,
    );
    project.up();
    project.wait_exited("count");
    assert_eq!(project.compose(&["logs", "--no-color", "--tail", "2"]).ok().stdout, "count-1  | 4\ncount-1  | 5\n");
    let stamped = project.compose(&["logs", "--no-color", "-t", "--tail", "1"]).ok().stdout;
    let words: Vec<&str> = stamped.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[3]), ("count-1", "|", "5"));
    assert!(words[2].starts_with("20") && words[2].contains('T') && words[2].ends_with('Z'), "{stamped}");
}

fn config_prints_what_was_understood(sandbox: &Sandbox) {
    let project = sandbox.project(
        "shown",
        r#"
        services:
          web:
            image: root_fs
            command: httpd -f
            environment: ["GREETING=${WORD:-hello}"]
            ports: ["8080:80"]
        "#,
    );
    let yaml = project.compose(&["config"]).ok().stdout;
    assert!(yaml.contains("name: shown") && yaml.contains("GREETING: hello"), "{yaml}");
    let json: Value =
        serde_json::from_str(&project.compose(&["config", "--format", "json"]).ok().stdout).expect("JSON");
    assert_eq!(json["services"]["web"]["command"], serde_json::json!(["httpd", "-f"]));
    assert_eq!(json["services"]["web"]["ports"][0]["target"], 80);
    assert_eq!(project.compose(&["config", "--services"]).ok().stdout, "web\n");
    assert_eq!(project.compose(&["config", "-q"]).ok().stdout, "");
    sandbox.set_env("WORD", "moin");
    assert!(project.compose(&["config"]).ok().stdout.contains("GREETING: moin"));
}

fn version(sandbox: &Sandbox) {
    let number = env!("CARGO_PKG_VERSION");
    assert!(sandbox.mydocker(&["version"]).ok().stdout.contains(number));
    assert!(sandbox.mydocker(&["compose", "version"]).ok().stdout.contains(number));
    assert_eq!(sandbox.mydocker(&["compose", "version", "--short"]).ok().stdout, format!("{number}\n"));
}

fn the_project_is_named_by_file_option_and_environment(sandbox: &Sandbox) {
    let plain = r#"
        services:
          one: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
    "#;
    let names =
        |project: &Project<'_>| -> Vec<String> { project.containers().into_iter().map(|one| one.name).collect() };
    let by_directory = sandbox.project("dir.name", plain);
    by_directory.up();
    assert_eq!(names(&by_directory), ["dirname-one-1"]);
    by_directory.down();

    let by_file = sandbox.project("b", &format!("name: written\n{}", plain.replace("\n        ", "\n")));
    by_file.up();
    assert_eq!(names(&by_file), ["written-one-1"]);
    let file = by_file.file().to_str().expect("UTF-8").to_owned();
    sandbox.mydocker(&["compose", "-f", &file, "-p", "given", "up", "-d"]).ok();
    let shown = sandbox.mydocker(&["compose", "-f", &file, "-p", "given", "ps"]).ok().stdout;
    assert!(shown.contains("given-one-1"), "{shown}");
    sandbox.mydocker(&["compose", "-f", &file, "-p", "given", "down"]).ok();
    assert_eq!(names(&by_file), ["written-one-1"], "another project is none of its business");
    by_file.down();

    sandbox.set_env("COMPOSE_FILE", &file);
    sandbox.set_env("COMPOSE_PROJECT_NAME", "from-env");
    sandbox.mydocker(&["compose", "up", "-d"]).ok();
    assert!(sandbox.mydocker(&["compose", "ps"]).ok().stdout.contains("from-env-one-1"));
    sandbox.mydocker(&["compose", "down"]).ok();
}

fn orphans_are_named_and_removed(sandbox: &Sandbox) {
    let project = sandbox.project("two", TWO);
    project.up();
    project.rewrite(TWO.split("      worker:").next().unwrap_or_default());
    let up = project.up();
    assert!(up.stderr.contains("orphan") && up.stderr.contains("worker"), "{}", up.describe());
    project.compose(&["up", "-d", "--remove-orphans"]).ok();
    eventually("worker is gone", || project.containers().iter().all(|one| one.service == "web").then_some(()));
}
