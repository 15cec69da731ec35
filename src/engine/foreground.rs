#![doc = include_str!("foreground/README.md")]

mod claim;
mod explain;
mod launch;
mod network;
mod process;
mod spare;
mod streams;

use std::cell::OnceCell;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

pub use self::claim::running;
use self::claim::{Claim, Stale};
pub use self::explain::Outlook;
use self::launch::Launch;
use self::network::{Attaching, NetworkThread, NetworkWork};
pub(super) use self::process::{MainProcess, MainSignals};
use self::spare::Spares;
pub use self::streams::StreamEnds;
use self::streams::Streams;
use super::devices::HostDevices;
use super::error::LaunchError;
use super::files::{Addresses, ContainerFiles, Resolver};
use super::host::{Host, cgroup_view};
use super::networking::NetworkWish;
use super::passing::PassingNetworks;
use super::running::SharedNamespaces;
use crate::capabilities;
use crate::container::{
    CgroupView, Confinement, ContainerPaths, HostDevice, InitChannel, Prepared, Role, SpawnFds, StartOptions, prepare,
    spawn_init, spawn_init_with_plan,
};
use crate::namespaces::cgroup::{Cgroup, CgroupPath, Hierarchies};
use crate::network::dns::NameTable;
use crate::network::{FirewallOptions, NetworkConfig};
use crate::seccomp;
use crate::spec::{CapabilitySet, ContainerRequest, ExitStatus, Mark, NamespaceSource, Stopwatch};
use crate::store::Directories;

/// The network of `run` where none is named.
pub const DEFAULT_NETWORK: &str = "bridge";
/// The label of networks that a run has made.
pub const PASSING: &str = "mydocker.passing";

/// Within this time a program runs, or the attempt is given up and reported.
const CREATE_DEADLINE: Duration = Duration::from_secs(30);
/// So long the kernel may take to end processes that have SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Is what is to be run.
#[derive(Debug)]
pub struct ForegroundJob<'a> {
    /// The container.
    pub request: &'a ContainerRequest,
    /// The cgroup that all of ours lie in.
    pub cgroup_parent: &'a str,
    /// Its networks, in the order of their interfaces. [`DEFAULT_NETWORK`] is made where it is missing.
    pub networks: &'a [NetworkWish],
    /// Networks that are made where they are missing, and go with the last run that is on them.
    pub passing_networks: &'a [NetworkConfig],
    /// How the firewall's rules are made.
    pub firewall: &'a FirewallOptions,
    /// Names under which every network knows it.
    pub names: &'a [String],
    /// What it has in common with containers that run.
    pub shared: &'a SharedNamespaces,
    /// Volumes that go with the container.
    pub own_volumes: &'a [String],
    /// What went worse than asked so far.
    pub warnings: &'a [String],
    /// What its steps are noted in.
    pub watch: Stopwatch,
    /// Takes a copy of the plan that is carried out.
    pub carried_out: Option<&'a OnceCell<Prepared>>,
}

/// Is who stands at the other end of the container's streams, and hears what there is to tell.
pub trait Console {
    /// Tells what the user should know.
    fn warn(&mut self, text: &str);

    /// Begins to carry the container's streams. With a terminal its program does not run yet; with pipes it may.
    ///
    /// # Errors
    /// A terminal that cannot be had, a thread that cannot be started: the container is killed then.
    fn connect(&mut self, ends: StreamEnds) -> std::io::Result<()>;

    /// Hears that our terminal has another size.
    fn resize(&mut self);

    /// Carries what is left, and restores what [`connect`](Self::connect) has changed. The container has ended.
    fn disconnect(&mut self);
}

/// Runs a container and waits for its end. This process must have one thread; it has blocked signals ever after.
///
/// Nothing of the container is left when this returns. What is left by a kill of this very process, the next call
/// clears.
///
/// # Errors
/// [`LaunchError`]: the program did not run.
pub fn run(dirs: &Directories, job: &ForegroundJob<'_>, console: &mut dyn Console) -> Result<ExitStatus, LaunchError> {
    let signals = MainSignals::block()?;
    // Directories of ours come out as they are meant.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    dirs.ensure()?;
    let mut run = Run::claim(dirs, job)?;
    let outcome = run.live(job, &signals, console).map_err(|error| error.explained_by(run.cgroup.as_ref()));
    run.end_others(job, console);
    console.disconnect();
    for error in run.clear(job, &signals) {
        console.warn(&format!("clearing container {}: {}", job.request.id, error.chain().join(": ")));
    }
    outcome
}

/// Holds what has been made of a run, to be cleared.
struct Run<'a> {
    dirs: &'a Directories,
    claim: Claim,
    stale: Vec<Stale>,
    hierarchies: Hierarchies,
    path: CgroupPath,
    cgroup: Option<Cgroup>,
    network: Option<NetworkThread>,
}

