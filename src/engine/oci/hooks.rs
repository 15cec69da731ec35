//! Hooks that the runtime itself runs: programs of the host's, told of a container by its state on their standard input.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{OciError, StateReport};
use crate::container::Role;
use crate::sys::process::kill_with_us;

/// So much of what a hook says is shown where it fails.
const SHOWN: usize = 1024;

/// Annotations that name files to which the output of hooks is added, as in crun.
const OUTPUT: [&str; 2] = ["run.oci.hooks.stdout", "run.oci.hooks.stderr"];

/// Opens the files that get the output of the hooks that the new process runs itself, with what it knows them by.
pub(super) fn own_outputs(spec: &Spec) -> Result<Vec<(Role, File)>, OciError> {
    let own = spec.hooks().iter().flat_map(|hooks| [hooks.create_container(), hooks.start_container()]).flatten();
    if own.flatten().next().is_none() {
        return Ok(Vec::new());
    }
    let notes = spec.annotations().clone().unwrap_or_default();
    let named = OUTPUT.into_iter().zip([Role::HookStdout, Role::HookStderr]);
    let named = named.filter_map(|(name, role)| Some((name, role, notes.get(name)?)));
    let open = |(name, role, path): (&'static str, Role, &String)| {
        let failed =
            |error: io::Error| OciError::Config { key: name.to_owned(), reason: format!("open {path}: {error}") };
        open_output(path).map(|file| (role, file)).map_err(failed)
    };
    named.map(open).collect()
}

/// Runs hooks one after the other, in `directory`, and stops at the first that fails.
///
/// # Errors
/// [`OciError::Hook`]: it cannot be executed, ends with another status than 0, or takes longer than its timeout; all of its
/// process group is killed then.
pub(super) fn run_all(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    directory: &Path,
    state: &StateReport,
) -> Result<(), OciError> {
    hooks.into_iter().flatten().try_for_each(|hook| run(kind, hook, directory, state))
}

/// Runs one hook.
pub(super) fn run(kind: &'static str, hook: &Hook, directory: &Path, state: &StateReport) -> Result<(), OciError> {
    let failed =
        |outcome: String, details: String| OciError::Hook { kind, path: hook.path().clone(), outcome, details };
    let unable = |operation: &'static str| {
        move |source| failed("failed".to_owned(), format!(": {}", OciError::kernel(operation)(source).line()))
    };
    let input = serde_json::to_vec(state).map_err(|error| unable("write the state for it")(error.into()))?;
    let mut command = command(hook, directory);
    let [stdout, stderr] = OUTPUT.map(|name| state.annotations.get(name).map(open_output).transpose());
    stdout.map_err(unable(OUTPUT[0]))?.map(|file| command.stdout(file));
    stderr.map_err(unable(OUTPUT[1]))?.map(|file| command.stderr(file));
    let mut child = command.spawn().map_err(unable("execute it"))?;
    let patience = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let outcome = attend(&mut child, &input, patience);
    if !matches!(outcome, Ok(Attended { status: Some(_), .. })) {
        kill_group(&child);
        let _ = child.wait();
    }
    let attended = outcome.map_err(unable("wait for it"))?;
    let outcome = match attended.status {
        None => {
            let seconds = patience.unwrap_or_default().as_secs();
            format!("took longer than its timeout of {seconds} s and was killed")
        }
        Some(status) => match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(()),
            (Some(code), _) => format!("failed with exit code {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        },
    };
    Err(failed(outcome, attended.said()))
}

/// What a hook says is added to a file: it keeps what hooks before it said.
fn open_output(path: &String) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A hook has the environment that its description gives it; one that says nothing of it has ours, as in other runtimes.
fn command(hook: &Hook, directory: &Path) -> Command {
    let mut command = Command::new(hook.path());
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).current_dir(directory).process_group(0);
    if let Some(env) = hook.env() {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // One that hangs is not to outlive a runtime that was killed for it.
    kill_with_us(&mut command);
    command
}

/// What became of a hook.
struct Attended {
    /// `None` where its time was over.
    status: Option<ExitStatus>,
    words: Vec<u8>,
}

impl Attended {
    fn said(&self) -> String {
        let words = String::from_utf8_lossy(&self.words);
        let words = words.trim();
        if words.is_empty() { String::new() } else { format!(", saying: {words}") }
    }
}

/// Feeds a hook and listens to it until it ends. Whoever it left behind with its pipes is not waited for.
fn attend(child: &mut Child, input: &[u8], patience: Option<Duration>) -> io::Result<Attended> {
    let deadline = patience.map(|patience| Instant::now() + patience);
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    for fd in [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)] {
        fd.map_or(Ok(()), set_nonblocking)?;
    }
    let (mut rest, mut words) = (input, Vec::new());
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Attended { status: None, words });
        }
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        fds.extend(stdout.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(stderr.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ended = !fds[0].revents().is_empty();
        if let Some(pipe) = &mut stdin
            && !feed(pipe, &mut rest)
        {
            stdin = None;
        }
        if stdout.as_mut().is_some_and(|pipe| !listen(pipe, &mut words)) {
            stdout = None;
        }
        if stderr.as_mut().is_some_and(|pipe| !listen(pipe, &mut words)) {
            stderr = None;
        }
        if ended {
            return Ok(Attended { status: Some(child.wait()?), words });
        }
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)? | rustix::fs::OFlags::NONBLOCK;
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}

/// Writes what there is room for; says whether there is more to write. A hook that does not read is no error.
fn feed(pipe: &mut impl Write, rest: &mut &[u8]) -> bool {
    match pipe.write(rest) {
        Ok(count) => *rest = &rest[count..],
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => return false,
    }
    !rest.is_empty()
}

/// Reads what is there; says whether there may be more.
fn listen(pipe: &mut impl Read, words: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => words.extend(&buffer[..count.min(SHOWN.saturating_sub(words.len()))]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// It leads a process group of its own: what it started goes with it.
fn kill_group(child: &Child) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
