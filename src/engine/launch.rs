//! One container from nothing to a running process: prepare, clone, attach, created; start; undo.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::devices::HostDevices;
use super::error::LaunchError;
use super::files::{ContainerFiles, Resolver};
use super::host::Host;
use super::networking::{Guest, NetworkWish, Networking};
use super::passing::PassingNetworks;
use super::running::SharedNamespaces;
use super::shim_link::{ShimError, ShimLink, process_ended};
use crate::capabilities;
use crate::container::{CgroupView, Confinement, InitChannel, InitEvent, Prepared, StartOptions, prepare};
use crate::logs::make_stdio_pipe;
use crate::namespaces::cgroup::Cgroup;
use crate::network::watch;
use crate::seccomp;
use crate::spec::{CapabilitySet, ContainerId, ContainerRequest, DeviceRule, NamespaceSource, Stopwatch};
use crate::store::{ProcessIdentity, StoreError};

/// Within this time a container is created, or the attempt is given up and reported.
const CREATE_DEADLINE: Duration = Duration::from_secs(30);
/// So long the kernel may take to end a process that has SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Is what is to be launched.
#[derive(Debug)]
pub struct Job<'a> {
    /// The container.
    pub request: &'a ContainerRequest,
    /// Its cgroup, below each hierarchy's mount root.
    pub cgroup: &'a str,
    /// Its networks, in the order of their interfaces.
    pub networks: &'a [NetworkWish],
    /// Those of them that come and go with containers.
    pub passing: &'a PassingNetworks,
    /// Names under which every network knows it.
    pub names: &'a [String],
    /// What it has in common with containers that run.
    pub shared: &'a SharedNamespaces,
}

impl Job<'_> {
    fn guest(&self) -> Guest<'_> {
        Guest {
            id: &self.request.id,
            name: &self.request.name,
            names: self.names,
            wishes: self.networks,
            dns: &self.request.dns,
        }
    }
}

/// Is our side of a container's standard streams.
#[derive(Debug)]
pub enum Output {
    /// The reading ends of two pipes.
    Pipes {
        /// Of standard output.
        stdout: OwnedFd,
        /// Of standard error.
        stderr: OwnedFd,
    },
    /// The master of its terminal.
    Terminal(OwnedFd),
}

impl Output {
    /// Duplicates the descriptors.
    ///
    /// # Errors
    /// EMFILE.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Pipes { stdout, stderr } => Self::Pipes { stdout: stdout.try_clone()?, stderr: stderr.try_clone()? },
            Self::Terminal(master) => Self::Terminal(master.try_clone()?),
        })
    }
}

/// Is a container with a process in it.
#[derive(Debug)]
pub struct Live {
    /// Its first process.
    pub process: ProcessIdentity,
    /// The same by descriptor.
    pub pidfd: OwnedFd,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its network namespace and places in networks.
    pub networking: Networking,
}

/// Is a container whose process waits for the word to go on to execve(2).
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub live: Live,
    /// Our side of its streams.
    pub output: Output,
    /// Our end of its standard input, where it is kept open and is no terminal.
    pub stdin: Option<OwnedFd>,
    /// What went worse than asked.
    pub warnings: Vec<String>,
    init: AsyncFd<InitChannel>,
}

/// Creates a container: all namespaces, mounts, limits and networks are in place when this returns.
///
/// `spawned` is called as soon as there is a process, before anything is given to it: it writes down who that is. Once
/// `given_up` resolves nothing is waited for any more: plugins of networks may take long.
///
/// # Errors
/// [`LaunchError`]; what had been made is undone.
pub async fn create(
    host: &Host,
    shim: &ShimLink,
    job: &Job<'_>,
    spawned: impl FnOnce(&ProcessIdentity) -> Result<(), StoreError>,
    given_up: impl Future<Output = ()>,
) -> Result<Created, LaunchError> {
    let files = ContainerFiles::create(&host.dirs, job.request, resolver(job))?;
    let devices = HostDevices::find(job.request)?;
    let cgroup = host.create_cgroup(job.cgroup, &job.request.limits)?;
    let mut attempt = Attempt::begin(host, shim, job, &files, &cgroup, &devices).await;
    if matches!(attempt, Err(LaunchError::Shim(ShimError::Gone))) {
        // A process that it made before it died finds its channel closed and ends; the next shim makes another.
        attempt = Attempt::begin(host, shim, job, &files, &cgroup, &devices).await;
    }
    let mut attempt = match attempt {
        Ok(attempt) => attempt,
        Err(error) => {
            discard_cgroup(&cgroup).await;
            return Err(error);
        }
    };
    let outcome = tokio::select! {
        outcome = attempt.carry_on(host, job, &files, &cgroup, spawned) => outcome,
        () = tokio::time::sleep(CREATE_DEADLINE) => Err(LaunchError::Deadline(CREATE_DEADLINE)),
        () = given_up => Err(LaunchError::GivenUp),
    };
    match outcome {
        Ok(()) => Ok(attempt.finish(cgroup)),
        Err(error) => {
            let error = error.explained_by(Some(&cgroup));
            attempt.undo(host, job).await;
            discard_cgroup(&cgroup).await;
            Err(error)
        }
    }
}

