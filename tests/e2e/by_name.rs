//! Containers by name: `mydocker ps`, `exec`, `stats` and the like, on those of `run -d` and of compose projects alike.

use std::ffi::OsString;

use serde_json::Value;

use crate::support::{Case, Sandbox, Terminal, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        containers_of_a_project,
        names_ids_and_beginnings,
        unknown_names,
        lists_are_filtered_and_formed,
        logs_have_docker_s_options: Bridge,
        commands_beside_it,
        commands_that_cannot_be,
        figures_move: Controllers,
        its_processes_and_ports: Bridge,
    ]
}

/// Starts a container without a network.
#[track_caller]
fn start(sandbox: &Sandbox, name: &str, words: &[&str]) -> String {
    let started =
        sandbox.mydocker(&[&["run", "-d", "--network", "none", "--name", name, "root_fs"], words].concat()).ok();
    started.stdout.trim().to_owned()
}

#[track_caller]
fn stdout(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.mydocker(words).ok().stdout
}

fn containers_of_a_project(sandbox: &Sandbox) {
    let yaml = "services: {web: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}, \
                other: {image: root_fs, init: true, network_mode: none, command: [sh, -c, 'echo hi; exec sleep infinity']}}";
    let project = sandbox.project("p", yaml);
    project.up();
    let other = project.container("other");
    assert_eq!(stdout(sandbox, &["exec", "p-web-1", "echo", "inside"]), "inside\n");
    eventually("it has written", || (stdout(sandbox, &["logs", "p-other-1"]) == "hi\n").then_some(()));
    assert_eq!(stdout(sandbox, &["stop", "p-web-1"]), "p-web-1\n");
    assert_eq!(project.wait_exited("web").exit_code, 143);
    assert_eq!(stdout(sandbox, &["ps", "--format", "{{.Names}}"]), "p-other-1\n", "the other goes on");
    stdout(sandbox, &["start", "p-web-1"]);
    let before = project.wait_running("web");
    stdout(sandbox, &["restart", "p-web-1"]);
    assert_ne!(project.wait_running("web").pid, before.pid);
    assert_eq!(stdout(sandbox, &["rm", "-f", "p-web-1"]), "p-web-1\n");
    assert_eq!(project.containers().len(), 1);
    assert_eq!(project.container("other").pid, other.pid, "nobody touched it");
    project.up();
    assert_eq!(project.containers().len(), 2);
}

fn names_ids_and_beginnings(sandbox: &Sandbox) {
    let one = start(sandbox, "one", &["sleep", "infinity"]);
    // A name goes before the beginning of an id.
    let named = start(sandbox, &one[..8], &["sleep", "infinity"]);
    let id = |text: &str| stdout(sandbox, &["inspect", "-f", "{{.Id}}", text]).trim().to_owned();
    assert_eq!((id("one"), id("/one"), id(&one), id(&one[..20])), (one.clone(), one.clone(), one.clone(), one.clone()));
    assert_eq!(id(&one[..8]), named);
    // One that fails hides no other.
    let stopped = sandbox.mydocker(&["stop", "-t", "0", "nosuch", "one", &named]).expect_code(1);
    assert_eq!(stopped.stdout, format!("one\n{named}\n"));
    assert!(stopped.stderr.contains("No such container: nosuch"), "{}", stopped.describe());
    sandbox.mydocker(&["kill", "one"]).refused(1, &["one is not running"]);
    assert_eq!(stdout(sandbox, &["wait", "one", &named]), "137\n137\n");
    assert_eq!(stdout(sandbox, &["rm", "one", &named]), format!("one\n{named}\n"));
}

fn unknown_names(sandbox: &Sandbox) {
    for verb in ["logs", "stop", "start", "restart", "kill", "rm", "wait", "inspect", "top", "port"] {
        sandbox.mydocker(&[verb, "nosuch"]).refused(1, &["No such container: nosuch"]);
        sandbox.mydocker(&[verb]).refused(2, &["missing"]);
    }
    sandbox.mydocker(&["stats", "--no-stream", "nosuch"]).refused(1, &["No such container: nosuch"]);
    sandbox.mydocker(&["exec", "nosuch", "true"]).refused(125, &["No such container: nosuch"]);
    // As Docker: what is not there need not go.
    let forced = sandbox.mydocker(&["rm", "-f", "nosuch"]).ok();
    assert!(forced.stdout.is_empty() && forced.stderr.contains("No such container"), "{}", forced.describe());
    assert_eq!(sandbox.mydocker(&["inspect", "nosuch"]).stdout, "[]\n");
    assert_eq!(stdout(sandbox, &["ps", "-aq"]), "");
}

