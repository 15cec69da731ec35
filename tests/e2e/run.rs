//! `mydocker run` and the ancestor's form `mydocker -aUc …`.

use std::ffi::OsString;
use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::{Case, Output, Running, Sandbox, Terminal, cases, eventually, rootfs};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        exit_codes,
        what_is_printed_is_the_commands_own,
        stdin_reaches_the_command,
        a_terminal_when_asked_for,
        signals_are_passed_on,
        a_killed_mydocker_takes_its_container_along,
        roots_that_are_none,
        commands_that_are_none,
        options_of_the_command_are_not_ours,
        run_isolates_as_compose_does,
        run_on_the_bridge: Internet + Bridge,
        many_at_once: Bridge,
        help_of_the_ancestor,
        ranges_of_the_ancestor,
        the_ancestors_example: Bridge + Controllers,
        limits_of_the_ancestor_need_c,
        identity_of_the_ancestor: Bridge,
        rights_of_the_ancestor: Bridge,
        rootless_ids: Bridge,
    ]
}

/// `mydocker run --network none --rootfs R` and then `words`.
fn run(sandbox: &Sandbox, words: &[&str]) -> Output {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&[&["run", "--network", "none", "--rootfs", root], words].concat())
}

fn spawn(sandbox: &Sandbox, words: &[&str]) -> Running {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.spawn(&[&["run", "--network", "none", "--rootfs", root], words].concat())
}

/// `mydocker -a` with more flags, `--rootfs R` and then `words`.
fn ancestor(sandbox: &Sandbox, flags: &[&str], words: &[&str]) -> Output {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&[flags, &["--rootfs", root], words].concat())
}

fn exit_codes(sandbox: &Sandbox) {
    assert_eq!(run(sandbox, &["true"]).code, 0);
    assert_eq!(run(sandbox, &["sh", "-c", "exit 7"]).code, 7);
    // The kernel lets nobody inside kill PID 1, so it is not that.
    assert_eq!(run(sandbox, &["--init", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(run(sandbox, &["--init", "sh", "-c", "kill -USR1 $$"]).code, 138);
    run(sandbox, &["nosuch"]).refused(127, &["nosuch"]);
    run(sandbox, &["/etc/passwd"]).refused(126, &["/etc/passwd"]);
    run(sandbox, &[]).refused(125, &["command"]);
    sandbox.mydocker(&["run", "--nosuch"]).refused(125, &["--nosuch"]);
    sandbox.mydocker(&["run", "ubuntu", "true"]).refused(125, &["ubuntu", "root_fs"]);
}

fn what_is_printed_is_the_commands_own(sandbox: &Sandbox) {
    let told = run(sandbox, &["sh", "-c", "echo hi; echo oh >&2"]).ok();
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("hi\n", "oh\n"));
    let binary = run(sandbox, &["sh", "-c", "printf 'a\\033[31mb\\r\\nc'"]).ok();
    assert_eq!(binary.stdout, "a\x1b[31mb\r\nc", "byte-exact");
}

fn stdin_reaches_the_command(sandbox: &Sandbox) {
    let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let file = sandbox.dir().join("input");
    fs::write(&file, &text).expect("our own");
    let root = rootfs().to_str().expect("UTF-8");
    let words =
        [crate::support::MYDOCKER, "run", "-i", "--network", "none", "--rootfs", root, "cat"].map(OsString::from);
    let cat = sandbox.start(sandbox.dir(), &words, Stdio::from(fs::File::open(&file).expect("our own"))).wait().ok();
    assert!(cat.stdout == text, "{} of {} bytes", cat.stdout.len(), text.len());
    // Through pipes on both sides
    let piped = sandbox
        .shell("seq 100000 | \"$MYDOCKER\" run -i --network none --rootfs \"$MYDOCKER_ROOTFS\" cat | tail -n 1")
        .ok();
    assert_eq!(piped.stdout, "100000\n");
}

fn a_terminal_when_asked_for(sandbox: &Sandbox) {
    let root = rootfs().to_str().expect("UTF-8");
    let words =
        [crate::support::MYDOCKER, "run", "-it", "--network", "none", "--rootfs", root, "sh"].map(OsString::from);
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &words);
    terminal.write("tty; stty size; echo $((40 + 2))\n");
    terminal.wait_for("\r\n42\r\n");
    assert!(terminal.screen().contains("24 80"), "the size of the client's terminal: {}", terminal.screen());
    // The one that says so is in the foreground already: Ctrl-C finds it, whatever the outer shell is doing.
    terminal.write("sh -c \"echo be''gun; exec sleep 60\"\n");
    terminal.wait_for("\r\nbegun\r\n");
    terminal.interrupt();
    terminal.write("exit 3\n");
    let (code, screen) = terminal.wait();
    assert_eq!(code, 3, "Ctrl-C was for the sleep inside: {screen}");
    let refused = run(sandbox, &["-t", "true"]);
    assert!(refused.code == 0 || refused.stderr.contains("TTY"), "{}", refused.describe());
}

fn signals_are_passed_on(sandbox: &Sandbox) {
    let mut trap = spawn(
        sandbox,
        &["sh", "-c", "trap 'exit 31' TERM; trap 'echo usr1' USR1; echo ready; while true; do sleep 0.02; done"],
    );
    trap.wait_for_stdout("ready");
    trap.signal(Signal::SIGUSR1);
    trap.wait_for_stdout("usr1");
    trap.signal(Signal::SIGTERM);
    assert_eq!(trap.wait().code, 31);
}

fn a_killed_mydocker_takes_its_container_along(sandbox: &Sandbox) {
    let mut running = spawn(sandbox, &["sh", "-c", "echo up; exec sleep infinity"]);
    running.wait_for_stdout("up");
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait().code, 137);
    eventually("the container died with it", || sandbox.pids().is_empty().then_some(()));
    // What it left is taken away by the next one
    run(sandbox, &["true"]).ok();
}