/// Lets a created container run its program.
///
/// # Errors
/// [`LaunchError::Init`] with the exit code where the program cannot be executed; the process has ended then, its
/// networks and cgroup are still there.
pub async fn start(created: &mut Created) -> Result<(), LaunchError> {
    created.init.get_mut().send_start().map_err(LaunchError::Channel)?;
    match next_event(&mut created.init).await? {
        InitEvent::Executed => Ok(()),
        InitEvent::Failed(failure) => Err(LaunchError::Init(failure)),
        InitEvent::Died => Err(LaunchError::Died),
        InitEvent::HooksDue | InitEvent::SeccompListener(_) | InitEvent::Created { .. } => {
            Err(LaunchError::Channel(io::ErrorKind::InvalidData.into()))
        }
    }
}

/// Says what becomes of the places in networks that a container had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// They are given up with the container.
    GivenUp,
    /// They stay until the container's networks go: all links of a network in one request of the kernel's.
    Left,
}

/// Takes away what is left of a container: its processes, networks, cgroup. Never stops at the first error.
pub async fn clear(host: &Host, id: &ContainerId, live: Live, places: Places) -> Vec<LaunchError> {
    let mut errors = Vec::new();
    errors.extend(end_processes(&live.cgroup, Some(live.pidfd.as_fd())).await.err());
    match places {
        Places::GivenUp => errors.extend(live.networking.detach(host, id).await.err()),
        Places::Left => live.networking.leave(host, id).await,
    }
    errors.extend(live.cgroup.remove(KILL_DEADLINE).map_err(LaunchError::from).err());
    errors
}

/// Takes away all that there may be of a container of which nothing but its record is known.
pub async fn clear_remains(
    host: &Host,
    id: &ContainerId,
    cgroup: &str,
    process: Option<&ProcessIdentity>,
) -> Vec<LaunchError> {
    let mut errors = Vec::new();
    // The pidfd is opened first and compared then: the number may be somebody else's by now.
    let pidfd = process.and_then(|process| process.open_pidfd().ok().flatten());
    match host.open_cgroup(cgroup) {
        Ok(Some(cgroup)) => {
            errors.extend(end_processes(&cgroup, pidfd.as_ref().map(AsFd::as_fd)).await.err());
            errors.extend(cgroup.remove(KILL_DEADLINE).map_err(LaunchError::from).err());
        }
        Ok(None) => {
            if let Some(pidfd) = &pidfd {
                kill(pidfd.as_fd());
                errors.extend(process_ended(pidfd.as_fd()).await.map_err(LaunchError::Channel).err());
            }
        }
        Err(error) => errors.push(error),
    }
    errors.extend(host.detacher.detach(host, id).await.err());
    errors
}

fn resolver<'a>(job: &Job<'a>) -> Resolver<'a> {
    match job.shared.network() {
        Some(owner) => Resolver::SharedWith(owner),
        None if job.networks.is_empty() => Resolver::Host,
        None => Resolver::Embedded,
    }
}

/// Is a creation under way.
struct Attempt {
    process: ProcessIdentity,
    pidfd: OwnedFd,
    prepared: Prepared,
    init: AsyncFd<InitChannel>,
    pipes: Option<(OwnedFd, OwnedFd)>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
    networking: Networking,
    device_rules: Vec<DeviceRule>,
}

