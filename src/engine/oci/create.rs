//! `create`: everything but the program.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::bundle::Bundle;
use super::console::ConsoleSocket;
use super::hooks::HookTimes;
use super::process::{FirstProcess, FirstStreams, write_pid_file};
use super::run::signals_failed;
use super::state::file;
use super::{
    CgroupDriver, Container, ContainerDirectory, ContainerRecord, HostMounts, OciError, OciId, ResctrlRecord, Runtime,
    Status, Trace, delete, hooks, listener, notify,
};
use crate::container::{
    BundleOptions, CgroupView, InitChannel, InitEvent, Prepared, Role, SpawnFds, prepare_bundle, spawn_init,
};
use crate::engine::foreground::MainSignals;
use crate::engine::host::cgroup_view;
use crate::namespaces::cgroup::{Cgroup, CgroupRecord, Hierarchies, bundle_path};
use crate::namespaces::{Namespace, NamespaceSet};
use crate::network::MovedDevices;
use crate::seccomp::{self, SpecFilter};
use crate::spec::{Mark, Stopwatch};
use crate::store::{FileLock, ProcessIdentity};
use crate::sys::Child;
use crate::sys::process::unblock_signals;

/// The annotation, as in crun, by which a name in the filter that nobody knows is an error.
const STRICT_SECCOMP: &str = "run.oci.seccomp_fail_unknown_syscall";

/// Is what `create` is asked to do.
#[derive(Debug)]
pub struct CreateJob<'a> {
    /// The container's id.
    pub id: &'a OciId,
    /// Its bundle.
    pub bundle: &'a Bundle,
    /// Gets the process id, in digits.
    pub pid_file: Option<&'a Path>,
    /// Who takes the terminal.
    pub terminal: TerminalTaker<'a>,
    /// What becomes descriptor 3, 4, … of the program; `None` is a number that is not open.
    pub preserved: &'a [Option<OwnedFd>],
    /// The caller starts it at once, by the channel that it gets; no socket is made for others.
    pub starts_here: bool,
    /// Changes root without pivot_root(2).
    pub no_pivot: bool,
    /// Makes a session keyring for the container.
    pub new_keyring: bool,
    /// The container dies with the caller.
    pub die_with_parent: bool,
    /// Hears the plan.
    pub trace: Trace<'a>,
    /// Takes a copy of the plan that is carried out.
    pub carried_out: Option<&'a OnceCell<Prepared>>,
}

/// Says who takes the master of a container's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalTaker<'a> {
    /// Nobody: the configuration must not ask for a terminal.
    Nobody,
    /// Whoever listens at this socket.
    Socket(&'a Path),
    /// The caller of [`create`].
    Caller,
}

/// Is a container whose process waits for `start`.
#[derive(Debug)]
pub struct CreatedContainer {
    /// The container.
    pub container: Container,
    /// Its first process, a child of ours.
    pub process: Child,
    /// The way to start it, where the caller does that.
    pub init: Option<InitChannel>,
    /// The master of its terminal, where the caller takes it.
    pub terminal: Option<OwnedFd>,
    /// What is worse than asked.
    pub warnings: Vec<String>,
}

/// Creates a container. Its process is a child of the caller's; it outlives the caller and waits for [`super::start()`].
///
/// Where a step fails nothing is left: no process, cgroup, mount, state. Whatever a kill leaves of the caller, `delete --force`
/// clears; its process ends by itself.
///
/// # Errors
/// [`OciError`].
pub fn create(runtime: &Runtime, job: &CreateJob<'_>) -> Result<CreatedContainer, OciError> {
    let signals = MainSignals::block_ending().map_err(|error| signals_failed(&error))?;
    let created = create_watching(runtime, job, &signals);
    // What the caller waits for next ends by a signal as ever.
    unblock_signals();
    created
}

