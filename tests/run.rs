//! A container in the foreground, and what becomes of it: its end in every way, its streams and terminal, its network,
//! what is left when mydocker is killed. What `run` and the ancestor's form print and refuse is in `tests/e2e/run.rs`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::signal::{Signal, kill};

#[expect(dead_code, unused_imports, reason = "the harness serves the other tests, too")]
mod support;

use support::{Case, MYDOCKER, Output, Running, Sandbox, Terminal, cases, eventually, rootfs};

fn main() -> ExitCode {
    support::run_all(all_cases())
}

fn all_cases() -> Vec<Case> {
    cases![
        a_signal_without_a_handler_has_its_default_effect,
        signals_before_the_program_runs_are_not_lost,
        real_time_signals_are_passed_on,
        memory_that_runs_out_is_told_of: Controllers,
        bytes_are_exact_from_a_terminal_to_a_file,
        a_terminal_without_one_of_ours_sees_the_end_of_input,
        a_terminal_has_the_size_of_ours_also_later,
        our_terminal_is_as_it_was_when_the_container_is_killed,
        a_terminal_of_ours_never_goes_inside,
        the_default_network_comes_and_goes: Bridge,
        a_published_port_leads_to_the_container: Bridge,
        names_are_answered_while_it_runs: Bridge,
        a_network_that_is_not_there_is_refused,
        what_a_killed_run_left_is_cleared_by_the_next: Bridge,
        runs_killed_at_any_moment_leave_nothing: Bridge,
        a_user_namespace_changes_no_owner_outside,
        volumes_of_all_kinds,
        variables_from_files_and_from_here,
    ]
}

/// `mydocker run --rootfs R` and then `words`.
fn words<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let root = rootfs().to_str().expect("UTF-8");
    [&["run", "--rootfs", root], words].concat()
}

fn run(sandbox: &Sandbox, rest: &[&str]) -> Output {
    sandbox.mydocker(&words(&[&["--network", "none"], rest].concat()))
}

fn spawn(sandbox: &Sandbox, rest: &[&str]) -> Running {
    sandbox.spawn(&words(&[&["--network", "none"], rest].concat()))
}

fn on_terminal(sandbox: &Sandbox, rest: &[&str]) -> Terminal {
    let line: Vec<OsString> = [MYDOCKER].iter().chain(&words(rest)).map(OsString::from).collect();
    Terminal::start(sandbox, sandbox.dir(), &line)
}

/// Names of the files of runs that are claimed.
fn claims(sandbox: &Sandbox) -> usize {
    fs::read_dir(sandbox.run_dir().join("foreground")).map_or(0, Iterator::count)
}

fn a_signal_without_a_handler_has_its_default_effect(sandbox: &Sandbox) {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGQUIT, 131)]
    {
        let mut running = spawn(sandbox, &["sh", "-c", "echo up; exec sleep 60"]);
        running.wait_for_stdout("up");
        // The shell has no handler either while it becomes the sleep.
        running.signal(signal);
        running.wait().expect_code(code);
    }
    let mut ignoring = spawn(sandbox, &["sh", "-c", "trap '' TERM; echo up; sleep 0.2; exit 9"]);
    ignoring.wait_for_stdout("up");
    ignoring.signal(Signal::SIGTERM);
    ignoring.wait().expect_code(9);
}

fn signals_before_the_program_runs_are_not_lost(sandbox: &Sandbox) {
    for _ in 0..10 {
        let running = spawn(sandbox, &["sleep", "60"]);
        // As soon as the claim is there signals are blocked; the container is in the making.
        eventually("it has begun", || (claims(sandbox) > 0).then_some(()));
        running.signal(Signal::SIGTERM);
        running.wait().expect_code(143);
        assert_eq!(claims(sandbox), 0);
    }
}

