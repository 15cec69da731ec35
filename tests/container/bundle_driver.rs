//! The small single-threaded process that a test of bundles needs: it plays a runtime that creates and starts.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use mydocker::container::{
    BundleOptions, ExecFds, ExecRequest, InitChannel, InitEvent, Join, SpawnFds, parse_config, parse_process,
    plan_exec_process, prepare_bundle, spawn_exec, spawn_init,
};
use mydocker::spec::Stopwatch;
use mydocker::sys::Child;
use serde::{Deserialize, Serialize};

use super::driver::{chain, copy_terminal, wait};

/// Is what a driver does with a bundle.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct BundleJob {
    /// The bundle's directory, which holds config.json.
    pub(crate) bundle: PathBuf,
    /// Changes root without pivot_root(2).
    pub(crate) no_pivot: bool,
    /// Runs this process inside as well, once the container's has made the file `ready` in its root.
    pub(crate) exec: Option<serde_json::Value>,
}

/// Runs the job and exits as the container does.
pub(crate) fn main(job: &str) -> ExitCode {
    let job: BundleJob = serde_json::from_str(job).unwrap();
    match run(&job) {
        Ok(status) => ExitCode::from(status as u8),
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(125)
        }
    }
}

fn run(job: &BundleJob) -> Result<i32, String> {
    let text = std::fs::read(job.bundle.join("config.json")).map_err(|e| chain(&e))?;
    let config = parse_config(&text).map_err(|e| chain(&e))?;
    let options =
        BundleOptions { die_with_parent: true, no_pivot: job.no_pivot, new_keyring: true, ..BundleOptions::default() };
    let prepared = prepare_bundle(&config.spec, &job.bundle, "box", &options).map_err(|e| chain(&e))?;
    for warning in config.warnings.iter().chain(&prepared.warnings) {
        eprintln!("warning: {warning}");
    }
    let joins = prepared.joins.iter().map(Join::open).collect::<Result<Vec<_>, _>>().map_err(|e| chain(&e))?;
    let (mut channel, theirs) = InitChannel::pair().map_err(|e| chain(&e))?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let fds = SpawnFds {
        channel: theirs.as_fd(),
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        cgroup: None,
        joins: joins.iter().map(AsFd::as_fd).collect(),
        preserved: Vec::new(),
        watch: Stopwatch::default(),
    };
    let child = spawn_init(&prepared.spawn, &fds).map_err(|e| chain(&e))?;
    drop(theirs);
    let mapped =
        prepared.set_up(child.pid, &Stopwatch::default()).map_err(|e| format!("{} {:?}", chain(&e), e.hint()))?.fds;
    let fds: Vec<_> = mapped.iter().map(AsFd::as_fd).collect();
    channel.send_plan(&prepared.plan, &fds).map_err(|e| chain(&e))?;
    let copier = follow(&mut channel)?.map(copy_terminal);
    if let Some(process) = &job.exec {
        let ready = job.bundle.join("rootfs/ready");
        while !ready.exists() {
            std::thread::yield_now();
        }
        let status = run_exec(&prepared.spec, prepared.spawn.namespaces(), process, &child)?;
        rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL).map_err(|e| e.to_string())?;
        wait(&child)?;
        return Ok(status);
    }
    let status = wait(&child);
    if let Some(copier) = copier {
        copier.join().unwrap();
    }
    status
}

fn follow(channel: &mut InitChannel) -> Result<Option<std::os::fd::OwnedFd>, String> {
    let mut master = None;
    loop {
        match channel.recv().map_err(|e| chain(&e))? {
            InitEvent::HooksDue => {
                eprintln!("hooks due");
                channel.hooks_done().map_err(|e| chain(&e))?;
            }
            InitEvent::Created { warnings, terminal } => {
                warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
                master = terminal;
                // An exec has started by itself.
                let _ = channel.send_start();
            }
            InitEvent::Failed(failure) => {
                let cause = failure.cause().map(|e| format!(": {e}")).unwrap_or_default();
                eprintln!("error: {failure}{cause}");
                return Ok(None);
            }
            InitEvent::SeccompListener(_) => return Err("a filter that asks nobody".to_owned()),
            InitEvent::Executed => return Ok(master),
            InitEvent::Died => return Err("the new process died".to_owned()),
        }
    }
}

fn run_exec(
    spec: &oci_spec::runtime::Spec,
    namespaces: mydocker::namespaces::NamespaceSet,
    process: &serde_json::Value,
    target: &Child,
) -> Result<i32, String> {
    let (process, mut warnings) = parse_process(process.to_string().as_bytes()).map_err(|e| chain(&e))?;
    let (plan, more) = plan_exec_process(spec, "box", &process, None).map_err(|e| chain(&e))?;
    warnings.extend(more);
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let (mut channel, theirs) = InitChannel::pair().map_err(|e| chain(&e))?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let fds = ExecFds {
        channel: theirs.as_fd(),
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        target: target.pidfd.as_fd(),
        cgroup: None,
        tasks: Vec::new(),
        preserved: Vec::new(),
        root: None,
    };
    let pending = spawn_exec(&ExecRequest { namespaces }, &fds).map_err(|e| chain(&e))?;
    let child = pending.finish().map_err(|e| chain(&e))?;
    drop(theirs);
    channel.send_plan(&plan, &[]).map_err(|e| chain(&e))?;
    let copier = follow(&mut channel)?.map(copy_terminal);
    let status = wait(&child);
    if let Some(copier) = copier {
        copier.join().unwrap();
    }
    status
}
