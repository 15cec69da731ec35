//! Starting a role of our own binary: keeper, shim or supervisor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::DumpableBehavior;

use crate::sys::Channel;

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

/// As [`spawn_role`], for the first of them: nothing of the client's environment but `PATH`, messages to `log`.
pub(super) fn spawn_first(
    role: Role,
    project: &str,
    executable: BorrowedFd<'_>,
    log: File,
    path: OsString,
) -> io::Result<(Child, Channel)> {
    let (mut command, channel) = role_command(role, project, executable)?;
    command.stderr(log).env_clear().env("PATH", path);
    spawn(command, channel)
}

fn role_command(role: Role, project: &str, executable: BorrowedFd<'_>) -> io::Result<(Command, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()));
    command
        .arg0(format!("{}: {project}", role.process_name().to_string_lossy()))
        .arg(role.argument())
        .stdin(Stdio::from(theirs.into_fd()))
        .stdout(Stdio::null())
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
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    match rustix::process::setsid() {
        // EPERM: already the leader of a process group.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
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

/// Opens the program that roles are started from: this process's own binary.
///
/// # Errors
/// What open(2) says about /proc/self/exe.
pub fn open_executable() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/exe")?.into())
}