fn roots_that_are_none(sandbox: &Sandbox) {
    let at = |root: &str| sandbox.mydocker(&["run", "--network", "none", "--rootfs", root, "true"]);
    at("/nosuch/root").refused(125, &["/nosuch/root"]);
    let empty = sandbox.dir().join("empty");
    fs::create_dir(&empty).expect("our own");
    at(empty.to_str().expect("UTF-8")).refused(125, &["empty"]);
    at("/etc/passwd").refused(125, &["/etc/passwd"]);
    at("/").refused(125, &["/"]).without_panic();
    let compose = sandbox.project(
        "rootless",
        "\n services:\n  one: {image: 'rootfs:./nosuch', network_mode: none, command: ['true']}\n",
    );
    compose.compose(&["up", "-d"]).refused(1, &["nosuch", "one"]);
    sandbox.set_env("MYDOCKER_ROOTFS", "/nosuch");
    sandbox.mydocker(&["run", "--network", "none", "root_fs", "true"]).refused(125, &["/nosuch", "root_fs/build"]);
}

fn commands_that_are_none(sandbox: &Sandbox) {
    // B37
    let script = "cd /tmp && mkdir dir && printf 'garbage' > bad && printf '#!/no/such/sh\\n' > script && chmod +x bad script && \
                  for c in nosuch /etc/passwd /tmp/dir /tmp/bad /tmp/script; do echo $c; done";
    run(sandbox, &["sh", "-c", script]).ok();
    let root = sandbox.dir().join("root");
    sandbox.host(&["cp", "-a", rootfs().to_str().expect("UTF-8"), root.to_str().expect("UTF-8")]).ok();
    fs::create_dir(root.join("tmp/dir")).expect("our own");
    for (name, text) in [("bad", "garbage\0\x01"), ("script", "#!/no/such/sh\n")] {
        fs::write(root.join("tmp").join(name), text).expect("our own");
        sandbox.host(&["chmod", "+x", root.join("tmp").join(name).to_str().expect("UTF-8")]).ok();
    }
    let at = |command: &str| {
        sandbox.mydocker(&["run", "--network", "none", "--rootfs", root.to_str().expect("UTF-8"), command])
    };
    at("nosuch").refused(127, &["nosuch"]);
    at("/etc/passwd").refused(126, &["/etc/passwd"]);
    at("/tmp/dir").refused(126, &["/tmp/dir"]);
    at("/tmp/bad").refused(126, &["/tmp/bad"]);
    at("/tmp/script").refused(127, &["/tmp/script", "interpreter"]);
    let project =
        sandbox.project("none", "\n services:\n  one: {image: root_fs, network_mode: none, command: [nosuch]}\n");
    project.compose(&["up", "-d"]).refused(1, &["nosuch", "one"]);
}

