//! Many containers one after the other, and one whose every system call of weight fails or is its last: nothing hangs, nothing is left.
//!
//! By default a part of it; `MYDOCKER_TEST_CONTAINERS=1000 cargo test --test endurance` does it all: so many containers each way, killed
//! where one takes longer than three seconds, ten times as many commands in a container that runs, and a fault at every call.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use serde_json::json;

#[expect(dead_code, unused_imports, reason = "the harness serves the other tests, too")]
mod support;

use support::{Case, MYDOCKER, Output, PATIENCE, Sandbox, cases, eventually, rootfs};

fn main() -> ExitCode {
    // What a command leaves running becomes our child when it ends, and would be seen.
    nix::sys::prctl::set_child_subreaper(true).expect("prctl(2) knows it since Linux 3.4");
    support::run_one_by_one(all_cases())
}

fn all_cases() -> Vec<Case> {
    cases![
        many_runs,
        many_runs_of_a_bundle,
        many_bundles_step_by_step,
        many_commands_in_a_bundle,
        run_when_a_call_fails: Strace,
        run_when_a_call_is_the_last: Strace,
        a_bundle_when_a_call_fails: Strace,
        a_bundle_when_a_call_is_the_last: Strace,
        // The last: from there on nobody becomes our child.
        many_commands_in_a_project,
    ]
}

fn asked() -> Option<usize> {
    std::env::var("MYDOCKER_TEST_CONTAINERS").ok().and_then(|text| text.parse().ok())
}

fn containers() -> usize {
    let quick = std::env::var_os("MYDOCKER_TEST_QUICK").is_some();
    asked().unwrap_or(if quick { 5 } else { 25 })
}

/// Every how many-th call fails.
fn stride() -> usize {
    if asked().is_some() { 1 } else { 9 }
}

/// How long one command may take.
fn limit() -> Duration {
    asked().map_or(PATIENCE, |_| Duration::from_secs(3))
}

/// Takes the children of this process that have ended and that nobody waits for: tests run one by one.
fn reap() -> usize {
    let mut count = 0;
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return count,
            Ok(_) => count += 1,
            Err(errno) => assert_eq!(errno, Errno::EINTR),
        }
    }
}

fn run_words() -> Vec<OsString> {
    let root = rootfs().as_os_str();
    let words = [MYDOCKER, "run", "--network", "none", "--memory", "64m", "--rootfs"].map(OsString::from);
    words.into_iter().chain([root.to_owned(), "/bin/true".into()]).collect()
}

/// A bundle that runs /bin/true, with a bit of everything that leaves something on the host.
fn bundle(sandbox: &Sandbox) -> PathBuf {
    let dir = sandbox.dir().join("bundle");
    fs::create_dir_all(dir.join("x")).expect("a directory of our own");
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let hook = json!({ "path": "/bin/true", "args": ["true"] });
    let config = json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 1000, "gid": 1000, "additionalGids": [4] },
            "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }],
        },
        "root": { "path": rootfs(), "readonly": true },
        "hostname": "box",
        "hooks": { "createRuntime": [hook], "poststart": [hook], "poststop": [hook] },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] },
            { "destination": "/tmp", "type": "bind", "source": "x", "options": ["rbind", "ro"] },
        ],
        "linux": {
            "namespaces": kinds,
            "sysctl": { "net.ipv4.ip_forward": "1" },
            "resources": { "memory": { "limit": 67_108_864 }, "pids": { "limit": 50 } },
            "maskedPaths": ["/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_ERRNO" }] },
        },
    });
    fs::write(dir.join("config.json"), config.to_string()).expect("a file of our own");
    dir
}

fn bundle_words(sandbox: &Sandbox, command: &str) -> Vec<OsString> {
    let dir = bundle(sandbox).into_os_string();
    [MYDOCKER, "oci", command, "web", "--bundle"].map(OsString::from).into_iter().chain([dir]).collect()
}

fn finish(sandbox: &Sandbox, words: &[OsString]) -> Output {
    sandbox.finish(sandbox.start(sandbox.dir(), words, Stdio::null()), limit())
}

