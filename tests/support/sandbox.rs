//! A host for one test: a network and a mount namespace, run and data directories, a parent for cgroups.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::{Output, Running};
use super::project::Project;
use super::wait::PATIENCE;

/// So many of the last commands are shown where a test fails.
const SHOWN: usize = 12;

/// The binary under test.
pub(crate) const MYDOCKER: &str = env!("CARGO_BIN_EXE_mydocker");

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A root filesystem for all tests, made once by the project's own script.
pub(crate) fn rootfs() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("root_fs");
        let made = Command::new(root().join("root_fs/build")).arg(&target).output().expect("root_fs/build starts");
        assert!(made.status.success(), "root_fs/build: {}", String::from_utf8_lossy(&made.stderr));
        target
    })
}

/// The host of one test.
pub(crate) struct Sandbox {
    token: String,
    dir: PathBuf,
    /// Holds the two namespaces until its stdin ends, which it does with us, however we end.
    holder: Child,
    lab: bool,
    serial: Cell<u32>,
    environment: RefCell<Vec<(OsString, OsString)>>,
    projects: RefCell<Vec<PathBuf>>,
    transcript: RefCell<Vec<String>>,
}

impl Sandbox {
    /// A host with nothing but a loopback interface.
    pub(crate) fn new(name: &str) -> Self {
        Self::make(name, false)
    }

    /// A host in the NAT lab: interface `up0` with 192.0.2.2, and 198.51.100.10 beyond it.
    pub(crate) fn with_internet(name: &str) -> Self {
        Self::make(name, true)
    }

