//! `mydocker run -d`: containers that live on by themselves, each with a supervisor of its own.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Case, Output, PATIENCE, Running, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        it_lives_on,
        one_that_ends_at_once_is_no_error,
        options_hold_as_in_the_foreground: Controllers,
        what_cannot_start_leaves_nothing: Bridge,
        a_name_is_one_container_s,
        one_of_many_gets_the_name,
        it_goes_by_itself_with_rm: Bridge,
        policies_of_restart,
        the_network_comes_and_goes: Bridge,
        processes_and_networks_of_others: Bridge,
        its_log_is_kept_as_asked,
        its_health_is_probed,
        clients_that_are_killed: Bridge,
        supervisors_that_are_killed: Bridge,
        one_whose_supervision_is_dead: Bridge,
    ]
}

/// `mydocker run -d OPTIONS root_fs CMD…`.
fn run(sandbox: &Sandbox, words: &[&str]) -> Output {
    sandbox.mydocker(&[&["run", "-d", "--network", "none"], words].concat())
}

/// The id of a container that was started.
#[track_caller]
fn id(started: Output) -> String {
    let started = started.ok();
    let id = started.stdout.strip_suffix('\n').unwrap_or_default().to_owned();
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_id && started.stderr.is_empty(), "an id and nothing else: {}", started.describe());
    id
}

/// What is known of a container.
#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let told = sandbox.mydocker(&["inspect", name]).ok();
    let all: Value = serde_json::from_str(&told.stdout).expect("JSON");
    all[0].clone()
}

fn status(sandbox: &Sandbox, name: &str) -> String {
    sandbox.mydocker(&["inspect", "-f", "{{.State.Status}}", name]).stdout.trim().to_owned()
}

#[track_caller]
fn wait_for_status(sandbox: &Sandbox, name: &str, wanted: &str) {
    eventually(&format!("{name} is {wanted}"), || (status(sandbox, name) == wanted).then_some(()));
}

#[track_caller]
fn rm(sandbox: &Sandbox, name: &str) {
    assert_eq!(sandbox.mydocker(&["rm", "-f", name]).ok().stdout, format!("{name}\n"));
}

/// Where the containers of the sandbox have their records.
fn projects(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.run_dir().join("projects")).expect("it is there");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Finds one of a container's own three processes: `mydocker-keeper`, `mydocker-shim`, `mydocker-superv`.
fn ours(sandbox: &Sandbox, role: &str) -> Vec<Pid> {
    let is_it = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(role));
    sandbox.processes().into_iter().filter(is_it).collect()
}

/// Whether a client is connected to somebody and sleeps until it hears of something.
fn is_listening(client: &Running) -> bool {
    let fds = fs::read_dir(format!("/proc/{}/fd", client.pid())).into_iter().flatten().flatten();
    let is_socket = |link: std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    let connected = fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(is_socket);
    let sleeps = fs::read_to_string(format!("/proc/{}/wchan", client.pid())).is_ok_and(|place| place.contains("poll"));
    connected && sleeps
}

fn it_lives_on(sandbox: &Sandbox) {
    let id = id(run(sandbox, &["--name", "one", "root_fs", "sh", "-c", "echo out; echo err >&2; exec sleep infinity"]));
    assert_eq!(status(sandbox, "one"), "running");
    let listed = sandbox.mydocker(&["ps"]).ok().stdout;
    assert!(listed.contains(&id[..12]) && listed.contains("one"), "{listed}");
    eventually("both streams are in the log", || {
        let logs = sandbox.mydocker(&["logs", "one"]).ok();
        (logs.stdout == "out\n" && logs.stderr == "err\n").then_some(())
    });
    let pid = inspect(sandbox, "one")["State"]["Pid"].as_i64().expect("a number");
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs").contains("sleep"));
    // It ends, and stays as it is until it is removed.
    assert_eq!(sandbox.mydocker(&["stop", "-t", "0", &id[..12]]).ok().stdout, format!("{}\n", &id[..12]));
    assert_eq!(
        (status(sandbox, "one").as_str(), sandbox.mydocker(&["wait", "one"]).ok().stdout.as_str()),
        ("exited", "137\n")
    );
    sandbox.expect_quiet();
    assert_eq!(sandbox.mydocker(&["ps", "-q"]).ok().stdout, "");
    assert_eq!(sandbox.mydocker(&["ps", "-aq"]).ok().stdout, format!("{}\n", &id[..12]));
    assert_eq!(sandbox.mydocker(&["logs", "one"]).ok().stdout, "out\n");
    sandbox.mydocker(&["start", "one"]).ok();
    eventually("it writes again", || (sandbox.mydocker(&["logs", "one"]).ok().stdout == "out\nout\n").then_some(()));
    sandbox.mydocker(&["rm", "one"]).refused(1, &["one is running", "rm -f"]);
    rm(sandbox, "one");
    assert!(projects(sandbox).is_empty());
    sandbox.expect_clean_within(0);
}

