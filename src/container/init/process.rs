//! The steps that change the process itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Gid, Uid};
use rustix::io::Errno;
use rustix::process::Signal;

use super::failure::StepError;
use super::stage::Stage;
use super::user::ResolvedUser;
use crate::container::limits;
use crate::container::plan::{ResourceLimit, Role};
use crate::sys;

/// Writes `0`, which means the writer, into each v1 `tasks` file: the parent opened them, since this process may have
/// no path to them and, in a user namespace, no right.
pub(super) fn join_cgroups(stage: &mut Stage) -> Result<(), StepError> {
    let descriptors = std::mem::take(&mut stage.descriptors);
    let (tasks, others): (Vec<_>, Vec<_>) =
        descriptors.into_iter().partition(|(role, _)| matches!(role, Role::CgroupTasks(_)));
    stage.descriptors = others;
    for (role, file) in tasks {
        if let Err(errno) = rustix::io::write(&file, b"0") {
            let Role::CgroupTasks(controller) = role else { continue };
            return Err(StepError::from(errno).with_object(format!("controller {controller}")));
        }
    }
    Ok(())
}

/// Files are made from here on by ids that the namespace maps. Says whether setgroups(2) is denied: then the groups stay as they are: none,
/// where the parent could leave its own.
pub(super) fn become_namespace_root(keep_groups: bool) -> Result<bool, StepError> {
    match sys::process::set_ids(0, 0, (!keep_groups).then_some(&[])) {
        Ok(()) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            sys::process::set_ids(0, 0, None)?;
            Ok(true)
        }
        Err(error) => Err(StepError::io(&error).with_hint("the id maps have to map 0, for users and for groups")),
    }
}

/// Sets a limit, or as much of it as this host allows; the sentence says what was not to be had.
pub(super) fn set_limit(limit: &ResourceLimit) -> Result<Option<String>, StepError> {
    let number = limits::number(&limit.name).ok_or_else(|| StepError::unexpected("there is no such limit"))?;
    match sys::process::set_rlimit(number, limit.soft, limit.hard) {
        Ok(()) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    let (_, allowed) = sys::process::rlimit(number)?;
    let (soft, hard) = (limit.soft.min(allowed), limit.hard.min(allowed));
    sys::process::set_rlimit(number, soft, hard)?;
    let given = ResourceLimit { name: limit.name.clone(), soft, hard };
    Ok(Some(format!("asked for {limit}, set {given}: without CAP_SYS_RESOURCE the hard limit cannot be raised")))
}

pub(super) fn set_oom_score(score: i32) -> Result<Option<String>, StepError> {
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(Some(format!("oom_score_adj stays as it was: without CAP_SYS_RESOURCE it cannot be lowered to {score}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Leads a session of its own; with a terminal, that becomes the session's and 0, 1 and 2.
pub(super) fn start_session(terminal: Option<&OwnedFd>) -> Result<(), StepError> {
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    if let Some(terminal) = terminal {
        sys::process::set_controlling_terminal(terminal.as_fd())?;
        (0..=2).try_for_each(|number| sys::process::replace_stdio(terminal.as_fd(), number))?;
    }
    Ok(())
}

/// Becomes the user. The pipes and the terminal become the user's too: /dev/stdout is opened anew by many a program. A terminal
/// keeps its group, the one that may write to terminals.
pub(super) fn set_identity(user: &ResolvedUser, terminal: Option<&OwnedFd>) -> Result<(), StepError> {
    if user.uid != 0 {
        let _ = terminal.map(|terminal| give(terminal.as_fd(), user.uid, None));
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            if rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_fifo()) {
                give(fd, user.uid, Some(user.gid));
            }
        }
        rustix::thread::set_keep_capabilities(true)?;
    }
    let groups = (!user.keep_groups).then_some(&user.groups[..]);
    sys::process::set_ids(user.uid, user.gid, groups).map_err(|error| {
        let text = format!("uid {}, gid {}, groups {:?}", user.uid, user.gid, user.groups);
        let error = StepError::io(&error).with_object(text);
        let hint = "the user namespace has to map these ids";
        if error.errno == Some(libc::EINVAL) { error.with_hint(hint) } else { error }
    })
}

/// What belongs to another user namespace stays as it is; the program then has what it was given.
fn give(fd: BorrowedFd<'_>, uid: u32, gid: Option<u32>) {
    let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw));
}

pub(super) fn enter_directory(directory: Option<OwnedFd>) -> Result<(), StepError> {
    let directory = directory.ok_or_else(|| StepError::unexpected("the directory was not opened"))?;
    rustix::process::fchdir(&directory).map_err(|errno| StepError::from(errno).with_exit_code(126))
}

/// Asks for SIGKILL, then looks whether the parent died before the request could hold.
pub(super) fn die_with_parent(channel: BorrowedFd<'_>) -> Result<(), StepError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [PollFd::from_borrowed_fd(channel, PollFlags::empty())];
    rustix::event::poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if fds[0].revents().contains(PollFlags::HUP) { Err(StepError::unexpected("the parent died")) } else { Ok(()) }
}
