//! `exec`: another process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use rustix::fs::{CWD, Mode, OFlags};

use super::console::ConsoleSocket;
use super::create::{TerminalTaker, filter};
use super::process::{FirstStreams, write_pid_file};
use super::run::{attend, signals_failed};
use super::{Container, OciError, OciId, Runtime, Status, Trace, listener};
use crate::container::{ExecFds, ExecRequest, InitChannel, InitEvent, LaunchPlan, plan_exec_process, spawn_exec};
use crate::engine::foreground::{Console, MainProcess, MainSignals, StreamEnds};
use crate::namespaces::Namespace;
use crate::namespaces::cgroup::Cgroup;
use crate::spec::ExitStatus;

/// Is what `exec` is asked to do.
#[derive(Debug)]
pub struct ExecJob<'a> {
    /// The container.
    pub id: &'a OciId,
    /// The process, as config.json describes one.
    pub process: Process,
    /// Gets the process id, in digits.
    pub pid_file: Option<&'a Path>,
    /// Who takes the terminal.
    pub terminal: TerminalTaker<'a>,
    /// What becomes descriptor 3, 4, … of the program; `None` is a number that is not open.
    pub preserved: &'a [Option<OwnedFd>],
    /// Joins a container that is paused, and waits with it.
    pub ignore_paused: bool,
    /// The cgroup below the container's that it joins ([`Cgroup::descend`]).
    pub cgroup: Option<&'a str>,
    /// Hears the plan.
    pub trace: Trace<'a>,
}

/// Is a process that runs in a container.
struct Executed {
    process: MainProcess,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// Finds a container that a process can be added to.
///
/// # Errors
/// [`OciError::Unknown`]; [`OciError::State`] where it has ended, or is paused.
pub fn exec_target(runtime: &Runtime, id: &OciId, ignore_paused: bool) -> Result<Container, OciError> {
    let container = runtime.find(id)?;
    match container.status()? {
        Status::Created | Status::Running => Ok(container),
        Status::Paused if ignore_paused => Ok(container),
        status => Err(container.refuse("exec in", format!("it is {status}"))),
    }
}

/// Starts a process in a container and leaves it running: a child of ours, and whoever adopts it sees its end. Returns warnings.
///
/// # Errors
/// [`OciError::Init`] where its program cannot be executed; nothing of it is left then.
pub fn exec_detached(runtime: &Runtime, job: &ExecJob<'_>) -> Result<Vec<String>, OciError> {
    let executed = execute(runtime, job)?;
    executed.process.release();
    Ok(executed.warnings)
}

/// Runs a process in a container, carries its terminal, passes signals on, and waits for its end. This process must have one
/// thread; it has blocked signals ever after.
///
/// # Errors
/// As [`exec_detached`].
pub fn exec(runtime: &Runtime, job: &ExecJob<'_>, console: &mut dyn Console) -> Result<ExitStatus, OciError> {
    let signals = MainSignals::block().map_err(|error| signals_failed(&error))?;
    let executed = execute(runtime, job)?;
    executed.warnings.iter().for_each(|warning| console.warn(warning));
    let status = live(executed, &signals, console);
    console.disconnect();
    status
}

fn live(executed: Executed, signals: &MainSignals, console: &mut dyn Console) -> Result<ExitStatus, OciError> {
    if let Some(terminal) = executed.terminal {
        let ends = StreamEnds { terminal: Some(terminal), ..StreamEnds::default() };
        console.connect(ends).map_err(OciError::kernel("connect the process's terminal"))?;
    }
    attend(executed.process, None, signals, console)
}

fn execute(runtime: &Runtime, job: &ExecJob<'_>) -> Result<Executed, OciError> {
    let container = exec_target(runtime, job.id, job.ignore_paused)?;
    let console = check_terminal(job)?;
    let (plan, mut warnings) = plan(runtime, &container, job)?;
    job.trace.tell(&plan);
    let (mut init, process) = spawn(&container, job)?;
    init.send_plan(&plan, &[]).or_else(ignore_gone)?;
    let mut terminal = None;
    loop {
        match init.recv().map_err(OciError::kernel("hear from the new process"))? {
            InitEvent::Created { warnings: more, terminal: master } => {
                warnings.extend(more);
                terminal = master;
            }
            InitEvent::Executed => break,
            InitEvent::Failed(failure) => return Err(OciError::Init(failure)),
            InitEvent::SeccompListener(listener) => {
                listener::hand_over(&container, Status::Running, process.pid(), &listener)?;
            }
            InitEvent::Died | InitEvent::HooksDue => {
                return Err(OciError::Died { during: "started", out_of_memory: false });
            }
        }
    }
    if let (Some(console), Some(master)) = (&console, terminal.as_ref()) {
        console.send(master)?;
    }
    if let Some(path) = job.pid_file {
        write_pid_file(path, process.pid())?;
    }
    Ok(Executed { process, terminal: terminal.filter(|_| job.terminal == TerminalTaker::Caller), warnings })
}

/// It has said why it is gone.
fn ignore_gone(error: std::io::Error) -> Result<(), OciError> {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(OciError::kernel("send the plan to the new process")(error)),
    }
}