fn real_time_signals_are_passed_on(sandbox: &Sandbox) {
    let script = "trap 'exit 40' 37; trap 'echo usr2' USR2; echo up; while :; do sleep 0.02; done";
    let mut running = spawn(sandbox, &["sh", "-c", script]);
    running.wait_for_stdout("up");
    running.signal(Signal::SIGUSR2);
    running.wait_for_stdout("usr2");
    sandbox.host(&["kill", "-37", &running.pid().to_string()]).ok();
    running.wait().expect_code(40);
}

fn memory_that_runs_out_is_told_of(sandbox: &Sandbox) {
    let output = run(sandbox, &["--memory", "24m", "tail", "/dev/zero"]).expect_code(137);
    assert!(output.stderr.contains("out of memory"), "{}", output.describe());
    let killed = run(sandbox, &["--init", "--memory", "24m", "sh", "-c", "kill -9 $$"]).expect_code(137);
    assert!(!killed.stderr.contains("memory"), "{}", killed.describe());
}

fn bytes_are_exact_from_a_terminal_to_a_file(sandbox: &Sandbox) {
    // The ancestor's form has a terminal where stdin is one; a file behind stdout gets no line of its own making.
    let file = sandbox.dir().join("out.txt");
    let line =
        format!("exec \"$MYDOCKER\" -a --network none sh -c 'tty; printf \"a\\nb\\tc\\n\"; cat' >{}", file.display());
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &["sh", "-c", &line].map(OsString::from));
    eventually("it runs", || fs::read_to_string(&file).ok().filter(|text| text.contains("c\n")));
    terminal.write("typed\n");
    eventually("the line goes through", || fs::read_to_string(&file).ok().filter(|text| text.contains("typed")));
    terminal.write("\x04");
    let (code, screen) = terminal.wait();
    assert_eq!((code, fs::read_to_string(&file).expect("it is there").as_str()), (0, "/dev/pts/0\na\nb\tc\ntyped\n"));
    assert!(screen.contains("typed"), "our own terminal echoes: {screen:?}");
}

fn a_terminal_without_one_of_ours_sees_the_end_of_input(sandbox: &Sandbox) {
    let told = sandbox.shell("echo hi | \"$MYDOCKER\" run -it --network none --rootfs \"$MYDOCKER_ROOTFS\" cat").ok();
    assert_eq!(told.stdout, "hi\n");
}

fn a_terminal_has_the_size_of_ours_also_later(sandbox: &Sandbox) {
    let script = "stty size; until stty size | grep '30 100'; do sleep 0.02; done";
    let terminal = on_terminal(sandbox, &["-it", "--network", "none", "sh", "-c", script]);
    terminal.wait_for("24 80");
    terminal.resize(30, 100);
    assert_eq!(terminal.wait().0, 0);
}

fn our_terminal_is_as_it_was_when_the_container_is_killed(sandbox: &Sandbox) {
    let line = "stty -a >stty-before; \"$MYDOCKER\" run -it --network none --rootfs \"$MYDOCKER_ROOTFS\" sh -c 'echo up; sleep 60'; \
                echo ended $?; stty -a >stty-after";
    let terminal = Terminal::start(sandbox, sandbox.dir(), &["sh", "-c", line].map(OsString::from));
    terminal.wait_for("up");
    let init = *sandbox.pids().first().expect("the container's process");
    kill(init, Signal::SIGKILL).expect("it runs");
    terminal.wait_for("ended 137");
    assert_eq!(terminal.wait().0, 0);
    let read = |name: &str| fs::read_to_string(sandbox.dir().join(name)).expect("written by stty");
    assert_eq!(read("stty-before"), read("stty-after"));
}

fn a_terminal_of_ours_never_goes_inside(sandbox: &Sandbox) {
    let mut terminal =
        on_terminal(sandbox, &["-i", "--network", "none", "sh", "-c", "tty; ls -l /proc/self/fd; read x; echo got $x"]);
    terminal.wait_for("not a tty");
    terminal.write("line\n");
    let (code, screen) = terminal.wait();
    assert_eq!(code, 0);
    assert!(screen.contains("got line") && screen.contains("pipe:") && !screen.contains("/dev/pts"), "{screen}");
}