/// The same; `signals` bring those that want an end.
pub(super) fn create_watching(
    runtime: &Runtime,
    job: &CreateJob<'_>,
    signals: &MainSignals,
) -> Result<CreatedContainer, OciError> {
    let socket = check_terminal(job)?;
    let (directory, lock) = runtime.watch.time(Mark::MakeState, || runtime.root.claim(job.id))?;
    let mut making = Making {
        directory,
        lock,
        cgroup_record: None,
        host_mounts: None,
        cgroup: None,
        net_devices: None,
        resctrl: None,
        process: None,
    };
    let first = match making.create(runtime, job, socket.as_ref(), signals) {
        Ok(created) => return Ok(created),
        Err(error) => error,
    };
    match making.undo() {
        Ok(()) => Err(first),
        Err(then) => Err(OciError::NotCleared { first: Box::new(first), then: Box::new(then) }),
    }
}

/// Both ways round: a terminal without a taker would be lost, a taker without a terminal would wait for ever.
fn check_terminal(job: &CreateJob<'_>) -> Result<Option<ConsoleSocket>, OciError> {
    let wrong = |reason: &str| OciError::Config { key: "process.terminal".to_owned(), reason: reason.to_owned() };
    match (job.bundle.wants_terminal(), job.terminal) {
        (true, TerminalTaker::Nobody) => {
            Err(wrong("a detached container with a terminal needs `--console-socket` to send its master to"))
        }
        (false, TerminalTaker::Socket(_)) => {
            Err(wrong("`--console-socket` is for a container with a terminal, and this one asks for none"))
        }
        (true, TerminalTaker::Socket(path)) => ConsoleSocket::connect(path).map(Some),
        _ => Ok(None),
    }
}

/// What there is of a container so far.
struct Making {
    directory: ContainerDirectory,
    #[expect(dead_code, reason = "it is held, and released with the rest")]
    lock: FileLock,
    /// Once it may be there.
    cgroup_record: Option<CgroupRecord>,
    host_mounts: Option<HostMounts>,
    cgroup: Option<Cgroup>,
    /// Until the container is created: a container that does not come to be gives them back.
    net_devices: Option<MovedDevices>,
    /// Once it may be there.
    resctrl: Option<ResctrlRecord>,
    process: Option<FirstProcess>,
}

impl Making {
    fn create(
        &mut self,
        runtime: &Runtime,
        job: &CreateJob<'_>,
        console: Option<&ConsoleSocket>,
        signals: &MainSignals,
    ) -> Result<CreatedContainer, OciError> {
        let spec = &job.bundle.spec;
        let mut record = new_record(runtime, job)?;
        let class = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
        let class = class.map(|asked| ResctrlRecord::plan(asked, job.id.as_str())).transpose()?;
        record.resctrl = class.as_ref().map(|(place, _)| place.clone());
        self.directory.write_record(&record)?;
        self.directory.write_config(spec)?;
        if let Some((place, schemata)) = &class {
            self.resctrl = Some(place.clone());
            place.make(schemata)?;
        }
        self.cgroup_record.clone_from(&record.cgroup);
        self.host_mounts.clone_from(&record.host_mounts);
        self.make_cgroup(&mut record, spec, &runtime.watch)?;
        let seen = self.cgroup.as_ref().map(|cgroup| view(cgroup, spec)).unwrap_or_default();
        let mut notifying = Cow::Borrowed(spec);
        if runtime.notify_socket.is_some() {
            notify::add_to(notifying.to_mut(), &self.directory)?;
        }
        let mut prepared = prepare(job, &notifying, seen, filter(runtime, spec)?)?;
        record.namespaces = prepared.spawn.join.iter().copied().collect::<NamespaceSet>().union(prepared.spawn.create);
        let mut warnings = std::mem::take(&mut prepared.warnings);
        warnings.extend(self.cgroup.iter().flat_map(|cgroup| cgroup.warnings().to_vec()));
        let mut init = self.spawn(&mut prepared, job, &runtime.watch)?;
        let process = self.process.as_ref().ok_or(OciError::Died { during: "created", out_of_memory: false })?;
        record.init = Some(process.identity()?);
        if spec.hooks().is_some() {
            // A hook may ask for the state by the container's id.
            self.directory.write_record(&record)?;
        }
        let terminal = self.follow(&mut init, job, &record, &mut warnings, (signals, &runtime.watch))?;
        if let (Some(console), Some(master)) = (console, &terminal) {
            console.send(master)?;
        }
        record.is_created = true;
        self.directory.write_record(&record)?;
        if let Some(path) = job.pid_file {
            write_pid_file(path, process.pid())?;
        }
        let init = if job.starts_here {
            Some(init)
        } else {
            init.detach().map_err(OciError::kernel("let go of the container's process"))?;
            None
        };
        let process = self.process.take().ok_or(OciError::Died { during: "created", out_of_memory: false })?;
        let terminal = terminal.filter(|_| job.terminal == TerminalTaker::Caller);
        let container = Container { directory: self.directory.clone(), record };
        Ok(CreatedContainer { container, process: process.release(), init, terminal, warnings })
    }