fn check_terminal(job: &ExecJob<'_>) -> Result<Option<ConsoleSocket>, OciError> {
    let wrong = |reason: &str| OciError::Config { key: "exec".to_owned(), reason: reason.to_owned() };
    match (job.process.terminal().unwrap_or(false), job.terminal) {
        (true, TerminalTaker::Nobody) => {
            Err(wrong("a detached process with a terminal needs `--console-socket` to send its master to"))
        }
        (false, TerminalTaker::Socket(_)) => {
            Err(wrong("`--console-socket` is for a process with a terminal, and this one asks for none"))
        }
        (true, TerminalTaker::Socket(path)) => ConsoleSocket::connect(path).map(Some),
        _ => Ok(None),
    }
}

/// The process goes the same way as the container's own, under the filter of the container.
fn plan(runtime: &Runtime, container: &Container, job: &ExecJob<'_>) -> Result<(LaunchPlan, Vec<String>), OciError> {
    let spec = container.directory.config()?;
    let filter = filter(runtime, &spec)?;
    let (mut plan, warnings) = plan_exec_process(&spec, container.id().as_str(), &job.process, filter.as_ref())?;
    plan.preserved = job.preserved.len() as u32;
    Ok((plan, warnings))
}

fn spawn(container: &Container, job: &ExecJob<'_>) -> Result<(InitChannel, MainProcess), OciError> {
    let gone = || container.refuse("exec in", "it has just ended");
    let init = container.record.init.as_ref().ok_or_else(gone)?;
    let target = init.open_pidfd()?.ok_or_else(gone)?;
    let root = changed_root(container, init.pid)?;
    let cgroup = match (container.cgroup()?, job.cgroup) {
        (Some(cgroup), Some(below)) => Some(cgroup.descend(below)?),
        (cgroup, _) => cgroup,
    };
    let tasks = cgroup.as_ref().map_or(Ok(Vec::new()), Cgroup::v1_tasks)?;
    let (channel, theirs) = InitChannel::pair().map_err(OciError::kernel("make a channel to the new process"))?;
    let streams = FirstStreams::of(job.process.terminal().unwrap_or(false))?;
    let fds = ExecFds {
        channel: theirs.as_fd(),
        stdin: streams.stdin(),
        stdout: streams.stdout(),
        stderr: streams.stderr(),
        target: target.as_fd(),
        cgroup: cgroup.as_ref().and_then(Cgroup::clone_into),
        tasks: tasks.iter().map(AsFd::as_fd).collect(),
        preserved: job.preserved.iter().map(|fd| fd.as_ref().map(AsFd::as_fd)).collect(),
        root: root.as_ref().map(AsFd::as_fd),
    };
    let request = ExecRequest { namespaces: container.record.namespaces };
    let process = MainProcess::new(spawn_exec(&request, &fds)?.finish()?);
    // It is no child of the container's: the kernel leaves it in our class.
    container.record.resctrl.as_ref().map_or(Ok(()), |class| class.join(process.pid()))?;
    Ok((channel, process))
}

/// Opens the root of a container without a mount namespace: nothing else leads there.
fn changed_root(container: &Container, pid: i32) -> Result<Option<OwnedFd>, OciError> {
    if container.record.namespaces.contains(Namespace::Mount) {
        return Ok(None);
    }
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, &path, flags, Mode::empty());
    opened.map(Some).map_err(|errno| OciError::kernel("open the container's root")(errno.into()))
}