    fn make(name: &str, lab: bool) -> Self {
        let short: String = name.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let unique = tempfile::Builder::new().prefix(&format!("mdt-{short}-")).tempdir().expect("a directory in /tmp");
        let dir = unique.keep();
        let token = dir.file_name().and_then(OsStr::to_str).expect("made of ASCII").to_owned();
        // The first level of both directories stays, as /var/lib does; what is found in it later counts.
        for (part, mode) in [
            ("run/projects", 0o700),
            ("run/foreground", 0o700),
            ("run/oci", 0o700),
            ("run/networks/attachments", 0o700),
            ("run/networks/names", 0o700),
            ("run/networks/records", 0o700),
            ("data/containers", 0o711),
            ("data/volumes", 0o711),
            ("out", 0o700),
        ] {
            DirBuilder::new().recursive(true).mode(mode).create(dir.join(part)).expect("an empty directory");
        }
        for lock in ["allocation.lock", "firewall.lock"] {
            File::create(dir.join("run/networks").join(lock)).expect("a file of our own");
        }
        let mut hold = if lab {
            run_lab(&token, "up");
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/natlab-{token}-host")).args(["--", "unshare", "--mount"]);
            command
        } else {
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount"]);
            command
        };
        hold.args(["sh", "-c", "ip link set lo up; echo ready; exec cat"]);
        let mut holder = hold.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut line).expect("the namespaces are made");
        assert_eq!(line, "ready\n", "making the namespaces of {token}");
        let sandbox = Self {
            token,
            dir,
            holder,
            lab,
            serial: Cell::new(0),
            environment: RefCell::new(Vec::new()),
            projects: RefCell::new(Vec::new()),
            transcript: RefCell::new(Vec::new()),
        };
        sandbox.leak_check("save", 0).ok();
        sandbox
    }

    /// A name that no other sandbox has; also the parent of its cgroups.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The sandbox's own directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The run directory of this sandbox's mydocker.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The data directory of this sandbox's mydocker.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Sets a variable for every later command.
    pub(crate) fn set_env(&self, name: &str, value: impl AsRef<OsStr>) {
        self.environment.borrow_mut().push((name.into(), value.as_ref().to_owned()));
    }

    /// Writes `yaml` as a project's compose file.
    pub(crate) fn project(&self, name: &str, yaml: &str) -> Project<'_> {
        let dir = self.dir.join("projects").join(name);
        fs::create_dir_all(&dir).expect("a directory of our own");
        let file = dir.join("compose.yaml");
        fs::write(&file, yaml).expect("a file of our own");
        Project::new(self, name, file)
    }

    /// Remembers a file whose project has to be taken down in the end.
    pub(super) fn remember(&self, file: &Path) {
        let mut projects = self.projects.borrow_mut();
        if !projects.iter().any(|known| known == file) {
            projects.push(file.to_owned());
        }
    }

    /// Runs `mydocker` and waits for its end.
    #[track_caller]
    pub(crate) fn mydocker<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.finish(self.spawn(arguments), PATIENCE)
    }

    /// Starts `mydocker`.
    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        let mut words = vec![OsString::from(MYDOCKER)];
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        self.start(&self.dir, &words, Stdio::null())
    }

    /// Runs any program on the sandbox's host.
    #[track_caller]
    pub(crate) fn host<S: AsRef<OsStr>>(&self, words: &[S]) -> Output {
        let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
        self.finish(self.start(&self.dir, &words, Stdio::null()), PATIENCE)
    }

    /// Runs a shell script on the sandbox's host; `$MYDOCKER` is the binary.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> Output {
        self.host(&["sh", "-c", script])
    }

    /// Starts a shell script on the sandbox's host.
    pub(crate) fn spawn_shell(&self, script: &str) -> Running {
        self.start(&self.dir, &["sh", "-c", script].map(OsString::from), Stdio::null())
    }

    /// Starts any program on the sandbox's host in `directory`.
    pub(crate) fn start(&self, directory: &Path, words: &[OsString], stdin: Stdio) -> Running {
        let number = self.serial.get();
        self.serial.set(number + 1);
        let stdout = self.dir.join(format!("out/{number}.stdout"));
        let stderr = self.dir.join(format!("out/{number}.stderr"));
        let child = self
            .command(directory, words)
            .stdin(stdin)
            .stdout(File::create(&stdout).expect("a file of our own"))
            .stderr(File::create(&stderr).expect("a file of our own"))
            .spawn()
            .expect("nsenter starts");
        let shown: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        Running { child, command: shown.join(" "), stdout, stderr, begun: Instant::now() }
    }

    /// A command that will run on the sandbox's host; it becomes `words` by nothing but exec, so the pid stays.
    pub(crate) fn command(&self, directory: &Path, words: &[OsString]) -> Command {
        let holder = self.holder.id();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{holder}/ns/net"))
            .arg(format!("--mount=/proc/{holder}/ns/mnt"))
            .args(["--", "sh", "-c", "cd \"$0\" && exec \"$@\""])
            .arg(directory)
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
            .env("HOME", "/root")
            .env("TERM", "xterm")
            .env("RUST_BACKTRACE", "1")
            .env("MYDOCKER", MYDOCKER)
            .env("MYDOCKER_MARK", &self.token)
            .env("MYDOCKER_RUN_DIR", self.run_dir())
            .env("MYDOCKER_DATA_DIR", self.data_dir())
            .env("MYDOCKER_CGROUP_PARENT", format!("/{}", self.token))
            .env("MYDOCKER_ROOTFS", rootfs());
        command.envs(self.environment.borrow().iter().cloned());
        command
    }

    /// Runs `work` in the sandbox's mount namespace.
    pub(crate) fn inside_mounts(&self, work: impl FnOnce() + Send) {
        let namespace = File::open(format!("/proc/{}/ns/mnt", self.holder.id())).expect("the holder lives");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // Who shares its root and working directory with others may not change to other mounts.
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).expect("nothing forbids it");
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNS).expect("root may");
                work();
            });
            inside.join().expect("the work is done");
        });
    }

    /// Waits for a program and notes what it did for the message of a failure.
    #[track_caller]
    pub(crate) fn finish(&self, running: Running, limit: Duration) -> Output {
        let output = running.wait_within(limit);
        let mut text = output.describe();
        if let Some((end, _)) = text.char_indices().nth(3000) {
            text.truncate(end);
            text.push_str(" …");
        }
        self.transcript.borrow_mut().push(text);
        output
    }

    /// What was run here last and what came of it.
    pub(crate) fn transcript(&self) -> String {
        let all = self.transcript.borrow();
        let first = all.len().saturating_sub(SHOWN);
        let more = if first > 0 { format!("({first} more before)\n") } else { String::new() };
        more + &all[first..].join("\n")
    }

    /// The directories of a container's or project's cgroup below this sandbox's parent, in every hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        cgroup_roots()
            .into_iter()
            .map(|root| root.join(&self.token))
            .filter(|dir| dir.exists())
            .flat_map(|dir| tree(&dir))
            .collect()
    }

    /// Reads a file of the deepest of this sandbox's cgroups whose path contains `part`: the first of `names` (as v1 and v2 have it)
    /// that is there in any hierarchy.
    pub(crate) fn cgroup_file(&self, part: &str, names: &[&str]) -> Option<String> {
        let of_part = self.cgroups().into_iter().filter(|dir| dir.to_string_lossy().contains(part));
        let files = of_part.flat_map(|dir| names.iter().map(move |name| dir.join(name)).collect::<Vec<_>>());
        let deepest = files.filter(|file| file.exists()).max_by_key(|file| file.components().count())?;
        fs::read_to_string(deepest).ok().map(|text| text.trim().to_owned())
    }

    /// Pids of everything below this sandbox's cgroup parent.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let lists = self.cgroups().into_iter().map(|dir| dir.join("cgroup.procs"));
        let mut pids: Vec<i32> = lists
            .filter_map(|list| fs::read_to_string(list).ok())
            .flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().map(Pid::from_raw).collect()
    }

    /// Pids of everything that runs in this sandbox's mount namespace or below its cgroup parent, less what holds the sandbox itself.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let holder = self.holder.id().to_string();
        let ours = namespace(&holder);
        let all = fs::read_dir("/proc")
            .expect("/proc is mounted")
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let here = all.filter(|pid| *pid != holder && ours.is_some() && namespace(pid) == ours);
        let mut pids: Vec<Pid> =
            here.filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).chain(self.pids()).collect();
        pids.sort_unstable();
        pids.dedup();
        // The holder's shell is its only child.
        pids.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|text| !text.contains(&format!("PPid:\t{holder}\n")))
        });
        pids
    }

    /// Waits until nothing of mydocker runs here any more; the last process may end a moment after its client.
    #[track_caller]
    pub(crate) fn expect_quiet(&self) {
        super::wait::eventually("nothing runs when nothing runs", || self.processes().is_empty().then_some(()));
    }

    /// Takes all projects down and compares the host with what it was at first.
    #[track_caller]
    pub(crate) fn expect_clean(&self) {
        for file in self.projects.take() {
            let arguments: [&OsStr; 5] =
                ["compose".as_ref(), "-f".as_ref(), file.as_os_str(), "down".as_ref(), "-t1".as_ref()];
            self.mydocker(&arguments).ok();
        }
        self.expect_clean_within(5);
    }

    /// Compares the host with what it was at first; what is on its way out has so many seconds for that.
    #[track_caller]
    pub(crate) fn expect_clean_within(&self, seconds: u32) {
        let difference = self.leak_check("compare", seconds);
        assert_eq!(difference.code, 0, "something is left behind:\n{}{}", difference.stdout, difference.stderr);
    }

    fn leak_check(&self, action: &str, seconds: u32) -> Output {
        let mut words = vec![
            root().join("tools/leak-check").into_os_string(),
            action.into(),
            self.dir.join("before").into_os_string(),
        ];
        words.extend(["--mark".into(), self.token.clone().into(), "--wait".into(), seconds.to_string().into()]);
        for dir in [self.run_dir(), self.data_dir().join("containers")] {
            words.extend(["--dir".into(), dir.into_os_string()]);
        }
        let mut command = self.command(&self.dir, &words);
        // What carries the mark is counted, so the counter must not.
        let begun = Instant::now();
        let done = command
            .env_remove("MYDOCKER_MARK")
            .env_remove("MYDOCKER_RUN_DIR")
            .env_remove("MYDOCKER_DATA_DIR")
            .output()
            .expect("leak-check starts");
        Output {
            command: format!("leak-check {action}"),
            code: super::command::code(done.status),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
            took: begun.elapsed(),
        }
    }

    /// Ends whatever is still there; after a test that passed that is nothing.
    fn sweep(&mut self) {
        // Twice: what was started while the first round ended.
        for _ in 0..2 {
            for pid in self.processes().into_iter().chain(marked_processes(&self.token)) {
                let _ = kill(pid, Signal::SIGCONT);
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        for dir in self.cgroups().iter().rev() {
            let _ = fs::remove_dir(dir);
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if self.lab {
            run_lab(&self.token, "down");
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.sweep();
    }
}

fn run_lab(token: &str, action: &str) {
    let done = Command::new(root().join("tools/lab/nat-lab.sh"))
        .arg(action)
        .envs([("NATLAB_ID", token), ("NATLAB_CONTAINERS", "0"), ("NATLAB_FORWARD", "0"), ("NATLAB_NAT", "none")])
        .output()
        .expect("nat-lab.sh starts");
    assert!(done.status.success(), "nat-lab.sh {action}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Mount points of every cgroup hierarchy.
fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let cgroups = mounts.lines().filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "));
    cgroups.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// A directory and all below it, parents first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    found
}

fn marked_processes(token: &str) -> Vec<Pid> {
    let mark = format!("MYDOCKER_MARK={token}");
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let marked = processes.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    });
    marked.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
}