fn options_of_the_command_are_not_ours(sandbox: &Sandbox) {
    assert_eq!(run(sandbox, &["sh", "-c", "echo \"$0 $1\"", "a", "-b"]).ok().stdout, "a -b\n");
    assert_eq!(run(sandbox, &["--", "echo", "-C"]).ok().stdout, "-C\n");
    assert_eq!(
        ancestor(sandbox, &["-a", "--network", "none"], &["sh", "-c", "echo \"$0 $1\"", "a", "b"]).ok().stdout,
        "a b\n"
    );
    assert_eq!(ancestor(sandbox, &["-a", "--network", "none"], &["--", "echo", "-C"]).ok().stdout, "-C\n");
    let many: Vec<String> = (0..500).map(|number| format!("w{number}")).collect();
    let words: Vec<&str> = ["echo"].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert_eq!(run(sandbox, &words).ok().stdout.split_whitespace().count(), 500);
}

fn run_isolates_as_compose_does(sandbox: &Sandbox) {
    sandbox.set_env("CANARY", "must-not-travel");
    let told = run(
        sandbox,
        &[
            "-e",
            "A=b",
            "--hostname",
            "h2",
            "-w",
            "/tmp",
            "-u",
            "1000:1000",
            "sh",
            "-c",
            "env; pwd; hostname; id; ls /proc/self/fd; ps | wc -l; grep CapBnd /proc/self/status",
        ],
    )
    .ok();
    for wanted in ["A=b\n", "\n/tmp\n", "h2\n", "uid=1000", "00000000a80425fb"] {
        assert!(told.stdout.contains(wanted), "{wanted:?} in {}", told.stdout);
    }
    assert!(!told.stdout.contains("CANARY"), "{}", told.stdout);
    let held = sandbox
        .shell(
            // With `true` behind it, the shell stays PID 1 and does not become the ls.
            "exec 9</etc/passwd; \"$MYDOCKER\" run --network none --rootfs \"$MYDOCKER_ROOTFS\" sh -c 'ls /proc/1/fd; true'",
        )
        .ok();
    assert_eq!(held.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    let before = fs::read_dir(rootfs()).expect("there").count();
    run(sandbox, &["sh", "-c", "mkdir /x /y; echo z > /etc/passwd"]).ok();
    assert_eq!(fs::read_dir(rootfs()).expect("there").count(), before);
    let ro = run(sandbox, &["--read-only", "--tmpfs", "/t:size=1m", "sh", "-c", "touch /x; touch /t/x && echo fine"]);
    assert_eq!(ro.stdout, "fine\n", "{}", ro.describe());
}

fn run_on_the_bridge(sandbox: &Sandbox) {
    let root = rootfs().to_str().expect("UTF-8");
    let told = sandbox
        .mydocker(&[
            "run",
            "--rootfs",
            root,
            "sh",
            "-c",
            "ip -o -4 addr show eth0; ip route; ping -c 1 -W 2 10.10.10.1; wget -q -O - http://198.51.100.10/",
        ])
        .ok();
    assert!(
        told.stdout.contains("inet 10.10.10.") && told.stdout.contains("default via 10.10.10.1"),
        "{}",
        told.describe()
    );
    assert!(told.stdout.lines().any(|line| line.starts_with("192.0.2.2 ")), "through the NAT: {}", told.describe());
}

fn many_at_once(sandbox: &Sandbox) {
    let root = rootfs().to_str().expect("UTF-8");
    let all: Vec<Running> = (0..20)
        .map(|_| sandbox.spawn(&["run", "--rootfs", root, "sh", "-c", "ip -o -4 addr show eth0; sleep 1"]))
        .collect();
    let mut addresses: Vec<String> = all
        .into_iter()
        .map(|running| sandbox.finish(running, crate::support::PATIENCE * 2).ok().stdout)
        .map(|shown| shown.split_whitespace().nth(3).unwrap_or_default().to_owned())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 20, "{addresses:?}");
}

