//! A command beside a container's PID 1.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use tokio::io::Interest;

use super::error::LaunchError;
use super::files::ContainerFiles;
use super::host::Host;
use super::launch::{Live, next_event};
use super::shim_link::ShimLink;
use crate::capabilities;
use crate::container::{
    Confinement, ExecCommand, ExecRequest, InitChannel, InitEvent, StartOptions, plan_exec, prepare,
};
use crate::namespaces::NamespaceSet;
use crate::namespaces::cgroup::CgroupError;
use crate::network::watch;
use crate::seccomp;
use crate::spec::{CapabilitySet, ContainerRequest, SeccompRequest};

/// Is all that is needed to enter a container.
#[derive(Debug)]
pub struct ExecTarget {
    pidfd: OwnedFd,
    cgroup: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
}

impl ExecTarget {
    /// Opens what leads into a running container.
    ///
    /// # Errors
    /// Descriptors that cannot be had; a cgroup that is gone.
    pub fn of(live: &Live) -> Result<Self, LaunchError> {
        let duplicate = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(LaunchError::Channel);
        let tasks: Result<_, CgroupError> = live.cgroup.v1_tasks();
        Ok(Self {
            pidfd: duplicate(live.pidfd.as_fd())?,
            cgroup: live.cgroup.clone_into().map(duplicate).transpose()?,
            tasks: tasks?,
        })
    }
}

/// Is a command to be run in a container.
#[derive(Debug)]
pub struct ExecJob<'a> {
    /// Under this name the shim knows it.
    pub key: &'a str,
    /// The container.
    pub request: &'a ContainerRequest,
    /// The way into it.
    pub target: &'a ExecTarget,
    /// The program and its arguments.
    pub args: &'a [String],
    /// Added to the container's environment.
    pub env: &'a BTreeMap<String, String>,
    /// Instead of the container's.
    pub user: Option<&'a str>,
    /// Instead of the container's.
    pub working_dir: Option<&'a Path>,
    /// Gives it a terminal.
    pub tty: bool,
    /// Gives it all capabilities and no filter.
    pub privileged: bool,
}

/// Is a command that runs in a container.
#[derive(Debug)]
pub struct Executed {
    /// Its process id.
    pub pid: i32,
    /// The same by descriptor.
    pub pidfd: OwnedFd,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Executed {
    /// Kills it and all that it has started in its session's first process group.
    pub fn kill_group(&self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.pid) {
            // It leads a session of its own, so its process group bears its number. One that is gone needs no signal.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Runs a command in a container; `stdio` is its stdin, stdout and stderr unless it gets a terminal.
///
/// # Errors
/// [`LaunchError::Init`] with 126 or 127 where the command cannot be executed.
pub async fn exec(
    host: &Host,
    shim: &ShimLink,
    job: &ExecJob<'_>,
    stdio: Option<[OwnedFd; 3]>,
) -> Result<Executed, LaunchError> {
    let confinement = confinement(job)?;
    let files = ContainerFiles::of(&host.dirs, &job.request.id);
    let described = prepare(job.request, &files.paths(), &confinement, &StartOptions::default())?;
    let command = ExecCommand {
        args: job.args.to_vec(),
        env: job.env.clone(),
        working_dir: job.working_dir.map(Path::to_owned),
        user: job.user.map(str::to_owned),
        tty: job.tty,
    };
    let plan = plan_exec(&described.spec, job.request.id.as_str(), &command, &confinement)?;
    let entered = described.spawn.join.iter().copied().collect::<NamespaceSet>().union(described.spawn.create);
    let request = ExecRequest { namespaces: entered };
    let (init, theirs) = InitChannel::pair().map_err(LaunchError::Channel)?;
    let mut init = watch(init, Interest::READABLE).map_err(LaunchError::Channel)?;
    let [stdin, stdout, stderr] = match stdio {
        Some(stdio) => stdio,
        None => [open_null()?, open_null()?, open_null()?],
    };
    let target = job.target;
    let mut fds = vec![theirs.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), target.pidfd.as_fd()];
    fds.extend(target.cgroup.iter().map(AsFd::as_fd));
    fds.extend(target.tasks.iter().map(AsFd::as_fd));
    let spawned = shim.exec(job.key, &request, target.cgroup.is_some(), &fds).await?;
    drop((theirs, stdin, stdout, stderr));
    init.get_mut().send_plan(&plan, &[]).map_err(LaunchError::Channel)?;
    let mut terminal = None;
    loop {
        match next_event(&mut init).await? {
            InitEvent::Created { terminal: master, .. } => terminal = master,
            InitEvent::HooksDue | InitEvent::SeccompListener(_) => {
                return Err(LaunchError::Channel(std::io::ErrorKind::InvalidData.into()));
            }
            InitEvent::Executed => return Ok(Executed { pid: spawned.pid, pidfd: spawned.pidfd, terminal }),
            InitEvent::Failed(failure) => return Err(LaunchError::Init(failure)),
            InitEvent::Died => return Err(LaunchError::Died),
        }
    }
}

fn confinement(job: &ExecJob<'_>) -> Result<Confinement, LaunchError> {
    let wanted = if job.privileged { CapabilitySet::all() } else { CapabilitySet::resolve(&job.request.capabilities)? };
    let (capabilities, _) = capabilities::intersect_host(wanted)?;
    let filter = if job.privileged { &SeccompRequest::Unconfined } else { &job.request.seccomp };
    let seccomp = seccomp::compile(filter, &capabilities)?.map(|filter| filter.as_bytes().to_vec());
    // Those of the container stand in its /dev.
    Ok(Confinement { capabilities, seccomp, devices: Vec::new() })
}

fn open_null() -> Result<OwnedFd, LaunchError> {
    File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from).map_err(LaunchError::Null)
}
