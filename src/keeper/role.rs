//! Starting a role of our own binary: keeper, shim or supervisor.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;

use crate::sys::clone::exit_now;
use crate::sys::process::{close_inherited, execute, place_descriptors, reset_signals};
use crate::sys::{Channel, CloneRequest, clone_process};

/// Names a role; `main` starts the role whose argument is its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The top of a project's tree.
    Keeper,
    /// The parent of its containers.
    Shim,
    /// Its policy.
    Supervisor,
}

impl Role {
    /// Returns the first argument of a process in this role. No user's command begins with `@`.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Keeper => "@keeper",
            Self::Shim => "@shim",
            Self::Supervisor => "@supervisor",
        }
    }

    /// Returns the name that ps(1) shows, within the kernel's 15 bytes.
    pub fn process_name(self) -> &'static std::ffi::CStr {
        match self {
            Self::Keeper => c"mydocker-keeper",
            Self::Shim => c"mydocker-shim",
            Self::Supervisor => c"mydocker-superv",
        }
    }

    /// Finds the role that a first argument names.
    pub fn from_argument(argument: &OsStr) -> Option<Self> {
        [Self::Keeper, Self::Shim, Self::Supervisor].into_iter().find(|role| argument == role.argument())
    }
}

/// Starts `role` from `executable` with one end of a new channel as its standard input, and returns the other end.
///
/// # Errors
/// What socketpair(2) and posix_spawn(3) say.
pub fn spawn_role(role: Role, project: &str, executable: BorrowedFd<'_>) -> io::Result<(Child, Channel)> {
    let (command, channel) = role_command(role, project, executable)?;
    spawn(command, channel)
}

/// Is as long as the command line of an init may be.
const TITLE_ROOM: &str = match std::str::from_utf8(&[b'.'; 1024]) {
    Ok(room) => room,
    Err(_) => "",
};

/// Is what the first role is started with, besides what all are.
pub(super) struct FirstStart<'a> {
    /// Takes its messages and those of the roles that it starts.
    pub(super) log: &'a File,
    /// Where they look for tools: all that they get of the client's environment.
    pub(super) path: &'a OsStr,
    /// The cgroup v2 directory in which they live.
    pub(super) cgroup: Option<BorrowedFd<'a>>,
}

/// As [`spawn_role`], for the first of them. It is born in its cgroup, which costs nothing; being moved there would cost
/// some milliseconds. Where that cannot be had it stays in the client's.
pub(super) fn spawn_first(
    role: Role,
    project: &str,
    executable: BorrowedFd<'_>,
    start: &FirstStart<'_>,
) -> io::Result<(i32, Channel)> {
    if let Some(cgroup) = start.cgroup
        && let Ok(started) = spawn_in_cgroup(role, project, executable, start, cgroup)
    {
        return Ok(started);
    }
    let (mut command, channel) = role_command(role, project, executable)?;
    command.stderr(start.log.try_clone()?).env_clear().env("PATH", start.path);
    let (child, channel) = spawn(command, channel)?;
    Ok((child.id().cast_signed(), channel))
}

fn spawn_in_cgroup(
    role: Role,
    project: &str,
    executable: BorrowedFd<'_>,
    start: &FirstStart<'_>,
    cgroup: BorrowedFd<'_>,
) -> io::Result<(i32, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let null = File::options().write(true).open("/dev/null")?;
    let text = |text: Vec<u8>| CString::new(text).map_err(io::Error::other);
    let title = format!("{}: {project}", role.process_name().to_string_lossy());
    let args = [text(title.into_bytes())?, text(role.argument().into())?];
    let env = [text([b"PATH=", start.path.as_bytes()].concat())?];
    let request = CloneRequest { cgroup: Some(cgroup), ..CloneRequest::default() };
    let child = clone_process(&request, |fresh| {
        reset_signals(fresh.ignored_signals());
        let fds = [theirs.as_fd(), null.as_fd(), start.log.as_fd(), executable].map(Some);
        // The fourth has number 3 as long as it is held; whoever waits on the channel learns of a failure by its end.
        if let Ok(_placed) = place_descriptors(&fds, 3)
            && std::env::set_current_dir("/").is_ok()
        {
            execute(c"/proc/self/fd/3", &args, &env);
        }
        exit_now(125)
    })
    .map_err(io::Error::other)?;
    Ok((child.pid.as_raw_nonzero().get(), ours))
}

fn role_command(role: Role, project: &str, executable: BorrowedFd<'_>) -> io::Result<(Command, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()));
    command
        .arg0(format!("{}: {project}", role.process_name().to_string_lossy()))
        .arg(role.argument())
        .stdin(Stdio::from(theirs.into_fd()))
        .stdout(Stdio::null())
        // One heap for all threads, given back early (mallopt(3)): these processes wait most of their lives.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_TRIM_THRESHOLD_", "65536")
        // Inits that the shim forks write their command lines over its arguments and environment.
        .env("TITLE_ROOM", TITLE_ROOM)
        .current_dir("/");
    Ok((command, ours))
}

fn spawn(mut command: Command, channel: Channel) -> io::Result<(Child, Channel)> {
    Ok((command.spawn()?, channel))
}

/// Makes this process one of the three: it takes the channel that is its standard input, leaves the session of
/// whoever started it, dies of no signal but SIGKILL, and cannot be read through /proc by the programs it starts.
///
/// # Errors
/// What the system calls say.
pub fn become_role(role: Role) -> io::Result<Channel> {
    close_inherited()?;
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    match rustix::process::setsid() {
        // EPERM: already the leader of a process group.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Files get the modes that are asked for, whatever the client's shell is set to.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(role.process_name())?;
    blocked_signals().thread_set_mask()?;
    Ok(Channel::new(channel))
}

/// The signals that none of the three dies of. SIGKILL and SIGSTOP cannot be blocked.
fn blocked_signals() -> SigSet {
    use Signal::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGCHLD, SIGUSR1, SIGUSR2].into_iter().collect()
}
