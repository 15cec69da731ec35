//! Hooks of the container's own side: programs that this process runs, told of the container on their standard input.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
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

/// Runs one hook. With its timeout over, its process group is killed. What it said is added to `outputs` when it has ended: it is not
/// given the files themselves, which are the host's.
pub(super) fn run(hook: &HookCall, outputs: [Option<BorrowedFd<'_>>; 2]) -> Result<(), StepError> {
    let words = Words::new(outputs.iter().any(Option::is_some))?;
    let result = run_saying(hook, &words);
    let kept = words.keep(outputs).map_err(|error| StepError::io(&error).with_object("the file that gets its output"));
    result.and(kept)
}

fn run_saying(hook: &HookCall, words: &Words) -> Result<(), StepError> {
    let mut child = command(hook, words)?.spawn()?;
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
        Some(status) => Err(StepError::unexpected(&format!("{status}{}", words.said()))),
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
fn command(hook: &HookCall, words: &Words) -> io::Result<Command> {
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
    command.stdin(Stdio::piped()).stdout(words.stdout.try_clone()?).stderr(words.stderr.try_clone()?);
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

/// Is what a hook says, in memory.
struct Words {
    stdout: File,
    stderr: File,
}

impl Words {
    /// Makes room for it; in one place, in the order in which it is said, unless it is to be told apart.
    fn new(apart: bool) -> io::Result<Self> {
        let memory = || rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC).map(File::from);
        let stdout = memory()?;
        let stderr = if apart { memory()? } else { stdout.try_clone()? };
        Ok(Self { stdout, stderr })
    }

    /// Adds it to the files that are there.
    fn keep(&self, outputs: [Option<BorrowedFd<'_>>; 2]) -> io::Result<()> {
        for (mut words, output) in [&self.stdout, &self.stderr].into_iter().zip(outputs) {
            let Some(output) = output else { continue };
            words.rewind()?;
            io::copy(&mut words, &mut File::from(output.try_clone_to_owned()?))?;
        }
        Ok(())
    }

    fn said(&self) -> String {
        let mut text = Vec::new();
        let read =
            |mut file: &File, text: &mut Vec<u8>| file.rewind().and_then(|()| file.take(SHOWN).read_to_end(text));
        let mut found = read(&self.stdout, &mut text);
        if rustix::fs::fstat(&self.stdout).ok().map(|stat| stat.st_ino)
            != rustix::fs::fstat(&self.stderr).ok().map(|stat| stat.st_ino)
        {
            found = found.and_then(|_| read(&self.stderr, &mut text));
        }
        match String::from_utf8_lossy(&text).trim() {
            "" => String::new(),
            said => found.map_or_else(|_| String::new(), |_| format!(": {said}")),
        }
    }
}
