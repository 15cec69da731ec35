//! The small single-threaded process that a test needs: it plays `mydocker run`, with its job on stdin's place in argv.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

use mydocker::container::{
    CgroupView, Confinement, ContainerPaths, ExecFds, ExecRequest, InitChannel, InitEvent, Prepared, SpawnFds,
    StartOptions, plan_exec, prepare, spawn_exec, spawn_init,
};
use mydocker::spec::{CapabilitySet, ContainerRequest, NamespaceSource, Stopwatch};
use mydocker::sys::Child;
use mydocker::sys::wait::{Children, reap_blocking};
use serde::{Deserialize, Serialize};

/// Is what a driver does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The container.
    pub(crate) request: ContainerRequest,
    /// Its directory.
    pub(crate) directory: std::path::PathBuf,
    /// Installs the request's seccomp filter.
    pub(crate) seccomp: bool,
    /// Waits between create and start, and prints `created`.
    pub(crate) two_steps: bool,
    /// Runs this inside as well, once the container's program has printed a line into the file `ready` of its root.
    pub(crate) exec: Option<ExecJob>,
    /// v1 controllers in each of which the container gets a cgroup of its own, made and removed by the driver.
    pub(crate) controllers: Vec<String>,
    /// Kills the process before it gets a plan.
    pub(crate) no_plan: bool,
}

/// Is a command to execute in the container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecJob {
    /// The command.
    pub(crate) args: Vec<String>,
    /// Its user.
    pub(crate) user: Option<String>,
    /// With a terminal.
    pub(crate) tty: bool,
}