fn one_that_ends_at_once_is_no_error(sandbox: &Sandbox) {
    let id = id(run(sandbox, &["root_fs", "sh", "-c", "exit 7"]));
    assert_eq!(sandbox.mydocker(&["wait", &id]).ok().stdout, "7\n");
    // What it has written to its root stays as well.
    let wrote = self::id(run(sandbox, &["root_fs", "sh", "-c", "echo kept > /kept"]));
    sandbox.mydocker(&["wait", &wrote]).ok();
    let layer = inspect(sandbox, &wrote)["GraphDriver"]["Data"]["UpperDir"].as_str().expect("a path").to_owned();
    assert_eq!(fs::read_to_string(format!("{layer}/kept")).expect("it is there"), "kept\n");
    rm(sandbox, &id);
    rm(sandbox, &wrote);
}

fn options_hold_as_in_the_foreground(sandbox: &Sandbox) {
    fs::create_dir(sandbox.dir().join("shared")).expect("our own");
    let options = |cidfile: &str| {
        let shared = format!("{}:/shared:ro", sandbox.dir().join("shared").display());
        let words = "--hostname h --domainname d.example -e A=1 --workdir /tmp --user 7:8 --group-add 9 --tmpfs /t:size=1m \
                     --read-only --shm-size 2m --cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges --ulimit nofile=64:65 \
                     --sysctl net.ipv4.ip_default_ttl=9 -m 32m --pids-limit 50 --cpus 0.5 --oom-score-adj 77 --init \
                     --device /dev/null:/dev/nix -l x=y --stop-signal INT --add-host other:192.0.2.9 --cidfile";
        let mut list: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        list.extend([cidfile.to_owned(), "-v".to_owned(), shared]);
        list
    };
    // The same in every way but what is its own: its id, its devices' and mounts' numbers.
    let script = "hostname; hostname -d; env | sort | grep -v HOSTNAME; pwd; id; df -k /t /dev/shm | awk '{print $2, $6}'; \
                  touch /x 2>&1; grep -e Cap -e NoNew -e Seccomp: /proc/self/status; ulimit -n; ulimit -Hn; \
                  cat /proc/sys/net/ipv4/ip_default_ttl /proc/1/oom_score_adj /proc/1/comm; ls -l /dev/nix | awk '{print $1, $5, $6}'; \
                  cat /etc/hosts /etc/resolv.conf; grep -c ' ro,' /proc/self/mountinfo; ls /sys/class/net; ls /proc/self/fd";
    let of = |detach: bool, cidfile: &str| {
        let mut words: Vec<String> = ["run", "--network", "none"].map(str::to_owned).to_vec();
        words.extend(detach.then(|| "-d".to_owned()));
        words.extend(options(cidfile));
        words.extend(["root_fs", "sh", "-c", script].map(str::to_owned));
        sandbox.mydocker(&words).ok().stdout
    };
    let foreground = of(false, "fore");
    let id = of(true, "back").trim().to_owned();
    assert_eq!(fs::read_to_string(sandbox.dir().join("back")).expect("written"), id);
    assert_eq!(sandbox.mydocker(&["wait", &id]).ok().stdout, "0\n");
    let detached = sandbox.mydocker(&["logs", &id]).ok().stdout;
    assert!(foreground.contains("uid=7") && foreground.contains("192.0.2.9\tother"), "{foreground}");
    assert_eq!(detached, foreground);
    let known = inspect(sandbox, &id);
    assert_eq!((&known["HostConfig"]["Memory"], &known["Config"]["Labels"]["x"]), (&(32 << 20).into(), &"y".into()));
    rm(sandbox, &id);
}