fn lists_are_filtered_and_formed(sandbox: &Sandbox) {
    let words = ["run", "-d", "--network", "none", "-l", "tier=front", "--name", "web", "root_fs", "sleep", "infinity"];
    let web = stdout(sandbox, &words).trim().to_owned();
    start(sandbox, "job", &["sh", "-c", "exit 4"]);
    stdout(sandbox, &["wait", "job"]);
    let names = |filters: &[&str]| {
        let mut words = vec!["ps", "-a", "--format", "{{.Names}}"];
        words.extend(filters.iter().flat_map(|filter| ["--filter", *filter]));
        let mut found: Vec<String> = stdout(sandbox, &words).lines().map(str::to_owned).collect();
        found.sort();
        found.join(" ")
    };
    assert_eq!((names(&[]).as_str(), names(&["name=we"]).as_str()), ("job web", "web"));
    assert_eq!((names(&["label=tier"]).as_str(), names(&["label=tier=back"]).as_str()), ("web", ""));
    assert_eq!((names(&["status=exited"]).as_str(), names(&["exited=4"]).as_str()), ("job", "job"));
    assert_eq!(names(&["status=exited", "status=running"]), "job web");
    assert_eq!((names(&["id=nosuch"]).as_str(), names(&["ancestor=root_fs", "health=none"]).as_str()), ("", "job web"));
    assert_eq!(stdout(sandbox, &["ps", "-q", "--no-trunc"]), format!("{web}\n"));
    assert_eq!(
        stdout(sandbox, &["ps", "--format", "table {{.ID}}\\t{{.State}}"]),
        format!("CONTAINER ID   STATE\n{}   running\n", &web[..12])
    );
    let line: Value = serde_json::from_str(&stdout(sandbox, &["ps", "--format", "json"])).expect("an object a line");
    assert_eq!(
        (&line["Names"], &line["Labels"], &line["State"]),
        (&"web".into(), &"tier=front".into(), &"running".into())
    );
    let head = stdout(sandbox, &["ps"]);
    let titles: Vec<&str> =
        head.lines().next().expect("a line").split("   ").map(str::trim).filter(|title| !title.is_empty()).collect();
    assert_eq!(titles, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    sandbox.mydocker(&["ps", "--filter", "colour=red"]).refused(2, &["colour", "status"]);
    sandbox.mydocker(&["ps", "--format", "{{.Nosuch}}"]).refused(2, &["Nosuch"]);
    let known: Value = serde_json::from_str(&stdout(sandbox, &["inspect", "job", "web"])).expect("JSON");
    assert_eq!((&known[0]["State"]["ExitCode"], &known[0]["State"]["Running"]), (&4.into(), &false.into()));
    assert_eq!((&known[1]["Path"], &known[1]["Args"][0]), (&"sleep".into(), &"infinity".into()));
    stdout(sandbox, &["rm", "-f", "web", "job"]);
}

fn logs_have_docker_s_options(sandbox: &Sandbox) {
    // The gate is a directory of ours: no time passes that nobody waits for.
    let gate = format!("{}:/gate", sandbox.dir().join("gate").display());
    let script = "seq 1 5; until [ -e /gate/open ]; do sleep 0.02; done; echo six; exit 3";
    stdout(
        sandbox,
        &["run", "-d", "--rm", "--network", "none", "--name", "one", "-v", &gate, "root_fs", "sh", "-c", script],
    );
    eventually("five lines", || (stdout(sandbox, &["logs", "one"]) == "1\n2\n3\n4\n5\n").then_some(()));
    assert_eq!(stdout(sandbox, &["logs", "-n", "2", "one"]), "4\n5\n");
    assert_eq!(stdout(sandbox, &["logs", "--until", "1h", "one"]), "");
    assert_eq!(stdout(sandbox, &["logs", "--since", "1h", "--tail", "1", "one"]), "5\n");
    let stamped = stdout(sandbox, &["logs", "-t", "-n", "1", "one"]);
    assert!(stamped.ends_with("Z 5\n") && stamped.contains('T'), "{stamped}");
    sandbox.mydocker(&["logs", "--since", "yesterday", "one"]).refused(2, &["yesterday"]);
    let mut following = sandbox.spawn(&["logs", "-f", "-n", "1", "one"]);
    following.wait_for_stdout("5\n");
    std::fs::write(sandbox.dir().join("gate/open"), "").expect("our own");
    assert_eq!(following.wait().ok().stdout, "5\nsix\n", "to the end, though it goes then");
    eventually("it is gone", || stdout(sandbox, &["ps", "-aq"]).is_empty().then_some(()));
}

fn commands_beside_it(sandbox: &Sandbox) {
    start(sandbox, "one", &["sleep", "infinity"]);
    let words = [
        "exec",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-u",
        "7:8",
        "one",
        "sh",
        "-c",
        "echo $A; pwd; id -u; id -g; echo oh >&2; exit 5",
    ];
    let told = sandbox.mydocker(&words).expect_code(5);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("1\n/tmp\n7\n8\n", "oh\n"));
    let piped = sandbox.shell("seq 50000 | $MYDOCKER exec -i one cat | tail -n 1").ok();
    assert_eq!(piped.stdout, "50000\n");
    assert_eq!(sandbox.shell("echo lost | $MYDOCKER exec one cat").ok().stdout, "", "without -i there is no input");
    let rights = ["exec", "--privileged", "one", "grep", "CapEff", "/proc/self/status"];
    assert_ne!(stdout(sandbox, &rights), stdout(sandbox, &[&rights[..1], &rights[2..]].concat()));
    assert_eq!(stdout(sandbox, &["exec", "-d", "one", "sh", "-c", "echo later > /later"]), "");
    eventually("it was done", || {
        (sandbox.mydocker(&["exec", "one", "cat", "/later"]).stdout == "later\n").then_some(())
    });
    let words = [crate::support::MYDOCKER, "exec", "-it", "one", "sh"].map(OsString::from);
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &words);
    terminal.write("tty; stty size; echo $((40 + 2))\n");
    terminal.wait_for("\r\n42\r\n");
    terminal.write("exit 6\n");
    let (code, screen) = terminal.wait();
    assert!(code == 6 && screen.contains("/dev/pts/") && screen.contains("24 80"), "{code}: {screen}");
    stdout(sandbox, &["rm", "-f", "one"]);
}