    /// Makes the cgroup with its limits.
    fn make_cgroup(&mut self, record: &mut ContainerRecord, spec: &Spec, watch: &Stopwatch) -> Result<(), OciError> {
        let Some(asked) = &mut record.cgroup else { return Ok(()) };
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        let hierarchies = Hierarchies::discover()?.measured_by(watch);
        // On record before it is made: whoever kills us leaves it for `delete` to find.
        let missing = hierarchies.missing_parents(&asked.path);
        if missing > asked.parents {
            asked.parents = missing;
            self.cgroup_record.clone_from(&record.cgroup);
            self.directory.write_record(record)?;
        }
        let make = |asked: &CgroupRecord| hierarchies.create_for_bundle(&asked.path, asked.parents, &resources);
        self.cgroup = record.cgroup.as_ref().map(make).transpose()?;
        Ok(())
    }

    /// Clones the first process and gives it its plan.
    fn spawn(
        &mut self,
        prepared: &mut Prepared,
        job: &CreateJob<'_>,
        watch: &Stopwatch,
    ) -> Result<InitChannel, OciError> {
        let joins = prepared.joins.iter().map(crate::container::Join::open).collect::<Result<Vec<_>, _>>()?;
        let socket = (!job.starts_here).then(|| self.directory.listen()).transpose()?;
        prepared.plan.descriptors.extend(socket.as_ref().map(|_| Role::StartSocket));
        let outputs = hooks::own_outputs(&job.bundle.spec)?;
        prepared.plan.descriptors.extend(outputs.iter().map(|(role, _)| role.clone()));
        prepared.plan.preserved = job.preserved.len() as u32;
        let (mut init, theirs) = InitChannel::pair().map_err(OciError::kernel("make a channel to the new process"))?;
        let streams = FirstStreams::of(job.bundle.wants_terminal())?;
        let fds = SpawnFds {
            channel: theirs.as_fd(),
            stdin: streams.stdin(),
            stdout: streams.stdout(),
            stderr: streams.stderr(),
            cgroup: self.cgroup.as_ref().and_then(Cgroup::clone_into),
            joins: joins.iter().map(AsFd::as_fd).collect(),
            preserved: job.preserved.iter().map(|fd| fd.as_ref().map(AsFd::as_fd)).collect(),
            watch: watch.clone(),
        };
        let process = self.process.insert(FirstProcess::new(spawn_init(&prepared.spawn, &fds)?));
        drop(theirs);
        job.trace.tell(&prepared.plan);
        if let Some(cell) = job.carried_out {
            let _ = cell.set(prepared.clone());
        }
        self.resctrl.as_ref().map_or(Ok(()), |class| class.join(process.pid()))?;
        let mapped = prepared.set_up(process.raw_pid(), watch)?.fds;
        if !prepared.net_devices.is_empty() {
            let netns = network_namespace(prepared, joins, process.pid())?;
            let moved = watch.time(Mark::MoveDevices, || MovedDevices::move_into(netns, &prepared.net_devices));
            let moved = moved.map_err(OciError::NetDevices)?;
            self.net_devices = Some(moved);
        }
        let tasks = self.cgroup.as_ref().map_or(Ok(Vec::new()), Cgroup::v1_tasks)?;
        let files = outputs.iter().map(|(_, file)| file.as_fd());
        let all: Vec<_> = tasks.iter().chain(&mapped).chain(&socket).map(AsFd::as_fd).chain(files).collect();
        match watch.time(Mark::SendPlan, || init.send_plan(&prepared.plan, &all)) {
            // It has said why it is gone.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            sent => sent.map_err(OciError::kernel("send the plan to the new process"))?,
        }
        Ok(init)
    }

