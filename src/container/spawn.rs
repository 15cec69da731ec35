//! Makes the processes. None of these calls waits: the new process waits for its plan, its parent waits for nothing.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::init;
use super::{LaunchPlan, SpawnError};
use crate::namespaces::mount::change_root;
use crate::namespaces::{Namespace, NamespaceSet};
use crate::spec::{Mark, Moment, Stopwatch};
use crate::sys::clone::exit_now;
use crate::sys::executable;
use crate::sys::process::{join_namespaces, place_descriptors, reset_signals, unshare};
use crate::sys::{Channel, Child, CloneRequest, Fresh, clone_process, parse_message, send_message};

/// Says what clone3(2) is to make for a container; it travels from the supervisor to the shim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Namespaces that are made new.
    pub create: NamespaceSet,
    /// Namespaces that are joined, one descriptor each in this order. A user namespace must come first.
    pub join: Vec<Namespace>,
    /// What is written to /proc/self/timens_offsets of a new time namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_offsets: Option<String>,
    /// Leaves the supplementary groups of whoever spawns outside: for a user namespace in which the new process cannot leave them
    /// itself, since setgroups(2) is denied there.
    #[serde(default)]
    pub drop_groups: bool,
}

impl SpawnRequest {
    /// Returns the bits for clone3(2). The cgroup namespace is unshared by the plan, after the v1 cgroups were joined; the time
    /// namespace before the clone.
    fn cloned(&self) -> u64 {
        self.create.without(Namespace::Cgroup).without(Namespace::Time).bits()
    }

    /// Says whether the joins come before the clone: a process namespace and a time namespace hold for children alone, what is
    /// new belongs to the user namespace that its maker is in, and in a new user namespace nothing of the host's can be joined.
    pub(super) fn needs_one_between(&self) -> bool {
        let joins = |kind| self.join.contains(&kind);
        joins(Namespace::User)
            || joins(Namespace::Pid)
            || joins(Namespace::Time)
            || self.create.contains(Namespace::Time)
            || self.create.contains(Namespace::User) && !self.join.is_empty()
    }

    /// Returns every namespace in which the container differs from us: what an exec enters.
    pub fn namespaces(&self) -> NamespaceSet {
        self.join.iter().copied().fold(self.create, NamespaceSet::with)
    }
}

/// Holds the descriptors of a spawn. All of them stay the caller's.
#[derive(Debug)]
pub struct SpawnFds<'a> {
    /// The new process's end of [`super::InitChannel::pair`].
    pub channel: BorrowedFd<'a>,
    /// What becomes 0.
    pub stdin: BorrowedFd<'a>,
    /// What becomes 1.
    pub stdout: BorrowedFd<'a>,
    /// What becomes 2.
    pub stderr: BorrowedFd<'a>,
    /// A cgroup v2 directory to start in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Namespaces to join, as [`SpawnRequest::join`] names them.
    pub joins: Vec<BorrowedFd<'a>>,
    /// What becomes 3, 4, … and is kept over execve(2), as many as [`LaunchPlan::preserved`] says; a number with `None` is not open.
    pub preserved: Vec<Option<BorrowedFd<'a>>>,
    /// What the new process notes its steps in.
    pub watch: Stopwatch,
}

impl<'a> SpawnFds<'a> {
    fn inherited(&self) -> Vec<Option<BorrowedFd<'a>>> {
        inherited(self.stdin, self.stdout, self.stderr, &self.preserved)
    }
}

/// Makes a container's first process: one clone3(2) with all its namespaces. It closes every descriptor but its own,
/// has default signals, and waits for its plan ([`super::InitChannel::send_plan`]).
///
/// # Errors
/// [`SpawnError::Clone`], also where the caller has more than one thread; [`SpawnError::NotSealed`] where it did not begin with
/// [`executable::run_sealed`].
pub fn spawn_init(request: &SpawnRequest, fds: &SpawnFds<'_>) -> Result<Child, SpawnError> {
    spawn(request, fds, None)
}