fn what_cannot_start_leaves_nothing(sandbox: &Sandbox) {
    run(sandbox, &["root_fs", "nosuch"]).refused(127, &["nosuch"]);
    run(sandbox, &["root_fs", "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    run(sandbox, &["--user", "nobody-there", "root_fs", "true"]).refused(126, &["nobody-there"]);
    run(sandbox, &["root_fs"]).refused(125, &["command"]);
    run(sandbox, &["ubuntu", "true"]).refused(125, &["ubuntu"]);
    run(sandbox, &["--rm", "--restart", "always", "root_fs", "true"]).refused(125, &["--restart", "--rm"]);
    run(sandbox, &["--ipc", "container:x", "root_fs", "true"]).refused(125, &["memory"]);
    run(sandbox, &["--pid", "container:nosuch", "root_fs", "true"]).refused(125, &["nosuch"]);
    run(sandbox, &["--device", "/dev/nosuch", "root_fs", "true"]).refused(125, &["/dev/nosuch"]);
    run(sandbox, &["--cidfile", "id", "root_fs", "nosuch"]).refused(127, &["nosuch"]);
    assert!(!sandbox.dir().join("id").exists());
    sandbox.mydocker(&["run", "-d", "--network", "nosuch", "root_fs", "true"]).refused(125, &["nosuch"]);
    sandbox.mydocker(&["run", "-d", "root_fs", "nosuch"]).refused(127, &["nosuch"]);
    let holder = sandbox.spawn_shell("exec busybox httpd -f -p 127.0.0.1:8080");
    eventually("the port is taken", || sandbox.shell("grep -q :1F90 /proc/net/tcp").code.eq(&0).then_some(()));
    sandbox.mydocker(&["run", "-d", "-p", "8080:80", "root_fs", "true"]).refused(125, &["8080"]);
    holder.signal(Signal::SIGKILL);
    let _ = holder.wait();
    assert!(projects(sandbox).is_empty(), "{:?}", projects(sandbox));
    sandbox.expect_clean_within(0);
}

fn a_name_is_one_container_s(sandbox: &Sandbox) {
    let id = id(run(sandbox, &["--name", "one", "root_fs", "true"]));
    sandbox.mydocker(&["wait", "one"]).ok();
    // It has ended and still has its name.
    run(sandbox, &["--name", "one", "root_fs", "true"]).refused(125, &["one", &id[..12], "mydocker rm one"]);
    let project =
        sandbox.project("p", "services: {web: {image: root_fs, network_mode: none, command: [sleep, infinity]}}");
    project.up();
    run(sandbox, &["--name", "p-web-1", "root_fs", "true"]).refused(125, &["p-web-1"]);
    let root = crate::support::rootfs().to_str().expect("UTF-8");
    let words = ["run", "--name", "fore", "--network", "none", "--rootfs", root, "sh", "-c", "echo up; sleep infinity"];
    let mut foreground = sandbox.spawn(&words);
    foreground.wait_for_stdout("up");
    run(sandbox, &["--name", "fore", "root_fs", "true"]).refused(125, &["fore"]);
    foreground.signal(Signal::SIGTERM);
    foreground.wait();
    rm(sandbox, "one");
    let again = self::id(run(sandbox, &["--name", "one", "root_fs", "true"]));
    assert_ne!(again, id);
    rm(sandbox, "one");
}

fn one_of_many_gets_the_name(sandbox: &Sandbox) {
    let words = ["run", "-d", "--network", "none", "--name", "one", "root_fs", "sleep", "infinity"];
    let clients: Vec<Running> = (0..6).map(|_| sandbox.spawn(&words)).collect();
    let outcomes: Vec<Output> = clients.into_iter().map(|client| sandbox.finish(client, PATIENCE)).collect();
    let (won, lost): (Vec<Output>, Vec<Output>) = outcomes.into_iter().partition(|output| output.code == 0);
    assert_eq!(won.len(), 1, "{:?}", lost.iter().map(Output::describe).collect::<Vec<_>>());
    for output in lost {
        let output = output.expect_code(125).without_panic();
        assert!(
            output.stderr.contains("in use") && output.stderr.contains(&won[0].stdout[..12]),
            "{}",
            output.describe()
        );
    }
    rm(sandbox, "one");
}

fn it_goes_by_itself_with_rm(sandbox: &Sandbox) {
    let words = ["run", "-d", "--rm", "--name", "one", "-v", "/anonymous", "-v", "named:/named", "root_fs"];
    let id = id(sandbox
        .mydocker(&[&words[..], &["sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"]].concat()));
    eventually("its trap is set", || sandbox.mydocker(&["logs", "one"]).ok().stdout.contains("up").then_some(()));
    // Restarted it is still there.
    sandbox.mydocker(&["restart", "-t", "0", "one"]).ok();
    eventually("its trap is set again", || {
        (sandbox.mydocker(&["logs", "one"]).ok().stdout == "up\nup\n").then_some(())
    });
    let waiter = sandbox.spawn(&["wait", &id]);
    eventually("somebody waits for it", || is_listening(&waiter).then_some(()));
    sandbox.mydocker(&["stop", "one"]).ok();
    assert_eq!(waiter.wait().ok().stdout, "9\n");
    eventually("it is gone", || projects(sandbox).is_empty().then_some(()));
    sandbox.mydocker(&["inspect", "one"]).refused(1, &["No such container: one"]);
    let volumes = fs::read_dir(sandbox.data_dir().join("volumes")).expect("it is there");
    let volumes: Vec<_> = volumes.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(volumes, ["named"], "the one without a name goes, the other stays");
    sandbox.expect_quiet();
    // Nobody is there to see it go.
    self::id(sandbox.mydocker(&["run", "-d", "--rm", "root_fs", "true"]));
    eventually("it is gone", || projects(sandbox).is_empty().then_some(()));
    sandbox.expect_clean();
}

fn policies_of_restart(sandbox: &Sandbox) {
    run(sandbox, &["--name", "twice", "--restart", "on-failure:2", "root_fs", "sh", "-c", "echo run; exit 3"]).ok();
    wait_for_status(sandbox, "twice", "exited");
    let ended = inspect(sandbox, "twice");
    assert_eq!((&ended["RestartCount"], &ended["State"]["ExitCode"]), (&2.into(), &3.into()));
    assert_eq!(sandbox.mydocker(&["logs", "twice"]).ok().stdout, "run\n".repeat(3));
    run(sandbox, &["--name", "always", "--restart", "always", "root_fs", "sleep", "infinity"]).ok();
    let first = inspect(sandbox, "always")["State"]["Pid"].as_i64().expect("a number");
    kill(Pid::from_raw(i32::try_from(first).expect("a pid")), Signal::SIGKILL).expect("it runs");
    eventually("it runs again", || {
        let state = inspect(sandbox, "always")["State"].clone();
        (state["Running"] == true && state["Pid"] != first).then_some(())
    });
    sandbox.mydocker(&["stop", "-t", "0", "always"]).ok();
    assert_eq!(status(sandbox, "always"), "exited");
    sandbox.expect_quiet();
    for name in ["twice", "always"] {
        rm(sandbox, name);
    }
}

fn the_network_comes_and_goes(sandbox: &Sandbox) {
    let web = ["run", "-d", "--name", "web", "--hostname", "www", "-p", "127.0.0.1:8080:80", "root_fs"];
    let serve = "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w";
    id(sandbox.mydocker(&[&web[..], &["sh", "-c", serve]].concat()));
    // Names are the same in other containers on it, in the foreground and of their own.
    for options in [&["--rm"][..], &["-d", "--name", "asks"][..]] {
        let script = "for name in web www; do until wget -q -O - http://$name; do sleep 0.05; done; done";
        let asked = sandbox.mydocker(&[&["run"], options, &["root_fs", "sh", "-c", script]].concat()).ok();
        let told = if options[0] == "-d" {
            sandbox.mydocker(&["wait", "asks"]).ok();
            sandbox.mydocker(&["logs", "asks"]).ok().stdout
        } else {
            asked.stdout
        };
        assert_eq!(told, "hello\nhello\n");
    }
    assert_eq!(sandbox.host(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080"]).ok().stdout, "hello\n");
    assert_eq!(sandbox.mydocker(&["ps", "--format", "{{.Ports}}"]).ok().stdout, "127.0.0.1:8080->80/tcp\n");
    assert_eq!(inspect(sandbox, "web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "10.10.10.2");
    rm(sandbox, "asks");
    assert_eq!(sandbox.host(&["ip", "link", "show", "brg0"]).code, 0);
    sandbox.mydocker(&["stop", "-t", "0", "web"]).ok();
    assert_ne!(sandbox.host(&["ip", "link", "show", "brg0"]).code, 0, "the last one took it along");
    sandbox.mydocker(&["start", "web"]).ok();
    assert_eq!(sandbox.host(&["ip", "link", "show", "brg0"]).code, 0);
    rm(sandbox, "web");
    sandbox.expect_clean_within(0);
}

fn processes_and_networks_of_others(sandbox: &Sandbox) {
    id(sandbox.mydocker(&["run", "-d", "--name", "first", "--hostname", "host-1", "root_fs", "sleep", "1001"]));
    let beside =
        ["run", "-d", "--name", "beside", "--pid", "container:first", "--network", "container:first", "root_fs"];
    id(sandbox.mydocker(&[&beside[..], &["sh", "-c", "hostname; ps; exec sleep infinity"]].concat()));
    eventually("it sees what the first does", || {
        let told = sandbox.mydocker(&["logs", "beside"]).ok().stdout;
        (told.starts_with("host-1\n") && told.contains("sleep 1001")).then_some(())
    });
    // With user namespaces of their own, too
    id(run(
        sandbox,
        &[
            "--name",
            "mapped",
            "--uid-map",
            "0:100000:65536",
            "root_fs",
            "sh",
            "-c",
            "cat /proc/self/uid_map; id -u; touch /x",
        ],
    ));
    assert_eq!(sandbox.mydocker(&["wait", "mapped"]).ok().stdout, "0\n");
    let told = sandbox.mydocker(&["logs", "mapped"]).ok().stdout;
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536", "0"]);
    for name in ["mapped", "beside", "first"] {
        rm(sandbox, name);
    }
}

fn its_log_is_kept_as_asked(sandbox: &Sandbox) {
    let script = "seq 100000 100999";
    id(run(
        sandbox,
        &["--name", "short", "--log-opt", "max-size=1k", "--log-opt", "max-file=2", "root_fs", "sh", "-c", script],
    ));
    id(run(sandbox, &["--name", "none", "--log-driver", "none", "root_fs", "sh", "-c", script]));
    sandbox.mydocker(&["wait", "short", "none"]).ok();
    let kept = sandbox.mydocker(&["logs", "short"]).ok().stdout;
    assert!(kept.ends_with("100999\n") && kept.lines().count() < 200, "{kept}");
    let nothing = sandbox.mydocker(&["logs", "none"]).ok();
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("no log"), "{}", nothing.describe());
    run(sandbox, &["--log-driver", "syslog", "root_fs", "true"]).refused(125, &["syslog", "json-file"]);
    rm(sandbox, "short");
    rm(sandbox, "none");
}

fn its_health_is_probed(sandbox: &Sandbox) {
    let health = ["--health-cmd", "test -e /ok", "--health-interval", "50ms", "--health-retries", "2"];
    id(run(sandbox, &[&["--name", "one"], &health[..], &["root_fs", "sleep", "infinity"]].concat()));
    let health = || inspect(sandbox, "one")["State"]["Health"]["Status"].as_str().map(str::to_owned);
    eventually("two probes have failed", || (health().as_deref() == Some("unhealthy")).then_some(()));
    sandbox.mydocker(&["exec", "one", "touch", "/ok"]).ok();
    eventually("one has succeeded", || (health().as_deref() == Some("healthy")).then_some(()));
    assert_eq!(sandbox.mydocker(&["ps", "--filter", "health=healthy", "--format", "{{.Names}}"]).ok().stdout, "one\n");
    rm(sandbox, "one");
}

/// SIGKILL for the client, at every point of its way.
fn clients_that_are_killed(sandbox: &Sandbox) {
    for turn in 0..25 {
        let name = format!("c{turn}");
        let words = ["run", "-d", "--name", &name, "root_fs", "sleep", "infinity"];
        let client = sandbox.spawn(&words);
        // Two milliseconds more each time: from before the first process to after the last.
        std::thread::park_timeout(std::time::Duration::from_millis(2 * turn));
        client.signal(Signal::SIGKILL);
        let _ = sandbox.finish(client, PATIENCE);
        // Whatever was begun comes to an end: a container that runs, or none.
        let settled = || {
            let listed = sandbox.mydocker(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().stdout;
            let is_there = listed.contains(&format!("{name} running"));
            (is_there || (listed.is_empty() && ours(sandbox, "mydocker-").is_empty())).then_some(is_there)
        };
        if eventually("it runs, or there is nothing", settled) {
            sandbox.mydocker(&["stop", "-t", "0", &name]).ok();
            rm(sandbox, &name);
        }
        // What is left of a client that was killed before it had started anybody is a directory with a lock that nobody holds.
        sandbox.mydocker(&["rm", "-f", "nobody"]).ok();
        assert!(projects(sandbox).is_empty(), "turn {turn}: {:?}", projects(sandbox));
    }
    sandbox.expect_clean();
}

/// SIGKILL for the supervisor, and then for the keeper.
fn supervisors_that_are_killed(sandbox: &Sandbox) {
    id(sandbox.mydocker(&[
        "run",
        "-d",
        "--name",
        "one",
        "--restart",
        "always",
        "root_fs",
        "sh",
        "-c",
        "echo up; exec sleep infinity",
    ]));
    let pid = inspect(sandbox, "one")["State"]["Pid"].clone();
    for role in ["mydocker-superv", "mydocker-keeper"] {
        let [victim] = ours(sandbox, role)[..] else { panic!("one {role}: {:?}", ours(sandbox, role)) };
        kill(victim, Signal::SIGKILL).expect("it runs");
        if role != "mydocker-keeper" {
            eventually("there is another", || {
                (!ours(sandbox, role).is_empty() && !ours(sandbox, role).contains(&victim)).then_some(())
            });
        }
        eventually("somebody answers", || (sandbox.mydocker(&["exec", "one", "true"]).code == 0).then_some(()));
        let state = inspect(sandbox, "one")["State"].clone();
        assert_eq!((&state["Pid"], &state["Running"]), (&pid, &true.into()), "after {role}");
    }
    sandbox.mydocker(&["stop", "-t", "0", "one"]).ok();
    assert_eq!(status(sandbox, "one"), "exited");
    rm(sandbox, "one");
    sandbox.expect_clean();
}

/// SIGKILL for all three at once: the container runs on with nobody, until somebody asks.
fn one_whose_supervision_is_dead(sandbox: &Sandbox) {
    for options in [&[][..], &["--rm"]] {
        id(sandbox.mydocker(&[&["run", "-d", "--name", "one"], options, &["root_fs", "sleep", "infinity"]].concat()));
        let kept = ours(sandbox, "mydocker-").len();
        assert_eq!(kept, 3, "keeper, shim, supervisor");
        for role in ["mydocker-keeper", "mydocker-superv", "mydocker-shim"] {
            // The keeper first: nobody starts them anew.
            for victim in ours(sandbox, role) {
                let _ = kill(victim, Signal::SIGKILL);
            }
        }
        eventually("nobody of ours is left", || ours(sandbox, "mydocker-").is_empty().then_some(()));
        assert_eq!(sandbox.mydocker(&["ps", "-a", "--format", "{{.Names}}"]).ok().stdout, "one\n");
        sandbox.mydocker(&["stop", "-t", "0", "one"]).ok();
        if options.is_empty() {
            assert_eq!(status(sandbox, "one"), "exited");
            sandbox.mydocker(&["rm", "one"]).ok();
        }
        eventually("it is gone", || projects(sandbox).is_empty().then_some(()));
        sandbox.expect_clean();
    }
}