    /// Waits until the process is created, running hooks when it asks for them; returns its terminal.
    fn follow(
        &self,
        init: &mut InitChannel,
        job: &CreateJob<'_>,
        record: &ContainerRecord,
        warnings: &mut Vec<String>,
        (signals, watch): (&MainSignals, &Stopwatch),
    ) -> Result<Option<OwnedFd>, OciError> {
        loop {
            match watch.wait(Mark::AwaitProgram, || hear(init, signals))? {
                InitEvent::HooksDue => {
                    run_hooks(job, record, signals, watch)?;
                    init.hooks_done().map_err(OciError::kernel("let the new process go on"))?;
                }
                InitEvent::Created { warnings: more, terminal } => {
                    warnings.extend(more);
                    return Ok(terminal);
                }
                InitEvent::SeccompListener(seccomp) => {
                    let container = Container { directory: self.directory.clone(), record: record.clone() };
                    let pid = record.init.as_ref().map_or(0, |init| init.pid);
                    listener::hand_over(&container, Status::Creating, pid, &seccomp)?;
                }
                InitEvent::Failed(failure) => return Err(OciError::Init(failure)),
                InitEvent::Executed | InitEvent::Died => {
                    let kills = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok());
                    return Err(OciError::Died {
                        during: "created",
                        out_of_memory: kills.is_some_and(|kills| kills > 0),
                    });
                }
            }
        }
    }

    /// Takes back what was made; what cannot be taken back stays recorded, for `delete --force`.
    fn undo(self) -> Result<(), OciError> {
        // While somebody has its namespace open: with that the kernel removes a device.
        let devices = self.net_devices.map_or(Ok(()), MovedDevices::put_back).map_err(OciError::NetDevices);
        if self.process.is_some_and(|process| !process.end()) {
            // It has what it was given until it ends; with the record `delete --force` clears that then.
            return Err(OciError::Stuck(self.directory.id().to_string()));
        }
        if let Some(record) = &self.cgroup_record {
            delete::clear_cgroup(record, self.cgroup.as_ref())?;
        }
        self.host_mounts.as_ref().map_or(Ok(()), HostMounts::clear)?;
        self.resctrl.as_ref().map_or(Ok(()), ResctrlRecord::clear)?;
        self.directory.remove()?;
        devices
    }
}

/// Takes the network namespace that the new process is in, or is about to join.
fn network_namespace(prepared: &Prepared, joins: Vec<OwnedFd>, pid: i32) -> Result<OwnedFd, OciError> {
    let mut joined = prepared.joins.iter().zip(joins).filter(|(join, _)| join.kind == Namespace::Network);
    if let Some((_, netns)) = joined.next() {
        return Ok(netns);
    }
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    File::open(&path).map(OwnedFd::from).map_err(file("open", &path))
}

/// Waits for the new process's next word, or for a signal that wants an end: it may be stuck in a file system that does not answer.
fn hear(init: &mut InitChannel, signals: &MainSignals) -> Result<InitEvent, OciError> {
    let failed = || OciError::kernel("hear from the new process");
    loop {
        if let Some(event) = init.try_recv().map_err(failed())? {
            return Ok(event);
        }
        let mut fds = [PollFd::new(init, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed()(errno.into())),
        }
        if signals.take_ending() {
            return Err(OciError::Interrupted);
        }
    }
}