fn the_default_network_comes_and_goes(sandbox: &Sandbox) {
    let mut first = sandbox.spawn(&words(&["sh", "-c", "ip -o -4 addr show eth0; echo up; exec sleep 60"]));
    first.wait_for_stdout("up");
    let bridge = sandbox.host(&["ip", "-o", "-4", "addr", "show", "brg0"]).ok();
    assert!(bridge.stdout.contains("10.10.10.1/24"), "{}", bridge.describe());
    // A second one comes and goes beside it.
    let second = sandbox.mydocker(&words(&["ping", "-c", "1", "-W", "5", "10.10.10.2"])).ok();
    assert!(second.stdout.contains("1 packets received"), "{}", second.describe());
    sandbox.host(&["ip", "link", "show", "brg0"]).ok();
    first.signal(Signal::SIGTERM);
    first.wait().expect_code(143);
    assert_ne!(sandbox.host(&["ip", "link", "show", "brg0"]).code, 0, "the last has left");
    assert!(!sandbox.host(&["iptables-save"]).stdout.contains("MYDOCKER"));
}

fn a_published_port_leads_to_the_container(sandbox: &Sandbox) {
    let script = "echo up; while :; do echo served | nc -l -p 80; done";
    let mut running = sandbox.spawn(&words(&["-p", "127.0.0.1:8099:80", "sh", "-c", script]));
    running.wait_for_stdout("up");
    let answer = eventually("the port answers", || {
        let told = sandbox.host(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8099 && head -n 1 <&3"]);
        Some(told.stdout).filter(|text| !text.is_empty())
    });
    assert_eq!(answer, "served\n");
    let taken = sandbox.mydocker(&words(&["-p", "127.0.0.1:8099:80", "true"]));
    taken.refused(125, &["8099"]);
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(143);
}

fn names_are_answered_while_it_runs(sandbox: &Sandbox) {
    let script = "nslookup here 127.0.0.11 2>&1; cat /etc/resolv.conf; grep me /etc/hosts";
    let told = sandbox.mydocker(&words(&["--name", "here", "--hostname", "me", "sh", "-c", script])).ok();
    for wanted in ["10.10.10.2", "nameserver 127.0.0.11", "10.10.10.2\tme"] {
        assert!(told.stdout.contains(wanted), "{wanted}: {}", told.describe());
    }
}

fn a_network_that_is_not_there_is_refused(sandbox: &Sandbox) {
    sandbox.mydocker(&words(&["--network", "nosuch", "true"])).refused(125, &["nosuch"]);
    sandbox.mydocker(&words(&["--network", "none", "-p", "80", "true"])).refused(125, &["--publish"]);
}

fn what_a_killed_run_left_is_cleared_by_the_next(sandbox: &Sandbox) {
    let mut running =
        sandbox.spawn(&words(&["-p", "127.0.0.1:8098:80", "-m", "64m", "sh", "-c", "echo up; exec sleep 60"]));
    running.wait_for_stdout("up");
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait().code, 137);
    eventually("the container died with it", || sandbox.pids().is_empty().then_some(()));
    assert_eq!(claims(sandbox), 1);
    assert!(!sandbox.cgroups().is_empty());
    // Without a network of its own, and still the other's bridge, rules and cgroups go.
    run(sandbox, &["true"]).ok();
    assert_eq!((claims(sandbox), sandbox.cgroups().len()), (0, 0));
    sandbox.expect_clean_within(2);
}

