//! `delete`: nothing of a container is left.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Container, HostMounts, OciError, OciId, ResctrlRecord, Runtime, Status, hooks};
use crate::namespaces::cgroup::{Cgroup, CgroupError, CgroupRecord, Hierarchies};
use crate::spec::{Mark, Stopwatch};
use crate::store::{ProcessIdentity, StoreError};
use crate::sys::pidfd::send_signal;

/// So long the kernel may take to end processes that have SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// So long one may take to end that is about to. One that has SIGKILL and has not ended then may stand still in a cgroup that is not the
/// container's.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Deletes a container that has stopped; with `force` any, whether it is there or not. The result are warnings.
///
/// # Errors
/// [`OciError::Unknown`], [`OciError::State`] for one that is created or runs; with `force` neither.
pub fn delete(runtime: &Runtime, id: &OciId, force: bool) -> Result<Vec<String>, OciError> {
    if force {
        // Without a record, or with one that nobody can read, the directory is all there is to remove.
        let found = match runtime.find(id) {
            Err(OciError::Unknown(_) | OciError::Store(StoreError::Corrupt { .. })) => {
                runtime.root.directory(id).remove()?;
                return Ok(Vec::new());
            }
            found => found?,
        };
        // Whoever works on it sees its process end, and lets go of the lock.
        kill_first(&found)?;
    }
    let (container, _lock) = match runtime.find_locked(id) {
        Err(OciError::Unknown(_)) if force => return Ok(Vec::new()),
        locked => locked?,
    };
    match container.status()? {
        // Nobody has to be ended.
        Status::Stopped => return clear(&container, &runtime.watch),
        Status::Created | Status::Running if !force && ends_within(&container, AT_ONCE)? => {}
        _ if force => {}
        // Other runtimes delete a container that was only created; the specification wants an error for whatever is not stopped.
        status => {
            let reason = format!("it is {status}; `kill` ends it, or `delete --force`");
            return Err(container.refuse("delete", reason));
        }
    }
    destroy(&container, &runtime.watch)
}

/// Ends a container and removes all that is left of it.
pub(super) fn destroy(container: &Container, watch: &Stopwatch) -> Result<Vec<String>, OciError> {
    kill_first(container)?;
    clear(container, watch)
}

/// Removes all that is left of a container that has ended; its directory last, for it knows the rest.
fn clear(container: &Container, watch: &Stopwatch) -> Result<Vec<String>, OciError> {
    if let Some(record) = &container.record.cgroup {
        watch.time(Mark::RemoveCgroup, || clear_cgroup(record, container.cgroup()?.as_ref()))?;
    }
    container.record.host_mounts.as_ref().map_or(Ok(()), HostMounts::clear)?;
    container.record.resctrl.as_ref().map_or(Ok(()), ResctrlRecord::clear)?;
    let warnings = poststop(container, watch);
    watch.time(Mark::RemoveFiles, || container.directory.remove())?;
    Ok(warnings)
}

/// Waits for the end of the first process.
fn ends_within(container: &Container, patience: Duration) -> Result<bool, OciError> {
    let init = container.record.init.as_ref().filter(|init| init.is_alive());
    let Some(pidfd) = init.map(ProcessIdentity::open_pidfd).transpose()?.flatten() else { return Ok(true) };
    Ok(wait_for_end(&pidfd, patience))
}

/// Waits until a process has ended; says whether it has.
pub(super) fn wait_for_end(pidfd: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) != Ok(0)
}

/// Kills the first process, with which its PID namespace goes, and waits for its end.
pub(super) fn kill_first(container: &Container) -> Result<(), OciError> {
    let init = container.record.init.as_ref().filter(|init| init.is_alive());
    let Some(pidfd) = init.map(ProcessIdentity::open_pidfd).transpose()?.flatten() else { return Ok(()) };
    // One that has just ended needs no signal.
    let _ = send_signal(pidfd.as_fd(), libc::SIGKILL);
    if let Some(cgroup) = container.cgroup()? {
        // A frozen process dies when it thaws.
        cgroup.kill()?;
        let _ = cgroup.thaw();
    }
    if wait_for_end(&pidfd, AT_ONCE) {
        return Ok(());
    }
    if let (Some(cgroup), Some(init)) = (container.cgroup()?, init) {
        cgroup.take_back(init.pid);
    }
    if wait_for_end(&pidfd, KILL_DEADLINE) { Ok(()) } else { Err(OciError::Stuck(container.id().to_string())) }
}

/// Ends whoever is left in a cgroup and removes it, with the levels above that were made for it.
pub(super) fn clear_cgroup(record: &CgroupRecord, cgroup: Option<&Cgroup>) -> Result<(), OciError> {
    if let Some(cgroup) = cgroup {
        cgroup.kill()?;
        cgroup.remove(KILL_DEADLINE)?;
    }
    match Hierarchies::discover() {
        Ok(hierarchies) => hierarchies.remove_parents(record),
        // Where no cgroup file system is mounted nothing of it can be left.
        Err(CgroupError::NoHierarchy) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The specification wants a warning of a hook that fails here, and the rest to go on.
fn poststop(container: &Container, watch: &Stopwatch) -> Vec<String> {
    let hooks = container.directory.config().ok().and_then(|spec| spec.hooks().clone());
    let Some(hooks) = hooks.and_then(|hooks| hooks.poststop().clone()) else { return Vec::new() };
    let report = container.record.report(Status::Stopped);
    let run = |(number, hook)| {
        watch.time(Mark::HookAfterEnd(number), || hooks::run("poststop", hook, &container.record.bundle, &report, None))
    };
    hooks.iter().enumerate().filter_map(|hook| run(hook).err()).map(|error| error.line()).collect()
}