fn run_hooks(
    job: &CreateJob<'_>,
    record: &ContainerRecord,
    signals: &MainSignals,
    watch: &Stopwatch,
) -> Result<(), OciError> {
    let Some(all) = job.bundle.spec.hooks() else { return Ok(()) };
    // Its environment stands, its program does not run: what the specification calls created, though `create` goes on.
    let state = record.report(Status::Created);
    let times = HookTimes { watch, mark: Mark::Hook, first: 0 };
    hooks::run_all("prestart", all.prestart().as_ref(), &job.bundle.path, &state, times, Some(signals))?;
    let times = HookTimes { first: all.prestart().as_ref().map_or(0, Vec::len), ..times };
    hooks::run_all("createRuntime", all.create_runtime().as_ref(), &job.bundle.path, &state, times, Some(signals))
}

fn new_record(runtime: &Runtime, job: &CreateJob<'_>) -> Result<ContainerRecord, OciError> {
    let spec = &job.bundle.spec;
    Ok(ContainerRecord {
        id: job.id.clone(),
        bundle: job.bundle.path.clone(),
        rootfs: job.bundle.rootfs(),
        oci_version: spec.version().clone(),
        created: jiff::Timestamp::now().to_string(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        owner: rustix::process::geteuid().as_raw(),
        cgroup: cgroup_record(runtime, job.id, spec)?,
        namespaces: NamespaceSet::default(),
        host_mounts: HostMounts::before(spec, &job.bundle.rootfs())?,
        resctrl: None,
        creator: ProcessIdentity::own()?,
        init: None,
        is_created: false,
    })
}

pub(super) fn cgroup_record(runtime: &Runtime, id: &OciId, spec: &Spec) -> Result<Option<CgroupRecord>, OciError> {
    let CgroupDriver::Files { parent } = &runtime.cgroups else { return Ok(None) };
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let asked = asked.map(|path| path.to_string_lossy());
    let path = bundle_path(asked.as_deref(), parent, &id.file_name())?;
    // Our own parent goes with the last container in it, whoever made it.
    let own = path.as_str().strip_prefix(parent.as_str()).filter(|below| below.starts_with('/'));
    let parents = own.map_or(0, |_| path.as_str().matches('/').count() - 1);
    Ok(Some(CgroupRecord { path, parents }))
}

/// Compiles the filter that the configuration asks for.
pub(super) fn filter(runtime: &Runtime, spec: &Spec) -> Result<Option<SpecFilter>, OciError> {
    compile(spec, Some(&runtime.filter_cache))
}

/// The same; what was compiled is kept where there is a `cache`.
pub(super) fn compile(spec: &Spec, cache: Option<&Path>) -> Result<Option<SpecFilter>, OciError> {
    let Some(config) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let note = spec.annotations().as_ref().and_then(|notes| notes.get(STRICT_SECCOMP));
    let strict = note.is_some_and(|note| matches!(note.as_str(), "1" | "true"));
    Ok(Some(seccomp::compile_spec(config, cache, strict)?))
}

/// Says what the container sees of the cgroups. In a namespace of its own the file systems begin with its cgroup; without one they would
/// show everybody's, and a user namespace may not mount them: its own directories are bound instead.
fn view(cgroup: &Cgroup, spec: &Spec) -> CgroupView {
    if has_cgroup_namespace(spec) {
        return cgroup_view(cgroup);
    }
    CgroupView::Directories { joined: cgroup.v1_names(), seen: cgroup.named_directories() }
}

pub(super) fn has_cgroup_namespace(spec: &Spec) -> bool {
    let mut named = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    named.any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup)
}

pub(super) fn prepare(
    job: &CreateJob<'_>,
    spec: &Spec,
    cgroups: CgroupView,
    seccomp: Option<SpecFilter>,
) -> Result<Prepared, OciError> {
    let options = BundleOptions {
        start_at_once: false,
        die_with_parent: job.die_with_parent,
        cgroups,
        seccomp,
        no_pivot: job.no_pivot,
        new_keyring: job.new_keyring,
        ..BundleOptions::default()
    };
    Ok(prepare_bundle(spec, &job.bundle.path, job.id.as_str(), &options)?)
}