/// As [`spawn_init`], for a caller who has the plan already: the new process finds it in its copy of the caller's memory and
/// waits for nothing. `plan_fds` are the descriptors that `plan` names. A plan that needs its process to be there (a user
/// namespace's maps) cannot go this way.
///
/// # Errors
/// As [`spawn_init`]; [`SpawnError::PlanDescriptors`] where the numbers differ.
pub fn spawn_init_with_plan(
    request: &SpawnRequest,
    fds: &SpawnFds<'_>,
    plan: &LaunchPlan,
    plan_fds: &[BorrowedFd<'_>],
) -> Result<Child, SpawnError> {
    if plan_fds.len() != plan.descriptors.len() {
        return Err(SpawnError::PlanDescriptors { got: plan_fds.len(), wanted: plan.descriptors.len() });
    }
    spawn(request, fds, Some((plan, plan_fds)))
}

fn spawn(
    request: &SpawnRequest,
    fds: &SpawnFds<'_>,
    plan: Option<(&LaunchPlan, &[BorrowedFd<'_>])>,
) -> Result<Child, SpawnError> {
    if fds.joins.len() != request.join.len() {
        return Err(SpawnError::Joins { got: fds.joins.len(), wanted: request.join.len() });
    }
    check_sealed()?;
    if request.drop_groups {
        // EPERM: without the right to change them they are those of an ordinary user, who keeps them.
        let _ = rustix::thread::set_thread_groups(&[]);
    }
    if request.needs_one_between() {
        return spawn_through(request, fds, plan);
    }
    let clone = CloneRequest { namespaces: request.cloned(), cgroup: fds.cgroup, sibling: false };
    fds.watch.time(Mark::Clone, || {
        Ok(clone_process(&clone, |fresh| {
            fds.watch.begin(Mark::Begin).leave_open();
            init::hide_memory();
            if let Err((step, error)) = join_all(&request.join, &fds.joins) {
                init::fail_on(fds.channel, &step, &error);
            }
            become_init(fresh, fds.channel, &fds.inherited(), plan, &fds.watch)
        })?)
    })
}

/// Sees to it that no new process is a fork of a file that a container could write to.
fn check_sealed() -> Result<(), SpawnError> {
    if executable::is_sealed().map_err(SpawnError::Executable)? { Ok(()) } else { Err(SpawnError::NotSealed) }
}

/// Has a process in between join and unshare what holds for its children alone, or has to be there before a new namespace is
/// made; the container's process is its sibling, a child of ours.
fn spawn_through(
    request: &SpawnRequest,
    fds: &SpawnFds<'_>,
    plan: Option<(&LaunchPlan, &[BorrowedFd<'_>])>,
) -> Result<Child, SpawnError> {
    let between = fds.watch.begin(Mark::CloneBetween);
    let pending = spawn_between(|fresh| {
        fds.watch.note(Moment::BetweenBegan);
        fds.watch.time(Mark::Join, || enter_for_children(request, fds))?;
        let clone = CloneRequest { namespaces: request.cloned(), cgroup: fds.cgroup, sibling: true };
        let cloned = fds.watch.time(Mark::Clone, || {
            let made = fresh.clone_process(&clone, |fresh| {
                // A time namespace holds for it, whatever our own clock shows.
                keep_host_time(request, &fds.watch);
                fds.watch.begin(Mark::Begin).leave_open();
                init::hide_memory();
                become_init(fresh, fds.channel, &fds.inherited(), plan, &fds.watch)
            });
            made.map_err(clone_failed)
        });
        fds.watch.note(Moment::BetweenEnded);
        cloned
    })?;
    between.done();
    fds.watch.wait(Mark::AwaitProgram, || pending.finish())
}

/// Joins and makes what holds for children.
fn enter_for_children(request: &SpawnRequest, fds: &SpawnFds<'_>) -> Result<(), (String, std::io::Error)> {
    join_all(&request.join, &fds.joins)?;
    if request.join.contains(&Namespace::Time) {
        keep_host_time(request, &fds.watch);
    }
    if request.create.contains(Namespace::Time) {
        make_time_namespace(request.time_offsets.as_deref())?;
    }
    Ok(())
}

/// What is measured is to be on one clock.
fn keep_host_time(request: &SpawnRequest, watch: &Stopwatch) {
    if watch.is_on() && request.namespaces().contains(Namespace::Time) {
        // Without it the times of this process alone are wrong.
        let _ = std::fs::read_to_string("/proc/self/timens_offsets").map(|offsets| watch.set_offsets(&offsets));
    }
}

/// Joins namespaces in an order in which each may be joined. Who enters a user namespace has no right to another's any more, and
/// who has not entered it may have none to those that belong to it: so those that we may, the user namespace, the others.
fn join_all(kinds: &[Namespace], fds: &[BorrowedFd<'_>]) -> Result<(), (String, std::io::Error)> {
    let failed = |kind: &Namespace| format!("join the {kind} namespace");
    let with_user = kinds.contains(&Namespace::User);
    let mut later = Vec::new();
    for (kind, fd) in kinds.iter().zip(fds).filter(|(kind, _)| **kind != Namespace::User) {
        match join_namespaces(*fd, kind.bits()) {
            Ok(()) => {}
            Err(error) if with_user && error.raw_os_error() == Some(libc::EPERM) => later.push((kind, fd)),
            Err(error) => return Err((failed(kind), error)),
        }
    }
    let user = kinds.iter().zip(fds).filter(|(kind, _)| **kind == Namespace::User);
    for (kind, fd) in user.chain(later) {
        join_namespaces(*fd, kind.bits()).map_err(|error| (failed(kind), error))?;
    }
    Ok(())
}

/// The offsets can be set until the first process is in it, which is the next child (time_namespaces(7)).
fn make_time_namespace(offsets: Option<&str>) -> Result<(), (String, std::io::Error)> {
    unshare(Namespace::Time.bits()).map_err(|error| ("make a time namespace".to_owned(), error))?;
    let Some(offsets) = offsets else { return Ok(()) };
    std::fs::write("/proc/self/timens_offsets", offsets)
        .map_err(|error| ("set the offsets of the time namespace".to_owned(), error))
}

fn clone_failed(error: crate::sys::CloneError) -> (String, std::io::Error) {
    match error {
        crate::sys::CloneError::Clone { source, .. } => ("make the process inside".to_owned(), source),
        other => (other.to_string(), std::io::Error::from_raw_os_error(libc::EIO)),
    }
}

/// Lists what the program will have from 0 on.
fn inherited<'a>(
    stdin: BorrowedFd<'a>,
    stdout: BorrowedFd<'a>,
    stderr: BorrowedFd<'a>,
    preserved: &[Option<BorrowedFd<'a>>],
) -> Vec<Option<BorrowedFd<'a>>> {
    [stdin, stdout, stderr].into_iter().map(Some).chain(preserved.iter().copied()).collect()
}

/// Sets descriptors and signals right and carries out `plan`, or what comes through `channel`.
fn become_init(
    fresh: Fresh,
    channel: BorrowedFd<'_>,
    inherited: &[Option<BorrowedFd<'_>>],
    plan: Option<(&LaunchPlan, &[BorrowedFd<'_>])>,
    watch: &Stopwatch,
) -> Infallible {
    reset_signals(fresh.ignored_signals());
    let mut fds = [inherited, &[Some(channel)]].concat();
    fds.extend(plan.iter().flat_map(|(_, fds)| fds.iter().copied().map(Some)));
    match place_descriptors(&fds, inherited.len()) {
        Ok(placed) => {
            let mut placed = placed.into_iter();
            match (placed.next(), plan) {
                (Some(socket), None) => init::wait_and_run(Channel::new(socket), fresh, watch),
                (Some(socket), Some((plan, _))) => {
                    init::run(Channel::new(socket), fresh, plan, placed.collect(), watch)
                }
                (None, _) => exit_now(125),
            }
        }
        Err(error) => init::fail_on(channel, "place the standard descriptors", &error),
    }
}

/// Says which process's namespaces an exec enters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The namespaces in which the container differs from us: what was created and joined for it.
    pub namespaces: NamespaceSet,
}

/// Holds the descriptors of an exec. All of them stay the caller's.
#[derive(Debug)]
pub struct ExecFds<'a> {
    /// The new process's end of [`super::InitChannel::pair`].
    pub channel: BorrowedFd<'a>,
    /// What becomes 0.
    pub stdin: BorrowedFd<'a>,
    /// What becomes 1.
    pub stdout: BorrowedFd<'a>,
    /// What becomes 2.
    pub stderr: BorrowedFd<'a>,
    /// The pidfd of the container's first process.
    pub target: BorrowedFd<'a>,
    /// The container's cgroup v2 directory.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The container's v1 `tasks` files, open for writing.
    pub tasks: Vec<BorrowedFd<'a>>,
    /// What becomes 3, 4, … and is kept over execve(2), as many as [`LaunchPlan::preserved`] says; a number with `None` is not open.
    pub preserved: Vec<Option<BorrowedFd<'a>>>,
    /// The container's root directory, where no mount namespace leads to it.
    pub root: Option<BorrowedFd<'a>>,
}

/// Is an exec whose process is not there yet. Poll [`ExecPending::as_fd`] for reading.
#[derive(Debug)]
pub struct ExecPending {
    /// The process in between, a child of ours: to be reaped when its pidfd is readable.
    pub intermediate: Child,
    report: Channel,
}

/// Is what the intermediate process reports; the new process's pidfd rides on the frame.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EnterReport {
    Entered { pid: i32 },
    Failed { step: String, errno: i32 },
}

/// Starts an exec: one process joins cgroup and namespaces, then makes the process that will run the command as a
/// sibling of itself (CLONE_PARENT), so that the caller is its parent.
///
/// # Errors
/// [`SpawnError::Clone`], also where the caller has more than one thread; [`SpawnError::NotSealed`] where it did not begin with
/// [`executable::run_sealed`].
pub fn spawn_exec(request: &ExecRequest, fds: &ExecFds<'_>) -> Result<ExecPending, SpawnError> {
    check_sealed()?;
    spawn_between(|fresh| enter(fresh, request, fds))
}

/// Makes a process in between that does `work` and reports the process that came of it.
fn spawn_between(
    work: impl FnOnce(Fresh) -> Result<Child, (String, std::io::Error)>,
) -> Result<ExecPending, SpawnError> {
    let (ours, theirs) = Channel::pair().map_err(SpawnError::Channel)?;
    let intermediate = clone_process(&CloneRequest::default(), |fresh| {
        init::hide_memory();
        let report = match work(fresh) {
            Ok(child) => {
                let message = EnterReport::Entered { pid: child.pid.as_raw_nonzero().get() };
                send_message(&theirs, &message, &[child.pidfd.as_fd()])
            }
            Err((step, error)) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                send_message(&theirs, &EnterReport::Failed { step, errno }, &[])
            }
        };
        exit_now(if report.is_ok() { 0 } else { 125 })
    })?;
    Ok(ExecPending { intermediate, report: ours })
}

/// Runs in the intermediate process.
fn enter(fresh: Fresh, request: &ExecRequest, fds: &ExecFds<'_>) -> Result<Child, (String, std::io::Error)> {
    for tasks in &fds.tasks {
        rustix::io::write(tasks, b"0").map_err(|errno| ("join the container's cgroups".to_owned(), errno.into()))?;
    }
    // The cgroup namespace comes last: once in it nobody is let into a cgroup from one outside of it, as ours is (cgroups(7),
    // `nsdelegate`: ENOENT).
    let first = request.namespaces.without(Namespace::Cgroup);
    if first != NamespaceSet::default() {
        join_namespaces(fds.target, first.bits()).map_err(|error| (format!("join the namespaces {first}"), error))?;
    }
    if let Some(root) = fds.root {
        change_root(root).map_err(|error| {
            let errno = error.cause().and_then(std::io::Error::raw_os_error).unwrap_or(libc::EIO);
            ("enter the container's root".to_owned(), std::io::Error::from_raw_os_error(errno))
        })?;
    }
    let clone = CloneRequest { namespaces: 0, cgroup: fds.cgroup, sibling: true };
    fresh
        .clone_process(&clone, |fresh| {
            if request.namespaces.contains(Namespace::Cgroup)
                && let Err(error) = join_namespaces(fds.target, Namespace::Cgroup.bits())
            {
                init::fail_on(fds.channel, "join the cgroup namespace", &error);
            }
            let inherited = inherited(fds.stdin, fds.stdout, fds.stderr, &fds.preserved);
            become_init(fresh, fds.channel, &inherited, None, &Stopwatch::default())
        })
        .map_err(clone_failed)
}

impl ExecPending {
    /// Takes the new process if it was reported; `None` if it was not yet.
    ///
    /// # Errors
    /// [`SpawnError::Enter`] with the step that failed; [`SpawnError::EnterDied`].
    pub fn try_finish(&mut self) -> Result<Option<Child>, SpawnError> {
        match self.report.try_recv().map_err(SpawnError::Channel)? {
            crate::sys::Received::Frame(frame) => read_report(frame).map(Some),
            crate::sys::Received::Nothing => Ok(None),
            crate::sys::Received::Closed => Err(SpawnError::EnterDied),
        }
    }

    /// Waits for the new process and reaps the one in between.
    ///
    /// # Errors
    /// As [`ExecPending::try_finish`].
    pub fn finish(mut self) -> Result<Child, SpawnError> {
        let frame = self.report.recv().map_err(SpawnError::Channel)?;
        let id = rustix::process::WaitId::PidFd(self.intermediate.pidfd.as_fd());
        // Whoever else reaps our children may have been faster: that is as good.
        let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
        read_report(frame.ok_or(SpawnError::EnterDied)?)
    }
}

impl AsFd for ExecPending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

fn read_report(mut frame: crate::sys::Frame) -> Result<Child, SpawnError> {
    match parse_message(&frame).map_err(SpawnError::Channel)? {
        EnterReport::Failed { step, errno } => {
            Err(SpawnError::Enter { step, source: std::io::Error::from_raw_os_error(errno) })
        }
        EnterReport::Entered { pid } => {
            let pidfd: Option<OwnedFd> = frame.fds.pop();
            match (Pid::from_raw(pid), pidfd) {
                (Some(pid), Some(pidfd)) => Ok(Child { pid, pidfd }),
                _ => Err(SpawnError::EnterDied),
            }
        }
    }
}