fn help_of_the_ancestor(sandbox: &Sandbox) {
    let help = sandbox.mydocker(&["-h"]).ok().stdout;
    for word in [
        "-a",
        "-U",
        "-c",
        "-M",
        "-C",
        "-P",
        "-I",
        "1-4294967296",
        "1073741824",
        "1-100",
        "25",
        "10-32768",
        "64",
        "10-1000",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    ancestor(sandbox, &["-U"], &["/bin/true"]).refused(125, &["-a"]);
    let root = rootfs().to_str().expect("UTF-8");
    let usage = sandbox.mydocker(&["-a", "--rootfs", root]);
    assert!(usage.code == 125 && usage.stderr.contains("mydocker -aUc"), "{}", usage.describe());
}

fn ranges_of_the_ancestor(sandbox: &Sandbox) {
    for (option, value, range) in [
        ("-M", "0", "4294967296"),
        ("-M", "4294967297", "4294967296"),
        ("-C", "0", "100"),
        ("-C", "101", "100"),
        ("-P", "9", "32768"),
        ("-P", "32769", "32768"),
        ("-I", "9", "1000"),
        ("-I", "1001", "1000"),
        ("-M", "5x", "4294967296"),
        ("-C", "", "100"),
        ("-P", "abc", "32768"),
    ] {
        ancestor(sandbox, &["-ac", option, value], &["/bin/true"]).refused(125, &[option, range]);
    }
}

fn the_ancestors_example(sandbox: &Sandbox) {
    let root = rootfs().to_str().expect("UTF-8");
    let mut running = sandbox.spawn(&[
        "-aUc",
        "-C",
        "50",
        "-I",
        "20",
        "-P",
        "333",
        "--rootfs",
        root,
        "sh",
        "-c",
        "echo up; exec sleep 60",
    ]);
    running.wait_for_stdout("up");
    let limit = |names: &[&str]| sandbox.cgroup_file("", names);
    assert_eq!(limit(&["memory.limit_in_bytes", "memory.max"]).as_deref(), Some("1073741824"));
    assert_eq!(limit(&["pids.max"]).as_deref(), Some("333"));
    let cpu = limit(&["cpu.shares"]).or_else(|| limit(&["cpu.weight"]));
    assert!(matches!(cpu.as_deref(), Some("512" | "50")), "{cpu:?}");
    if let Some(weight) = limit(&["blkio.weight", "blkio.bfq.weight", "io.bfq.weight"]) {
        assert!(weight.ends_with("20"), "{weight}");
    }
    running.signal(Signal::SIGTERM);
    let ended = running.wait();
    assert!(ended.code == 143 || ended.code == 137, "{}", ended.describe());
}

fn limits_of_the_ancestor_need_c(sandbox: &Sandbox) {
    ancestor(sandbox, &["-a", "-C", "50"], &["/bin/true"]).refused(125, &["-c"]);
}

fn identity_of_the_ancestor(sandbox: &Sandbox) {
    let told = ancestor(sandbox, &["-a"], &["sh", "-c", "hostname; ip -o -4 addr show eth0; ip -o link show lo"]).ok();
    assert!(told.stdout.starts_with("container\n") && told.stdout.contains("inet 10.10.10."), "{}", told.describe());
    assert!(told.stdout.contains("UP"), "lo is up: {}", told.describe());
}

fn rights_of_the_ancestor(sandbox: &Sandbox) {
    let told =
        ancestor(sandbox, &["-a", "--network", "none"], &["grep", "-E", "^(Cap|NoNew|Seccomp:)", "/proc/self/status"])
            .ok()
            .stdout;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000000425eb",
        "CapEff:\t00000000000425eb",
        "CapBnd:\t00000000000425eb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let denied = ancestor(
        sandbox,
        &["-a", "--network", "none"],
        &["sh", "-c", "touch /tmp/x && chmod 755 /tmp/x && chmod u+s /tmp/x"],
    );
    assert!(denied.code != 0 && denied.stderr.contains("Operation not permitted"), "{}", denied.describe());
    let no_socket =
        ancestor(sandbox, &["-a", "--seccomp", "ancestor", "--network", "none"], &["ping", "-c", "1", "127.0.0.1"]);
    // As busybox puts EPERM of socket(2).
    assert!(no_socket.code != 0 && no_socket.stderr.contains("permission denied"), "{}", no_socket.describe());
}

fn rootless_ids(sandbox: &Sandbox) {
    let told = ancestor(
        sandbox,
        &["-aU", "--network", "none"],
        &["sh", "-c", "cat /proc/self/uid_map; id -u; cat /proc/self/setgroups; touch /tmp/x /x && echo written"],
    )
    .ok();
    let map: Vec<&str> = told.stdout.split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "65536", "0", "deny", "written"], "{}", told.describe());
}