impl Attempt {
    /// Prepares the plan and has the process cloned. Where this fails there is no process.
    async fn begin(
        host: &Host,
        shim: &ShimLink,
        job: &Job<'_>,
        files: &ContainerFiles,
        cgroup: &Cgroup,
        devices: &HostDevices,
    ) -> Result<Self, LaunchError> {
        let (prepared, mut warnings) = prepare_plan(host, job, files, cgroup, devices)?;
        warnings.extend(cgroup.warnings().iter().cloned());
        let (init, theirs) = InitChannel::pair().map_err(LaunchError::Channel)?;
        let stdio = Stdio::open(job.request)?;
        let mut fds = vec![theirs.as_fd(), stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd()];
        let clone_into = cgroup.clone_into();
        fds.extend(clone_into);
        fds.extend(job.shared.joins(&prepared.spawn.join));
        let key = job.request.id.as_str();
        let spawned = shim.spawn(key, &prepared.spawn, clone_into.is_some(), &fds).await?;
        let identity = ProcessIdentity::of(spawned.pid)?.ok_or(LaunchError::Died)?;
        Ok(Self {
            process: identity,
            pidfd: spawned.pidfd,
            prepared,
            init: watch(init, Interest::READABLE).map_err(LaunchError::Channel)?,
            pipes: stdio.ours,
            stdin: stdio.our_stdin,
            terminal: None,
            warnings,
            networking: Networking::default(),
            device_rules: devices.rules.clone(),
        })
    }

    /// Everything between the clone and the last moment before execve.
    async fn carry_on(
        &mut self,
        host: &Host,
        job: &Job<'_>,
        files: &ContainerFiles,
        cgroup: &Cgroup,
        spawned: impl FnOnce(&ProcessIdentity) -> Result<(), StoreError>,
    ) -> Result<(), LaunchError> {
        spawned(&self.process)?;
        let tasks = cgroup.v1_tasks()?;
        let mapped = self.set_up().await?;
        let fds: Vec<_> = tasks.iter().chain(&mapped).map(AsFd::as_fd).collect();
        self.init.get_mut().send_plan(&self.prepared.plan, &fds).map_err(LaunchError::Channel)?;
        self.warnings.extend(cgroup.confine_devices(&self.device_rules));
        if job.request.namespaces.network == NamespaceSource::Private && job.shared.network().is_none() {
            self.networking.netns = match open_netns(self.process.pid) {
                // It has ended already: its last words say why.
                Err(error) if error.is_gone() => return Err(wait_created(&mut self.init).await.err().unwrap_or(error)),
                netns => Some(netns?),
            };
        }
        // The two go on side by side: the process mounts while its network is made.
        let attached = job.passing.attach(&mut self.networking, host, job.guest());
        let created = wait_created(&mut self.init);
        let ((), (warnings, terminal)) = tokio::try_join!(attached, created)?;
        self.warnings.extend(warnings);
        self.terminal = terminal;
        let addresses = self.networking.addresses();
        if !addresses.own.is_empty() {
            files.write_hosts(job.request, &addresses)?;
        }
        self.warnings.extend(addresses.missing_host(job.request));
        Ok(())
    }

    /// Does the parent's part of a user namespace. Layers that cannot be mapped are copied, which takes as long as it takes.
    async fn set_up(&mut self) -> Result<Vec<OwnedFd>, LaunchError> {
        let Some(pid) = Pid::from_raw(self.process.pid).filter(|_| self.prepared.needs_set_up()) else {
            return Ok(Vec::new());
        };
        let prepared = self.prepared.clone();
        let done = tokio::task::spawn_blocking(move || prepared.set_up(pid, &Stopwatch::default())).await;
        let done = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        self.warnings.extend(done.warnings);
        Ok(done.fds)
    }

    fn finish(self, cgroup: Cgroup) -> Created {
        let output = match (self.terminal, self.pipes) {
            (Some(terminal), _) => Output::Terminal(terminal),
            (None, Some((stdout, stderr))) => Output::Pipes { stdout, stderr },
            // A terminal that was asked for comes with `Created`, or the creation fails.
            (None, None) => unreachable!("a created container has streams"),
        };
        Created {
            live: Live { process: self.process, pidfd: self.pidfd, cgroup, networking: self.networking },
            output,
            stdin: self.stdin,
            warnings: self.warnings,
            init: self.init,
        }
    }

    async fn undo(self, host: &Host, job: &Job<'_>) {
        kill(self.pidfd.as_fd());
        if tokio::time::timeout(KILL_DEADLINE, process_ended(self.pidfd.as_fd())).await.is_err() {
            tracing::error!(pid = self.process.pid, "the process does not end; it is stuck in the kernel");
        }
        if let Err(error) = self.networking.detach(host, &job.request.id).await {
            tracing::warn!(container = %job.request.name, %error, "undoing a creation");
        }
    }
}

/// The container's ends of its streams, and ours.
struct Stdio {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    ours: Option<(OwnedFd, OwnedFd)>,
    our_stdin: Option<OwnedFd>,
}