fn commands_that_cannot_be(sandbox: &Sandbox) {
    // B64
    start(sandbox, "one", &["sleep", "infinity"]);
    start(sandbox, "ended", &["true"]);
    stdout(sandbox, &["wait", "ended"]);
    let exec = |words: &[&str]| sandbox.mydocker(&[&["exec"], words].concat());
    exec(&["ended", "true"]).refused(125, &["ended is not running"]);
    exec(&["nosuch", "true"]).refused(125, &["No such container"]);
    exec(&["one"]).refused(125, &["COMMAND"]);
    exec(&["-u", "nosuch", "one", "true"]).refused(126, &["nosuch"]);
    exec(&["-u", "0:nosuch", "one", "true"]).refused(126, &["nosuch"]);
    exec(&["-w", "/nosuch", "one", "pwd"]).refused(126, &["/nosuch"]);
    exec(&["-e", "=x", "one", "true"]).refused(125, &["=x"]);
    exec(&["-it", "one", "true"]).refused(125, &["not a TTY"]);
    exec(&["one", "nosuch"]).refused(127, &["nosuch"]);
    exec(&["one", "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    exec(&["--nosuch", "one", "true"]).refused(125, &["--nosuch"]);
    assert_eq!(exec(&["one", "echo", "fine"]).ok().stdout, "fine\n", "it took no harm");
    stdout(sandbox, &["rm", "-f", "one", "ended"]);
}

fn figures_move(sandbox: &Sandbox) {
    // E13: in one with limits, and in one without, whose cgroup may count nothing here
    let gate = format!("{}:/gate", sandbox.dir().join("gate").display());
    let script = "until [ -e /gate/open ]; do sleep 0.02; done; dd if=/dev/zero of=/dev/shm/x bs=1M count=24 2>/dev/null; \
                  sleep infinity & sleep infinity & touch /ready; while :; do :; done";
    for (name, limits) in [("limited", &["-m", "64m", "--pids-limit", "50"][..]), ("free", &[])] {
        let words = ["run", "-d", "--network", "none", "--name", name, "--shm-size", "32m", "-v", &gate];
        stdout(sandbox, &[&words[..], limits, &["root_fs", "sh", "-c", script]].concat());
    }
    let figures = |name: &str| {
        let line = stdout(sandbox, &["stats", "--no-stream", "--format", "json", name]);
        let value: Value = serde_json::from_str(&line).expect("an object");
        let text = |key: &str| value[key].as_str().expect("a text").to_owned();
        let percent = text("CPUPerc").trim_end_matches('%').parse::<f64>().expect("a number");
        (percent, text("MemUsage"), text("PIDs").parse::<u64>().expect("a number"))
    };
    let before = figures("limited");
    let processes = figures("free").2;
    assert!(before.0 < 60.0 && before.1.ends_with("/ 64MiB"), "it sleeps: {before:?}");
    std::fs::write(sandbox.dir().join("gate/open"), "").expect("our own");
    for name in ["limited", "free"] {
        eventually("it is busy", || {
            (sandbox.mydocker(&["exec", name, "test", "-e", "/ready"]).code == 0).then_some(())
        });
    }
    // The machine may be busy with others: any time at all is more than none.
    let after = eventually("CPU time is used", || Some(figures("limited")).filter(|(percent, ..)| *percent > 5.0));
    let mebibytes = after.1.split("MiB").next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    assert!((24.0..64.0).contains(&mebibytes), "what is in /dev/shm is its memory: {after:?}");
    assert!(after.2 > before.2, "{before:?} {after:?}");
    let free = eventually("CPU time is used", || Some(figures("free")).filter(|(percent, ..)| *percent > 5.0));
    assert!(free.2 > processes && !free.1.starts_with("0B"), "{free:?}");
    let table = stdout(sandbox, &["stats", "--no-stream"]);
    assert!(table.starts_with("CONTAINER ID   NAME") && table.contains("limited") && table.contains("free"), "{table}");
    stdout(sandbox, &["rm", "-f", "limited", "free"]);
}

fn its_processes_and_ports(sandbox: &Sandbox) {
    let words = [
        "run",
        "-d",
        "--name",
        "one",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:5353:53/udp",
        "root_fs",
        "sh",
        "-c",
        "sleep 4711 & exec sleep 4712",
    ];
    stdout(sandbox, &words);
    eventually("both run", || {
        let told = stdout(sandbox, &["top", "one"]);
        let shown = told.lines().count() == 3 && told.contains("sleep 4711") && told.contains("sleep 4712");
        (shown && told.lines().next().is_some_and(|head| head.contains("PID"))).then_some(())
    });
    let columns = stdout(sandbox, &["top", "one", "-o", "pid,args"]);
    assert!(columns.contains("sleep 4712") && !columns.contains("root"), "{columns}");
    sandbox.mydocker(&["top", "one", "-o", "args"]).refused(1, &["PID"]);
    assert_eq!(stdout(sandbox, &["port", "one"]).lines().count(), 2);
    assert_eq!(stdout(sandbox, &["port", "one", "80"]), "0.0.0.0:8080\n");
    assert_eq!(stdout(sandbox, &["port", "one", "53/udp"]), "127.0.0.1:5353\n");
    sandbox.mydocker(&["port", "one", "53"]).refused(1, &["53/tcp"]);
    sandbox.mydocker(&["port", "one", "x"]).refused(2, &["`x`"]);
    stdout(sandbox, &["stop", "-t", "0", "one"]);
    sandbox.mydocker(&["top", "one"]).refused(1, &["not running"]);
    stdout(sandbox, &["rm", "one"]);
}
