//! `compose up` and `down` of 1, 5, 20 and 50 services, the way to the first log line, a chain of health checks, a restart after
//! SIGKILL, and the memory of the three processes; beside the recorded figures of docker and podman.
//!
//! Runs in a network and mount namespace of its own, with run and data directories and a cgroup parent of its own:
//! `cargo bench --bench compose`. A first argument that is a number is the number of runs of each.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MYDOCKER: &str = env!("CARGO_BIN_EXE_mydocker");
const INSIDE: &str = "MYDOCKER_BENCH_INSIDE";

/// Recorded on the development machine when quiet, in seconds: docker 28.5 with compose 2.40, podman 5.4 with podman-compose 1.6.
const RECORDED: &[(&str, f64, Option<f64>)] = &[
    ("up -d, 1", 0.47, Some(0.55)),
    ("up -d, 5", 0.85, Some(1.65)),
    ("up -d, 20", 3.0, Some(5.2)),
    ("up -d, 50", 6.9, None),
    ("down, 1", 0.54, Some(0.64)),
    ("down, 5", 0.83, Some(1.2)),
    ("down, 20", 2.6, Some(3.0)),
    ("down, 50", 4.9, None),
    ("first log line", 0.48, Some(0.58)),
    ("healthy chain of 5", 3.4, None),
    ("restart after SIGKILL", 0.31, None),
];

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("we are running");
        let error = Command::new("unshare")
            .args(["--net", "--mount", "--"])
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        panic!("unshare: {error}");
    }
    let runs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10);
    Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip starts");
    let bench = Bench::new();
    let mut table = Table::default();
    for count in [1, 5, 20, 50] {
        let (up, down) = bench.up_and_down(count, runs);
        table.row(&format!("up -d, {count}"), up);
        table.row(&format!("down, {count}"), down);
    }
    table.row("first log line", bench.first_line(runs));
    table.row("healthy chain of 5", bench.healthy_chain(runs));
    table.row("restart after SIGKILL", bench.restart(runs));
    table.print();
    bench.memory();
}

/// Times by name, printed at the end with what was recorded of others.
#[derive(Default)]
struct Table {
    rows: Vec<(String, Vec<Duration>)>,
}

impl Table {
    fn row(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort();
        self.rows.push((name.to_owned(), times));
    }

    fn print(&self) {
        println!(
            "{:<24} {:>8} {:>8} {:>8}   {:>8} {:>6}   {:>8} {:>6}",
            "seconds", "min", "median", "p95", "docker*", "ratio", "podman*", "ratio"
        );
        for (name, times) in &self.rows {
            let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64();
            let median = at(50);
            let recorded = RECORDED.iter().find(|(known, ..)| known == name);
            let other = |value: Option<f64>| {
                value.map_or_else(
                    || format!("{:>8} {:>6}", "–", "–"),
                    |value| format!("{value:>8.2} {:>5.1}x", value / median),
                )
            };
            let (docker, podman) = (other(recorded.map(|row| row.1)), other(recorded.and_then(|row| row.2)));
            println!("{name:<24} {:>8.4} {median:>8.4} {:>8.4}   {docker}   {podman}", at(0), at(95));
        }
        println!("* recorded on the development machine, not in this run");
    }
}