impl<'a> Run<'a> {
    fn claim(dirs: &'a Directories, job: &ForegroundJob<'_>) -> Result<Self, LaunchError> {
        let path = CgroupPath::new(&format!("{}/{}", job.cgroup_parent, job.request.id.as_str()))?;
        let hierarchies = Hierarchies::discover()?.measured_by(&job.watch);
        let claim = job.watch.time(Mark::Claim, || Claim::take(dirs.run(), &job.request.id, path.as_str()))?;
        let stale = claim::stale(dirs.run(), job.cgroup_parent, Some(&job.request.id));
        Ok(Self { dirs, claim, stale, hierarchies, path, cgroup: None, network: None })
    }

    /// Everything from the container's files to its end. What it leaves is for [`Run::clear`].
    fn live(
        &mut self,
        job: &ForegroundJob<'_>,
        signals: &MainSignals,
        console: &mut dyn Console,
    ) -> Result<ExitStatus, LaunchError> {
        let resolver = match job.shared.network() {
            Some(owner) => Resolver::SharedWith(owner),
            None if job.networks.is_empty() => Resolver::Host,
            None => Resolver::Embedded,
        };
        let spares = Spares::of(self.dirs);
        let files = job.watch.time(Mark::MakeFiles, || {
            spares.take(&ContainerFiles::of(self.dirs, &job.request.id), &job.request.rootfs);
            ContainerFiles::create(self.dirs, job.request, resolver)
        })?;
        let devices = HostDevices::find(job.request)?;
        let cgroup = self.hierarchies.create(&self.path, &job.request.limits)?;
        let cgroup = self.cgroup.insert(cgroup);
        let confinement = confinement(job.request, &self.dirs.data().join("cache/seccomp"), devices.nodes)?;
        let prepared = plan(job, &files.paths(), confinement, cgroup_view(cgroup))?;
        let no_gateway = if job.networks.is_empty() { Addresses::default().missing_host(job.request) } else { None };
        job.warnings.iter().chain(cgroup.warnings()).chain(&no_gateway).for_each(|warning| console.warn(warning));
        let (mut init, theirs) = InitChannel::pair().map_err(LaunchError::Channel)?;
        let (streams, ends) = Streams::open(job.request)?;
        let fds = SpawnFds {
            channel: theirs.as_fd(),
            stdin: streams.stdin(),
            stdout: streams.stdout(),
            stderr: streams.stderr(),
            cgroup: cgroup.clone_into(),
            joins: job.shared.joins(&prepared.spawn.join),
            preserved: Vec::new(),
            watch: job.watch.clone(),
        };
        if let Some(cell) = job.carried_out {
            let _ = cell.set(prepared.clone());
        }
        let process = spawn(&prepared, &fds, cgroup, job.shared, &mut init, console)?;
        self.claim.tell(job.request, &files, process.pid());
        // From here on there may be threads.
        drop((theirs, streams));
        let mut launch = Launch::new(job, init, ends);
        launch.note_end_of_channel();
        self.network = match start_network(self.dirs, job, &mut self.stale, &process) {
            // It has ended already: its last words say why.
            Err(error) if error.is_gone() => return Err(launch.hear(console, true).err().unwrap_or(error)),
            network => network?,
        };
        // The new process has its hands full for a while.
        let judge = job.watch.begin(Mark::JudgeDevices);
        cgroup.confine_devices(&devices.rules).iter().for_each(|warning| console.warn(warning));
        judge.done();
        launch.start_when_due()?;
        spares.clean_one(&files);
        let status = launch.wait(job, &files, process, self.network.as_ref(), signals, console)?;
        let killed = matches!(status, ExitStatus::Signal(libc::SIGKILL) | ExitStatus::Code(137));
        if killed && cgroup.oom_kills().is_ok_and(|kills| kills > 0) {
            let limit = job.request.limits.memory.map_or_else(String::new, |bytes| format!(" of {bytes} bytes"));
            console.warn(&format!("the container ran out of memory: the kernel killed it at its limit{limit}"));
        }
        Ok(status)
    }

    /// Ends what the command has left running. In a namespace of its own the kernel has done that.
    fn end_others(&self, job: &ForegroundJob<'_>, console: &mut dyn Console) {
        let Some(cgroup) = self.cgroup.as_ref().filter(|_| job.request.namespaces.pid != NamespaceSource::Private)
        else {
            return;
        };
        if let Err(error) = job.watch.time(Mark::RemoveCgroup, || cgroup.kill()) {
            console.warn(&LaunchError::from(error).chain().join(": "));
        }
    }