/// Asserts that nothing is there of any container.
fn expect_nothing(sandbox: &Sandbox, what: &str) {
    eventually(&format!("no process is left of {what}"), || sandbox.processes().is_empty().then_some(()));
    assert!(sandbox.cgroups().is_empty(), "{what}: cgroups are left: {:?}", sandbox.cgroups());
    for dir in ["run/oci", "run/foreground", "data/containers"] {
        let left: Vec<_> = fs::read_dir(sandbox.dir().join(dir)).expect("it is there").flatten().collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

fn many(sandbox: &Sandbox, words: &[OsString]) {
    for number in 0..containers() {
        finish(sandbox, words).ok();
        assert_eq!(reap(), 0, "container {number} left a process");
    }
    expect_nothing(sandbox, "many containers");
}

fn many_runs(sandbox: &Sandbox) {
    many(sandbox, &run_words());
}

fn many_runs_of_a_bundle(sandbox: &Sandbox) {
    many(sandbox, &bundle_words(sandbox, "run"));
}

/// As an engine does it, whose child the container becomes.
fn many_bundles_step_by_step(sandbox: &Sandbox) {
    let create = bundle_words(sandbox, "create");
    let word = |command: &str| [MYDOCKER, "oci", command, "web"].map(OsString::from);
    for number in 0..containers() {
        finish(sandbox, &create).ok();
        finish(sandbox, &word("start")).ok();
        let mut reaped = 0;
        eventually("the container is our child, and ends", || {
            reaped += reap();
            (reaped > 0).then_some(())
        });
        finish(sandbox, &word("delete")).ok();
        assert_eq!((reaped, reap()), (1, 0), "container {number}");
    }
    expect_nothing(sandbox, "many containers");
}

/// How much more memory or descriptors something may have after many commands than after the first of them: caches settle, a leak
/// goes on.
const SLACK_KIB: u64 = 512;

/// Runs `command` so often that what it needs once is there, looks, runs it ten times as often as there are containers elsewhere, and
/// looks again.
fn flat(command: impl Fn(), look: impl Fn() -> BTreeMap<String, u64>) {
    let often = |count: usize| {
        for number in 0..count {
            command();
            assert_eq!(reap(), 0, "command {number} left a process");
        }
    };
    often(containers().max(20));
    let before = look();
    assert!(before.values().all(|value| *value > 0), "nothing was measured: {before:?}");
    often(10 * containers());
    let after = look();
    println!("before {before:?}, after {after:?}");
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (what, now) in after {
        let slack = if what.ends_with("KiB") { SLACK_KIB } else { 2 };
        assert!(now <= before[&what] + slack, "{what}: {} before, {now} now", before[&what]);
    }
}

/// The runtime ends with each command. What could grow is what the kernel keeps for the container, and the files of its state.
fn many_commands_in_a_bundle(sandbox: &Sandbox) {
    // Naming the bundle writes it.
    let run = [bundle_words(sandbox, "run"), vec!["--detach".into()]].concat();
    let config = sandbox.dir().join("bundle/config.json");
    let text = fs::read_to_string(&config).expect("it was written");
    let sleeps = text.replacen(r#"["/bin/true"]"#, r#"["/bin/sleep","1000000"]"#, 1);
    fs::write(&config, sleeps).expect("a file of our own");
    finish(sandbox, &run).ok();
    let exec = [MYDOCKER, "oci", "exec", "web", "/bin/true"].map(OsString::from);
    let memory = || {
        let files = ["memory.current", "memory.usage_in_bytes"];
        let text = sandbox.cgroup_file("web", &files).expect("memory is counted");
        let bytes: u64 = text.trim().parse().expect("a number");
        let files = fs::read_dir(sandbox.dir().join("run/oci/web")).expect("its state is there").count();
        BTreeMap::from([("the container's cgroup, KiB".to_owned(), bytes / 1024), ("its files".into(), files as u64)])
    };
    flat(|| drop(finish(sandbox, &exec).ok()), memory);
    finish(sandbox, &[MYDOCKER, "oci", "delete", "--force", "web"].map(OsString::from)).ok();
    eventually("the container is our child, and ends", || (reap() > 0).then_some(()));
    expect_nothing(sandbox, "many commands");
}

/// Here three processes of ours live on.
fn many_commands_in_a_project(sandbox: &Sandbox) {
    // The keeper is to be nobody's child, and the one by which the harness clears up is not either.
    nix::sys::prctl::set_child_subreaper(false).expect("prctl(2) knows it since Linux 3.4");
    let yaml = "services: {web: {image: root_fs, network_mode: none, init: true, command: [sleep, '1000000']}}\n";
    let project = sandbox.project("flat", yaml);
    project.up();
    project.wait_running("web");
    let memory = || {
        let mut all = BTreeMap::new();
        for pid in sandbox.processes() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // What is private and dirty is its own; the rest are pages of the program, which come and go.
            let Some(role) = name.trim().strip_prefix("mydocker-") else { continue };
            let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let own = memory.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
            let own = own.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0);
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
            all.extend([(format!("{role}, KiB"), own), (format!("descriptors of {role}"), fds)]);
        }
        assert!(all.len() >= 6, "keeper, shim and supervisor are there: {all:?}");
        all
    };
    flat(|| drop(project.exec("web", &["/bin/true"]).ok()), memory);
    project.down();
}

/// The calls that change something, or that somebody waits in. What the C library and the allocator need for themselves is not here.
const CALLS: &str = "accept4,bind,bpf,capset,chdir,clone3,close_range,connect,dup3,execve,fchdir,fchmod,fchmodat,fchown,fchownat,fcntl,\
    flock,fsconfig,fsmount,fsopen,ftruncate,getdents64,ioctl,linkat,listen,memfd_create,mkdir,mkdirat,mknodat,mount_setattr,\
    move_mount,open_tree,openat,openat2,pidfd_open,pidfd_send_signal,pipe2,pivot_root,poll,ppoll,prctl,prlimit64,recvmsg,rename,\
    renameat,renameat2,rmdir,seccomp,sendmsg,setgroups,sethostname,setns,setresgid,setresuid,setsid,signalfd4,socketpair,\
    symlinkat,umount2,unlink,unlinkat,unshare,waitid,write";

/// Counts how often each call is made by the process that makes it most often.
fn count_calls(sandbox: &Sandbox, words: &[OsString]) -> BTreeMap<String, usize> {
    let file = sandbox.dir().join("trace");
    let trace = ["strace", "-f", "-e", &format!("trace={CALLS}"), "-o", file.to_str().expect("made of ASCII")];
    let all: Vec<OsString> = trace.iter().map(OsString::from).chain(words.iter().cloned()).collect();
    sandbox.finish(sandbox.start(sandbox.dir(), &all, Stdio::null()), PATIENCE).ok();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(&file).expect("strace wrote it").lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        *counts.entry((pid.to_owned(), name.to_owned())).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts.into_iter().filter(|((_, name), _)| CALLS.contains(name.as_str())) {
        let known = most.entry(name).or_insert(0);
        *known = count.max(*known);
    }
    most
}

/// Runs `words` again and again, each time with `fault` at another call; then `mend`, after which nothing may be there.
fn sweep(sandbox: &Sandbox, words: &[OsString], fault: &str, mend: impl Fn()) {
    finish(sandbox, words).ok();
    let calls = count_calls(sandbox, words);
    assert!(calls.len() > 30, "strace saw no more than {calls:?}");
    let all = calls.iter().flat_map(|(name, count)| (1..=*count).map(move |number| (name, number)));
    for (name, number) in all.step_by(stride()) {
        let what = format!("{name}:{fault}:when={number}");
        let strace =
            ["strace", "-f", "-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &format!("inject={what}")];
        let all: Vec<OsString> = strace.iter().map(OsString::from).chain(words.iter().cloned()).collect();
        let running = sandbox.start(sandbox.dir(), &all, Stdio::null());
        let output = sandbox.finish(running, limit().max(Duration::from_secs(10))).without_panic();
        // 134: Rust's runtime asks poll(2) about the standard streams before anything of ours begins, and aborts where that fails.
        assert!([0, 1, 2, 125, 126, 127, 134, 137].contains(&output.code), "{what}: {}", output.describe());
        mend();
        reap();
        expect_nothing(sandbox, &what);
    }
}

/// What a run that was hindered left, the next clears.
fn sweep_run(sandbox: &Sandbox, fault: &str) {
    let words = run_words();
    sweep(sandbox, &words, fault, || drop(finish(sandbox, &words).ok()));
}

fn sweep_bundle(sandbox: &Sandbox, fault: &str) {
    let delete = [MYDOCKER, "oci", "delete", "--force", "web"].map(OsString::from);
    let words = bundle_words(sandbox, "run");
    sweep(sandbox, &words, fault, || {
        finish(sandbox, &delete).ok();
        // An empty parent of cgroups goes with the next container's.
        if !sandbox.cgroups().is_empty() {
            finish(sandbox, &words).ok();
        }
    });
}

fn run_when_a_call_fails(sandbox: &Sandbox) {
    sweep_run(sandbox, "error=EIO");
}

fn run_when_a_call_is_the_last(sandbox: &Sandbox) {
    sweep_run(sandbox, "signal=KILL");
}

fn a_bundle_when_a_call_fails(sandbox: &Sandbox) {
    sweep_bundle(sandbox, "error=EIO");
}

fn a_bundle_when_a_call_is_the_last(sandbox: &Sandbox) {
    sweep_bundle(sandbox, "signal=KILL");
}