struct Bench {
    dir: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("mydocker-bench-").tempdir().expect("a directory").keep();
        let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("root_fs/build"))
            .arg(dir.join("rootfs"))
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "root_fs/build");
        Self { dir }
    }

    fn command(&self, project: &str, words: &[&str]) -> Command {
        let token = self.dir.file_name().expect("named").to_string_lossy().into_owned();
        let mut command = Command::new(MYDOCKER);
        command
            .args(["compose", "-p", project, "-f"])
            .arg(self.dir.join(project))
            .args(words)
            .env("MYDOCKER_RUN_DIR", self.dir.join("run"))
            .env("MYDOCKER_DATA_DIR", self.dir.join("data"))
            .env("MYDOCKER_CGROUP_PARENT", format!("/{token}"))
            .env("MYDOCKER_ROOTFS", self.dir.join("rootfs"))
            .stdin(Stdio::null());
        command
    }

    fn compose(&self, project: &str, words: &[&str]) -> (Duration, Output) {
        let begun = Instant::now();
        let done = self.command(project, words).output().expect("it starts");
        let took = begun.elapsed();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        (took, done)
    }

    fn write(&self, project: &str, yaml: &str) {
        fs::write(self.dir.join(project), yaml).expect("our own file");
    }

    fn steady(&self, project: &str, count: usize) {
        let services: String = (0..count)
            .map(|number| format!("  s{number}: {{image: root_fs, init: true, command: [sleep, infinity]}}\n"))
            .collect();
        self.write(project, &format!("services:\n{services}"));
    }

    fn up_and_down(&self, count: usize, runs: usize) -> (Vec<Duration>, Vec<Duration>) {
        let project = format!("steady{count}");
        self.steady(&project, count);
        (0..runs).map(|_| (self.compose(&project, &["up", "-d"]).0, self.compose(&project, &["down"]).0)).unzip()
    }

    /// From the start of `up` to the first line of a service on its stdout.
    fn first_line(&self, runs: usize) -> Vec<Duration> {
        use std::io::{BufRead, BufReader};
        self.write(
            "line",
            "services:\n  one: {image: root_fs, init: true, command: [sh, -c, 'echo first; exec sleep infinity']}\n",
        );
        let time = |_| {
            let begun = Instant::now();
            let mut up =
                self.command("line", &["up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
            let lines = BufReader::new(up.stdout.take().expect("piped")).lines().map_while(Result::ok);
            assert!(lines.into_iter().any(|line| line.contains("first")), "the line came");
            let took = begun.elapsed();
            kill(Pid::from_raw(i32::try_from(up.id()).expect("fits")), Signal::SIGINT).expect("it runs");
            up.wait().expect("our child");
            self.compose("line", &["down"]);
            took
        };
        (0..runs).map(time).collect()
    }

    /// Five services, each needing the one before to be healthy; probes every 100 ms.
    fn healthy_chain(&self, runs: usize) -> Vec<Duration> {
        let service = |number: usize| {
            let needs = if number == 0 {
                String::new()
            } else {
                format!(", depends_on: {{s{}: {{condition: service_healthy}}}}", number - 1)
            };
            format!(
                "  s{number}: {{image: root_fs, init: true, command: [sleep, infinity], healthcheck: {{test: [CMD, 'true'], interval: 100ms}}{needs}}}\n"
            )
        };
        self.write("healthy", &format!("services:\n{}", (0..5).map(service).collect::<String>()));
        let time = |_| {
            let took = self.compose("healthy", &["up", "-d"]).0;
            self.compose("healthy", &["down"]);
            took
        };
        (0..runs).map(time).collect()
    }

    /// From SIGKILL of a container's process to its successor, the back-off of 0.1 s included; both ends by the host's clock.
    fn restart(&self, runs: usize) -> Vec<Duration> {
        self.write(
            "again",
            "services:\n  one: {image: root_fs, network_mode: none, restart: always, command: [sleep, infinity]}\n",
        );
        let time = |_| {
            // Anew each time, so that the back-off is always the first.
            self.compose("again", &["up", "-d"]);
            let first = self.pid("again").expect("it runs");
            let begun = Instant::now();
            kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
            let took = loop {
                if self.sleeper().is_some_and(|pid| pid != first) {
                    break begun.elapsed();
                }
                assert!(begun.elapsed() < Duration::from_secs(10), "it comes back");
                std::thread::park_timeout(Duration::from_millis(1));
            };
            self.compose("again", &["down", "-t", "0"]);
            took
        };
        (0..runs).map(time).collect()
    }

    fn pid(&self, project: &str) -> Option<i32> {
        let shown = self.compose(project, &["ps", "--format", "json"]).1.stdout;
        let line: serde_json::Value = serde_json::from_slice(shown.split(|byte| *byte == b'\n').next()?).ok()?;
        line["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// The process `sleep infinity` below our cgroup parent.
    fn sleeper(&self) -> Option<i32> {
        self.processes()
            .into_iter()
            .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\0infinity\0"))
    }

    fn processes(&self) -> Vec<i32> {
        let token = self.dir.file_name().expect("named").to_string_lossy().into_owned();
        let all = fs::read_dir("/proc")
            .expect("mounted")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.filter(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&token))
        })
        .collect()
    }

    /// Pss of keeper, shim and supervisor of 20 services and what each of 30 more adds, after a minute in which each wrote a
    /// line a second.
    fn memory(&self) {
        let mut sums = Vec::new();
        for count in [20, 50] {
            let project = format!("memory{count}");
            let services: String = (0..count)
                .map(|number| {
                    let command = "while :; do echo a line of an ordinary length; sleep 1; done";
                    format!("  s{number}: {{image: root_fs, init: true, command: [sh, -c, '{command}']}}\n")
                })
                .collect();
            self.write(&project, &format!("services:\n{services}"));
            self.compose(&project, &["up", "-d"]);
            std::thread::sleep(Duration::from_secs(60));
            self.compose(&project, &["ps"]);
            let mut sum = 0;
            println!();
            for (role, pid) in supervision() {
                let pss = pss(pid);
                println!("{count} containers: {role:<18} {pss:>6} KiB");
                sum += pss;
            }
            println!("{count} containers: {:<18} {sum:>6} KiB", "together");
            sums.push(sum);
            self.compose(&project, &["down"]);
        }
        println!(
            "each further container: {} KiB; docker* ≈ 254 MB, podman* ≈ 10 MB without supervision",
            (sums[1].saturating_sub(sums[0])) / 30
        );
    }
}

/// Keeper, shim and supervisor: the processes of ours that are in our own network namespace, as no container is.
fn supervision() -> Vec<(String, i32)> {
    let ours = fs::read_link("/proc/self/ns/net").expect("mounted");
    let all =
        fs::read_dir("/proc").expect("mounted").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let here = all.filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == ours));
    here.filter_map(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some((line.split(':').next()?.to_owned(), pid)).filter(|(role, _)| role.starts_with("mydocker-"))
    })
    .collect()
}

fn pss(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