impl Stdio {
    fn open(request: &ContainerRequest) -> Result<Self, LaunchError> {
        let null = |source| LaunchError::Null(source);
        let open_null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from).map_err(null);
        if request.tty {
            let (stdin, stdout, stderr) = (open_null()?, open_null()?, open_null()?);
            return Ok(Self { stdin, stdout, stderr, ours: None, our_stdin: None });
        }
        let (our_stdout, stdout) = make_stdio_pipe(0, 0)?;
        let (our_stderr, stderr) = make_stdio_pipe(0, 0)?;
        let (stdin, our_stdin) = if request.stdin_open {
            let (reader, writer) = io::pipe().map_err(null)?;
            (OwnedFd::from(reader), Some(OwnedFd::from(writer)))
        } else {
            (open_null()?, None)
        };
        Ok(Self { stdin, stdout, stderr, ours: Some((our_stdout, our_stderr)), our_stdin })
    }
}

fn prepare_plan(
    host: &Host,
    job: &Job<'_>,
    files: &ContainerFiles,
    cgroup: &Cgroup,
    devices: &HostDevices,
) -> Result<(Prepared, Vec<String>), LaunchError> {
    let mut warnings = Vec::new();
    let wanted = CapabilitySet::resolve(&job.request.capabilities)?;
    let (capabilities, missing) = match job.request.namespaces.user {
        // A new user namespace has them all.
        Some(_) => (wanted, CapabilitySet::from_bits(0)),
        None => capabilities::intersect_host(wanted)?,
    };
    if !missing.is_empty() && !job.request.capabilities.add.is_empty() {
        warnings.push(format!("this host cannot give the capabilities {missing}"));
    }
    let seccomp = seccomp::compile(&job.request.seccomp, &capabilities)?.map(|filter| filter.as_bytes().to_vec());
    let confinement = Confinement { capabilities, seccomp, devices: devices.nodes.clone() };
    Ok((plan(job.request, files, &confinement, host.cgroup_view(cgroup))?, warnings))
}

/// Makes the plan of a container that waits for its start.
pub(super) fn plan(
    request: &ContainerRequest,
    files: &ContainerFiles,
    confinement: &Confinement,
    cgroups: CgroupView,
) -> Result<Prepared, LaunchError> {
    let options = StartOptions { start_at_once: false, die_with_parent: false, cgroups };
    Ok(prepare(request, &files.paths(), confinement, &options)?)
}

pub(super) fn open_netns(pid: i32) -> Result<OwnedFd, LaunchError> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).map(OwnedFd::from).map_err(|source| LaunchError::Netns { path, source })
}

async fn wait_created(init: &mut AsyncFd<InitChannel>) -> Result<(Vec<String>, Option<OwnedFd>), LaunchError> {
    match next_event(init).await? {
        InitEvent::Created { warnings, terminal } => Ok((warnings, terminal)),
        InitEvent::Failed(failure) => Err(LaunchError::Init(failure)),
        InitEvent::Died => Err(LaunchError::Died),
        InitEvent::HooksDue | InitEvent::SeccompListener(_) | InitEvent::Executed => {
            Err(LaunchError::Channel(io::ErrorKind::InvalidData.into()))
        }
    }
}

pub(super) async fn next_event(init: &mut AsyncFd<InitChannel>) -> Result<InitEvent, LaunchError> {
    loop {
        let mut ready = init.readable_mut().await.map_err(LaunchError::Channel)?;
        match ready.get_inner_mut().try_recv().map_err(LaunchError::Channel)? {
            Some(event) => return Ok(event),
            None => ready.clear_ready(),
        }
    }
}

/// Sends SIGKILL; a process that has ended needs none.
fn kill(pidfd: BorrowedFd<'_>) {
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
}

/// Kills everything in a cgroup and waits for its first process.
async fn end_processes(cgroup: &Cgroup, pidfd: Option<BorrowedFd<'_>>) -> Result<(), LaunchError> {
    cgroup.kill()?;
    if let Some(pidfd) = pidfd {
        kill(pidfd);
        match tokio::time::timeout(KILL_DEADLINE, process_ended(pidfd)).await {
            Ok(ended) => ended.map_err(LaunchError::Channel)?,
            Err(_) => return Err(LaunchError::Stuck(KILL_DEADLINE)),
        }
    }
    Ok(())
}

async fn discard_cgroup(cgroup: &Cgroup) {
    let ended = end_processes(cgroup, None).await;
    if let Err(error) = ended.and_then(|()| cgroup.remove(KILL_DEADLINE).map_err(LaunchError::from)) {
        tracing::warn!(%error, "undoing a creation");
    }
}