/// Runs the job and exits as `mydocker run` would.
pub(crate) fn main(job: &str) -> ExitCode {
    let job: Job = serde_json::from_str(job).unwrap();
    match run(&job) {
        Ok(status) => ExitCode::from(status as u8),
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(125)
        }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn confinement(job: &Job) -> Result<Confinement, String> {
    let asked = CapabilitySet::resolve(&job.request.capabilities).map_err(|e| chain(&e))?;
    let (capabilities, _) = mydocker::capabilities::intersect_host(asked).map_err(|e| chain(&e))?;
    let seccomp = if job.seccomp {
        mydocker::seccomp::compile(&job.request.seccomp, &capabilities).map_err(|e| chain(&e))?
    } else {
        None
    };
    Ok(Confinement { capabilities, seccomp: seccomp.map(|filter| filter.as_bytes().to_vec()), devices: Vec::new() })
}

fn run(job: &Job) -> Result<i32, String> {
    let paths = ContainerPaths::below(&job.directory, false);
    paths.create(&job.request.rootfs).map_err(|e| chain(&e))?;
    let view = match &job.controllers[..] {
        [] => CgroupView::Hidden,
        names => CgroupView::Controllers(names.to_vec()),
    };
    let cgroups = Cgroups::make(job)?;
    let options = StartOptions { start_at_once: !job.two_steps, die_with_parent: true, cgroups: view };
    let confinement = confinement(job)?;
    let prepared = prepare(&job.request, &paths, &confinement, &options).map_err(|e| chain(&e))?;
    let (mut channel, theirs) = InitChannel::pair().map_err(|e| chain(&e))?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    // The namespace of another container: here the one that the driver itself is in.
    let joins = match job.request.namespaces.network {
        NamespaceSource::Container(_) => vec![File::open("/proc/self/ns/net").map_err(|e| chain(&e))?],
        _ => Vec::new(),
    };
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
    if job.no_plan {
        drop(channel);
        return wait(&child);
    }
    send_plan(&prepared, &child, &mut channel, &cgroups)?;
    let terminal = follow(job, &mut channel)?;
    let copier = terminal.map(copy_terminal);
    if let Some(exec) = &job.exec {
        let status = run_exec(job, &prepared, &confinement, exec, &child)?;
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

/// Holds cgroups of one job; removes them when it goes.
struct Cgroups(Vec<std::path::PathBuf>);

impl Cgroups {
    fn make(job: &Job) -> Result<Self, String> {
        let mut made = Self(Vec::new());
        for controller in &job.controllers {
            let path = std::path::Path::new("/sys/fs/cgroup").join(controller).join(job.request.id.as_str());
            std::fs::create_dir(&path).map_err(|e| chain(&e))?;
            made.0.push(path);
        }
        Ok(made)
    }

    fn tasks(&self) -> Result<Vec<File>, String> {
        let open =
            |path: &std::path::PathBuf| File::options().write(true).open(path.join("tasks")).map_err(|e| chain(&e));
        self.0.iter().map(open).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    }
}

pub(crate) fn wait(child: &Child) -> Result<i32, String> {
    let ended = reap_blocking(Children::PidFd(child.pidfd.as_fd())).map_err(|e| chain(&e))?;
    Ok(if ended.signaled { 128 + ended.status } else { ended.status })
}

fn send_plan(prepared: &Prepared, child: &Child, channel: &mut InitChannel, cgroups: &Cgroups) -> Result<(), String> {
    let tasks = cgroups.tasks()?;
    let mapped =
        prepared.set_up(child.pid, &Stopwatch::default()).map_err(|e| format!("{} {:?}", chain(&e), e.hint()))?.fds;
    let fds: Vec<_> = tasks.iter().map(AsFd::as_fd).chain(mapped.iter().map(AsFd::as_fd)).collect();
    channel.send_plan(&prepared.plan, &fds).map_err(|e| chain(&e))
}

/// Reads events until the program runs; returns the terminal's master.
fn follow(job: &Job, channel: &mut InitChannel) -> Result<Option<std::os::fd::OwnedFd>, String> {
    let mut master = None;
    loop {
        match channel.recv().map_err(|e| chain(&e))? {
            InitEvent::Created { warnings, terminal } => {
                for warning in warnings {
                    eprintln!("warning: {warning}");
                }
                master = terminal;
                if job.two_steps {
                    eprintln!("created");
                    channel.send_start().map_err(|e| chain(&e))?;
                }
            }
            InitEvent::Failed(failure) => {
                let cause = failure.cause().map(|e| format!(": {e}")).unwrap_or_default();
                let hint = failure.hint.as_deref().unwrap_or("-");
                eprintln!("error: {failure}{cause}\nhint: {hint}");
                return Ok(None);
            }
            InitEvent::Executed => return Ok(master),
            InitEvent::HooksDue | InitEvent::SeccompListener(_) => return Err("a plan without hooks".to_owned()),
            InitEvent::Died => return Err("the new process died".to_owned()),
        }
    }
}

/// Copies what the container's terminal shows to stdout until its last user is gone (EIO).
pub(crate) fn copy_terminal(master: std::os::fd::OwnedFd) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || drop(std::io::copy(&mut File::from(master), &mut std::io::stdout())))
}

fn run_exec(
    job: &Job,
    prepared: &Prepared,
    confinement: &Confinement,
    exec: &ExecJob,
    target: &Child,
) -> Result<i32, String> {
    let ready = job.directory.join("layers/upper/ready");
    while std::fs::read(&ready).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    let command = mydocker::container::ExecCommand {
        args: exec.args.clone(),
        env: std::collections::BTreeMap::new(),
        working_dir: None,
        user: exec.user.clone(),
        tty: exec.tty,
    };
    let plan = plan_exec(&prepared.spec, job.request.id.as_str(), &command, confinement).map_err(|e| chain(&e))?;
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
    let request = ExecRequest { namespaces: prepared.spawn.namespaces() };
    let child = spawn_exec(&request, &fds).map_err(|e| chain(&e))?.finish().map_err(|e| chain(&e))?;
    drop(theirs);
    channel.send_plan(&plan, &[]).map_err(|e| chain(&e))?;
    let terminal = follow(job, &mut channel)?;
    let copier = terminal.map(copy_terminal);
    let status = wait(&child);
    if let Some(copier) = copier {
        copier.join().unwrap();
    }
    status
}
