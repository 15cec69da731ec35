//! Hooks of the container's own side: programs that this process runs, told of the container on their standard input.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::failure::StepError;
use crate::container::plan::HookCall;

/// So much of what a hook says is shown where it fails.
const SHOWN: u64 = 1024;

/// Runs one hook. With its timeout over, its process group is killed.
pub(super) fn run(hook: &HookCall) -> Result<(), StepError> {
    let words = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?;
    let mut child = command(hook, &words)?.spawn()?;
    let patience = hook.timeout.map(Duration::from_secs);
    let input = input(hook);
    let status = attend(&mut child, &input, patience);
    if !matches!(status, Ok(Some(_))) {
        kill_group(&child);
        // It is dead or dying; its status does not matter any more.
        let _ = child.wait();
    }
    match status? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(StepError::unexpected(&format!("{status}{}", said(words)))),
        None => {
            let seconds = hook.timeout.unwrap_or_default();
            Err(StepError::unexpected(&format!("it took longer than its timeout of {seconds} s and was killed")))
        }
    }
}

/// The process id is as the container sees it (runtime specification, "State").
fn input(hook: &HookCall) -> Vec<u8> {
    let pid = rustix::process::getpid().as_raw_nonzero();
    match hook.state.strip_suffix('}') {
        Some(state) => format!("{state},\"pid\":{pid}}}").into_bytes(),
        None => hook.state.clone().into_bytes(),
    }
}

/// What it says goes into memory: a pipe would be held open by whatever it leaves behind.
fn command(hook: &HookCall, words: &OwnedFd) -> io::Result<Command> {
    let mut command = Command::new(&hook.path);
    let mut args = hook.args.iter();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).process_group(0);
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    if let Some(directory) = &hook.directory {
        command.current_dir(directory);
    }
    command.stdin(Stdio::piped()).stdout(words.try_clone()?).stderr(words.try_clone()?);
    Ok(command)
}

/// Gives it its input and waits for its end; `None` where its time was over before.
fn attend(child: &mut Child, input: &[u8], patience: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    // A state is smaller than a pipe's buffer, or else it is written while the hook reads.
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let Some(patience) = patience else { return child.wait().map(Some) };
    let deadline = Instant::now() + patience;
    let pid = Pid::from_raw(child.id() as i32).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn kill_group(child: &Child) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn said(words: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut file = File::from(words);
    let read = file.rewind().and_then(|()| file.take(SHOWN).read_to_end(&mut text));
    match String::from_utf8_lossy(&text).trim() {
        "" => String::new(),
        said => read.map_or_else(|_| String::new(), |_| format!(": {said}")),
    }
}
