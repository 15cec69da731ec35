//! A compose project in a sandbox.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::command::{Output, Running};
use super::sandbox::{MYDOCKER, Sandbox};
use super::wait::{PATIENCE, eventually};

/// One compose file under one project name.
pub(crate) struct Project<'sandbox> {
    sandbox: &'sandbox Sandbox,
    name: String,
    file: PathBuf,
}

/// A container as `ps` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// `project-service-1`.
    pub(crate) name: String,
    /// Its service.
    pub(crate) service: String,
    /// Its id.
    pub(crate) id: String,
    /// `running`, `exited`, …
    pub(crate) state: String,
    /// The status that it ended with.
    pub(crate) exit_code: i64,
    /// `healthy`, `starting`, `unhealthy`, or nothing.
    pub(crate) health: String,
    /// Its first process as the host sees it; 0 if it does not run.
    pub(crate) pid: i32,
    /// When that process was started, in ticks since boot; 0 if it does not run.
    pub(crate) started: u64,
}

impl Container {
    /// Sends a signal to its first process from the host.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("the container runs");
    }

    /// Pid and start time: what says that two looks saw the same process.
    pub(crate) fn identity(&self) -> (i32, u64) {
        (self.pid, self.started)
    }
}

impl<'sandbox> Project<'sandbox> {
    pub(super) fn new(sandbox: &'sandbox Sandbox, name: &str, file: PathBuf) -> Self {
        Self { sandbox, name: name.to_owned(), file }
    }

    /// The compose file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The project's state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.sandbox.run_dir().join("projects").join(&self.name)
    }

    /// Replaces the compose file.
    pub(crate) fn rewrite(&self, yaml: &str) {
        fs::write(&self.file, yaml).expect("a file of our own");
    }

    /// The words of a `mydocker compose` command of this project.
    pub(crate) fn words<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![MYDOCKER.into(), "compose".into(), "-f".into(), self.file.clone().into()];
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        words
    }

    /// Runs `mydocker compose …` and waits for its end.
    #[track_caller]
    pub(crate) fn compose<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.sandbox.finish(self.spawn(arguments), PATIENCE)
    }

    /// Starts `mydocker compose …`.
    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        self.sandbox.remember(&self.file);
        self.sandbox.start(self.directory(), &self.words(arguments), Stdio::null())
    }

    /// The directory of the compose file.
    pub(crate) fn directory(&self) -> &Path {
        self.file.parent().expect("the file lies in a directory")
    }

    /// `up -d`, which must succeed.
    #[track_caller]
    pub(crate) fn up(&self) -> Output {
        self.compose(&["up", "-d"]).ok()
    }

    /// `down`, which must succeed.
    #[track_caller]
    pub(crate) fn down(&self) -> Output {
        self.compose(&["down", "-t", "1"]).ok()
    }

    /// All containers, also those that have ended.
    #[track_caller]
    pub(crate) fn containers(&self) -> Vec<Container> {
        let shown = self.sandbox.finish(self.spawn(&["ps", "-a", "--format", "json"]), Duration::from_secs(10)).ok();
        shown.stdout.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
    }

    /// The container of a service.
    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> Container {
        let all = self.containers();
        all.iter()
            .find(|one| one.service == service)
            .unwrap_or_else(|| panic!("no container of {service} in {all:?}"))
            .clone()
    }

    /// Waits until the container of a service satisfies `seen`.
    #[track_caller]
    pub(crate) fn wait_for(&self, service: &str, what: &str, seen: impl Fn(&Container) -> bool) -> Container {
        eventually(&format!("{service} is {what}"), || {
            self.containers().into_iter().find(|one| one.service == service && seen(one))
        })
    }

    /// Waits until a service runs.
    #[track_caller]
    pub(crate) fn wait_running(&self, service: &str) -> Container {
        self.wait_for(service, "running", |one| one.state == "running" && one.pid > 0)
    }

    /// Waits until a service has exited for good.
    #[track_caller]
    pub(crate) fn wait_exited(&self, service: &str) -> Container {
        self.wait_for(service, "exited", |one| one.state == "exited")
    }

    /// What `logs` shows, without colour.
    #[track_caller]
    pub(crate) fn logs(&self) -> String {
        self.compose(&["logs", "--no-color"]).ok().stdout
    }

    /// Waits until `logs` shows `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        eventually(&format!("logs show {text:?}"), || Some(self.logs()).filter(|logs| logs.contains(text)))
    }

    /// Runs a command in a service's container.
    #[track_caller]
    pub(crate) fn exec(&self, service: &str, command: &[&str]) -> Output {
        let mut words = vec!["exec", "-T", service];
        words.extend(command);
        self.compose(&words)
    }
}

#[track_caller]
fn parse(line: &str) -> Container {
    let object: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("ps --format json: {error} in {line}"));
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let pid = i32::try_from(object["Pid"].as_i64().unwrap_or_default()).expect("a pid fits");
    Container {
        name: text("Name"),
        service: text("Service"),
        id: text("ID"),
        state: text("State"),
        exit_code: object["ExitCode"].as_i64().unwrap_or_default(),
        health: text("Health"),
        pid,
        started: start_time(pid),
    }
}

/// Field 22 of /proc/PID/stat, counted from behind the name, which may hold anything.
pub(crate) fn start_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or_default()
}