    /// Takes away everything; goes on over errors.
    fn clear(self, job: &ForegroundJob<'_>, signals: &MainSignals) -> Vec<LaunchError> {
        let mut errors = Vec::new();
        if let Some(network) = self.network {
            let step = job.watch.begin(Mark::DetachNetworks);
            errors.extend(network.finish(signals.as_fd(), || signals.take_ending()));
            step.waited();
        }
        if let Some(cgroup) = &self.cgroup {
            let removed = job.watch.time(Mark::RemoveCgroup, || {
                let removed = cgroup.remove(KILL_DEADLINE);
                cgroup.remove_empty_parents();
                removed
            });
            errors.extend(removed.map_err(LaunchError::from).err());
        }
        let files = ContainerFiles::of(self.dirs, &job.request.id);
        let removed = job.watch.time(Mark::RemoveFiles, || match Spares::of(self.dirs).keep(&files, job.request) {
            true => Ok(()),
            false => files.remove(self.dirs, &job.request.id),
        });
        errors.extend(removed.map_err(LaunchError::from).err());
        for volume in job.own_volumes {
            errors.extend(self.dirs.remove_volume(volume).map_err(LaunchError::from).err());
        }
        // With an error there is something left: it stays claimed by nobody, and the next start tries again.
        if errors.is_empty() {
            errors.extend(job.watch.time(Mark::GiveUp, || self.claim.release()).map_err(LaunchError::Channel).err());
        }
        errors
    }
}

/// Says what the container's process may do. Filters that were compiled are kept in `cache`.
fn confinement(request: &ContainerRequest, cache: &Path, devices: Vec<HostDevice>) -> Result<Confinement, LaunchError> {
    let wanted = CapabilitySet::resolve(&request.capabilities)?;
    // A new user namespace has them all.
    let capabilities = match request.namespaces.user {
        Some(_) => wanted,
        None => capabilities::intersect_host(wanted)?.0,
    };
    let filter = seccomp::compile_cached(cache, &request.seccomp, &capabilities)?;
    let seccomp = filter.map(|filter| filter.as_bytes().to_vec());
    Ok(Confinement { capabilities, seccomp, devices })
}

fn plan(
    job: &ForegroundJob<'_>,
    paths: &ContainerPaths,
    confinement: Confinement,
    cgroups: CgroupView,
) -> Result<Prepared, LaunchError> {
    let options = StartOptions { start_at_once: false, die_with_parent: true, cgroups };
    Ok(prepare(job.request, paths, &confinement, &options)?)
}

/// Makes the first process, which begins with its plan at once.
fn spawn(
    prepared: &Prepared,
    fds: &SpawnFds<'_>,
    cgroup: &Cgroup,
    shared: &SharedNamespaces,
    init: &mut InitChannel,
    console: &mut dyn Console,
) -> Result<MainProcess, LaunchError> {
    let tasks = cgroup.v1_tasks()?;
    let mut plan_fds: Vec<_> = tasks.iter().map(AsFd::as_fd).collect();
    // Not where the user has something else mounted there.
    let is_wanted = prepared.plan.descriptors.iter().any(|role| matches!(role, Role::Source(_)));
    let shared_memory = shared.shared_memory().filter(|_| is_wanted);
    if !prepared.needs_set_up() {
        plan_fds.extend(shared_memory);
        init.plan_is_known(&prepared.plan);
        return Ok(MainProcess::new(spawn_init_with_plan(&prepared.spawn, fds, &prepared.plan, &plan_fds)?));
    }
    // Maps are written into a process that is there, and layers are mapped by its namespace.
    let process = MainProcess::new(spawn_init(&prepared.spawn, fds)?);
    let mapped = prepared.set_up(process.raw_pid(), &fds.watch)?;
    mapped.warnings.iter().for_each(|warning| console.warn(warning));
    plan_fds.extend(mapped.fds.iter().map(AsFd::as_fd).chain(shared_memory));
    let send = || init.send_plan(&prepared.plan, &plan_fds);
    fds.watch.time(Mark::SendPlan, send).map_err(LaunchError::Channel)?;
    Ok(process)
}

/// Starts the thread of the networks, where there is anything for it to do.
fn start_network(
    dirs: &Directories,
    job: &ForegroundJob<'_>,
    stale: &mut Vec<Stale>,
    process: &MainProcess,
) -> Result<Option<NetworkThread>, LaunchError> {
    if job.networks.is_empty() && stale.is_empty() {
        return Ok(None);
    }
    let container = if job.networks.is_empty() {
        None
    } else {
        Some(Attaching {
            id: job.request.id.clone(),
            name: job.request.name.clone(),
            names: job.names.to_vec(),
            wishes: job.networks.to_vec(),
            dns: job.request.dns.clone(),
            netns: super::launch::open_netns(process.pid())?,
        })
    };
    let work = NetworkWork {
        host: Host {
            // The container ends with us, however we do.
            names: NameTable::while_we_live(dirs.run())?,
            ..Host::open(dirs.clone(), job.firewall.clone())?
        },
        stale: std::mem::take(stale),
        passing: PassingNetworks::of(job.passing_networks),
        container,
        watch: job.watch.clone(),
    };
    NetworkThread::start(work).map(Some)
}
