//! SIGKILL of client, supervisor, shim and containers at every step of `up` and `down`: more than two hundred runs, each of
//! which has to converge with the next `up` or `down`, without a second container, a second address or a lost one.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[expect(dead_code, unused_imports, reason = "the harness serves the other tests, too")]
mod support;

use support::{Case, Container, Project, Sandbox, cases};

fn main() -> ExitCode {
    support::run_all(all_cases())
}

fn all_cases() -> Vec<Case> {
    cases![
        client_killed_during_up: Bridge,
        supervisor_killed_during_up: Bridge,
        shim_killed_during_up: Bridge,
        container_killed_during_up: Bridge,
        client_killed_during_down: Bridge,
        supervisor_killed_during_down: Bridge,
        shim_killed_during_down: Bridge,
        container_killed_during_down: Bridge,
    ]
}

/// Three services with an order, on a bridge, so that every kind of step is there to be killed in.
const PROJECT: &str = r#"
    x-service: &service {image: root_fs, init: true, command: [sleep, infinity], volumes: ["data:/data"]}
    services:
      db: {<<: *service}
      web: {<<: *service, depends_on: [db]}
      client: {<<: *service, depends_on: [web]}
    volumes:
      data:
"#;

/// Runs of each test: eight tests, more than two hundred in all; a sixth of it where `tools/test --quick` asks for less.
fn runs() -> u32 {
    if std::env::var_os("MYDOCKER_TEST_QUICK").is_some() { 5 } else { 26 }
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Client,
    Supervisor,
    Shim,
    Container,
}

/// What it dies in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum During {
    Up,
    Down,
}

fn client_killed_during_up(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Client, During::Up);
}

fn supervisor_killed_during_up(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Supervisor, During::Up);
}

fn shim_killed_during_up(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Shim, During::Up);
}

fn container_killed_during_up(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Container, During::Up);
}

fn client_killed_during_down(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Client, During::Down);
}

fn supervisor_killed_during_down(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Supervisor, During::Down);
}

fn shim_killed_during_down(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Shim, During::Down);
}

fn container_killed_during_down(sandbox: &Sandbox) {
    sweep(sandbox, Victim::Container, During::Down);
}

/// Measures how long the command takes when nobody disturbs it, then disturbs it at [`runs`] moments spread over that time.
fn sweep(sandbox: &Sandbox, victim: Victim, during: During) {
    let project = sandbox.project("sweep", PROJECT);
    let (up, down) = (project.up().took, project.compose(&["down", "-t", "1"]).ok().took);
    let (command, whole): (&[&str], Duration) = match during {
        During::Up => (&["up", "-d"], up),
        During::Down => (&["down", "-t", "1"], down),
    };
    for run in 0..runs() {
        let label = format!("run {run} of {victim:?} killed during {during:?}");
        if during == During::Down {
            project.up();
        }
        let moment = whole * run / (runs() - 1);
        let client = project.spawn(command);
        // The moment is the parameter of the run: nothing else says when a step has been reached.
        let at = Instant::now() + moment;
        while Instant::now() < at {
            std::thread::park_timeout(at - Instant::now());
        }
        if let Some(pid) = find(sandbox, victim, client.pid()) {
            // It may have gone by itself.
            let _ = kill(pid, Signal::SIGKILL);
        }
        let disturbed = sandbox.finish(client, support::PATIENCE).without_panic();
        assert!([0, 1, 137].contains(&disturbed.code), "{label}: {}", disturbed.describe());
        // A `down` that was asked for goes on without its client, so what runs now need not run when `up` has its turn.
        let may_end = victim == Victim::Container || (victim, during) == (Victim::Client, During::Down);
        converges(sandbox, &project, &label, may_end);
    }
}

/// After whatever happened: `up` makes it whole without touching what runs, `down` takes all away.
fn converges(sandbox: &Sandbox, project: &Project<'_>, label: &str, may_end: bool) {
    let survivors: Vec<Container> = project.containers().into_iter().filter(|one| one.state == "running").collect();
    let up = project.compose(&["up", "-d"]);
    assert_eq!(up.code, 0, "{label}: {}", up.describe());
    let containers = project.containers();
    let services: Vec<&str> =
        containers.iter().map(|one| one.service.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(
        (containers.len(), services.as_slice()),
        (3, ["client", "db", "web"].as_slice()),
        "{label}: {containers:?}"
    );
    for one in &containers {
        assert!(one.state == "running" && one.pid > 0, "{label}: {one:?}");
        assert!(
            may_end || !survivors.iter().any(|old| old.service == one.service && old.identity() != one.identity()),
            "{label}: {one:?} was replaced without need; before: {survivors:?}"
        );
    }
    let processes =
        sandbox.processes().into_iter().filter(|pid| command_line(*pid).starts_with("sleep\0infinity")).count();
    assert_eq!(processes, 3, "{label}: one process a service");
    let addresses: BTreeSet<String> = containers.iter().map(|one| address(sandbox, one)).collect();
    assert_eq!(addresses.len(), 3, "{label}: {addresses:?}");
    let down = project.compose(&["down", "-t", "1"]);
    assert_eq!(down.code, 0, "{label}: {}", down.describe());
    sandbox.expect_quiet();
    let links = sandbox.shell("ip -o link show type bridge; ip -o link show type veth").ok().stdout;
    assert_eq!(links, "", "{label}: after down");
}

fn find(sandbox: &Sandbox, victim: Victim, client: Pid) -> Option<Pid> {
    let named = |name: &str| sandbox.processes().into_iter().find(|pid| command_line(*pid).starts_with(name));
    match victim {
        Victim::Client => Some(client),
        Victim::Supervisor => named("mydocker-superv"),
        Victim::Shim => named("mydocker-shim"),
        Victim::Container => sandbox
            .processes()
            .into_iter()
            .find(|pid| command_line(*pid).starts_with("mydocker-init") && is_pid_one(*pid)),
    }
}

fn command_line(pid: Pid) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// Whether a process is the first of its own pid namespace.
fn is_pid_one(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("NSpid:") && line.split_whitespace().count() > 2 && line.ends_with("\t1"))
}

fn address(sandbox: &Sandbox, container: &Container) -> String {
    let pid = container.pid.to_string();
    let shown = sandbox.host(&["nsenter", "-t", &pid, "-n", "ip", "-o", "-4", "addr", "show", "eth0"]).ok().stdout;
    shown.split_whitespace().nth(3).unwrap_or_default().to_owned()
}