fn runs_killed_at_any_moment_leave_nothing(sandbox: &Sandbox) {
    let whole = sandbox.mydocker(&words(&["true"])).ok().took;
    for step in 0..20_u32 {
        let running = sandbox.spawn(&words(&["true"]));
        std::thread::park_timeout(whole * step / 20);
        let _ = kill(running.pid(), Signal::SIGKILL);
        running.wait();
    }
    run(sandbox, &["true"]).ok();
    assert_eq!((claims(sandbox), sandbox.cgroups().len()), (0, 0));
    sandbox.expect_clean_within(2);
}

fn a_user_namespace_changes_no_owner_outside(sandbox: &Sandbox) {
    let owners = |path: &Path| {
        let mut all: Vec<(String, u32, u32)> = Vec::new();
        for entry in fs::read_dir(path).expect("the root file system") {
            let entry = entry.expect("an entry");
            let found = entry.metadata().expect("its metadata");
            all.push((entry.file_name().to_string_lossy().into_owned(), found.uid(), found.gid()));
        }
        all.sort();
        all
    };
    let before = owners(rootfs());
    let data = sandbox.dir().join("shared");
    fs::create_dir(&data).expect("our own");
    let bind = format!("{}:/shared:ro", data.display());
    let script =
        "touch /x /etc/y && chown 5:5 /x && stat -c %u:%g /x /etc/passwd && ls -d /shared && echo out >/dev/stderr";
    let told = run(sandbox, &["--uid-map", "0:200000:1000", "-v", &bind, "sh", "-c", script]).ok();
    assert_eq!(told.stdout, "5:5\n0:0\n/shared\n");
    assert_eq!(told.stderr, "out\n");
    assert_eq!(owners(rootfs()), before);
    let piped =
        sandbox.shell("\"$MYDOCKER\" -aU --network none sh -c 'echo to-the-name >/dev/stdout; id -u' | cat").ok();
    assert_eq!(piped.stdout, "to-the-name\n0\n");
}

fn volumes_of_all_kinds(sandbox: &Sandbox) {
    let data = sandbox.dir().join("made/by/us");
    let bind = format!("{}:/bound", data.display());
    run(
        sandbox,
        &["-v", &bind, "-v", "keep:/keep", "-v", "/own", "sh", "-c", "echo a >/bound/f; echo b >/keep/f; touch /own/f"],
    )
    .ok();
    assert_eq!(fs::read_to_string(data.join("f")).expect("written inside"), "a\n");
    let volumes = sandbox.data_dir().join("volumes");
    assert_eq!(fs::read_dir(&volumes).expect("it is there").count(), 1, "the container's own went with it");
    let mount = format!("type=bind,source={},target=/bound,readonly", data.display());
    let told = run(
        sandbox,
        &["--mount", &mount, "-v", "keep:/keep:ro", "sh", "-c", "cat /bound/f /keep/f; touch /bound/g /keep/g"],
    );
    assert_eq!(told.stdout, "a\nb\n");
    assert_eq!(told.stderr.matches("Read-only").count(), 2, "{}", told.describe());
    let full = run(sandbox, &["--tmpfs", "/t:size=1m", "sh", "-c", "dd if=/dev/zero of=/t/f bs=1M count=2"]);
    assert!(full.code != 0 && full.stderr.contains("No space"), "{}", full.describe());
    fs::remove_dir_all(volumes.join("keep")).expect("no command removes volumes yet");
}

fn variables_from_files_and_from_here(sandbox: &Sandbox) {
    let file = sandbox.dir().join("vars");
    fs::write(&file, "# a comment\nA=1\nHERE\nB=x=y\n").expect("our own");
    sandbox.set_env("HERE", "from-here");
    let told = run(sandbox, &["--env-file", file.to_str().expect("UTF-8"), "-e", "A=2", "env"]).ok();
    let mut found: Vec<&str> = told.stdout.lines().collect();
    found.sort_unstable();
    let host = found.iter().position(|line| line.starts_with("HOSTNAME=")).expect("it has a host name");
    found.remove(host);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(found, ["A=2", "B=x=y", "HERE=from-here", "HOME=/root", path]);
}
