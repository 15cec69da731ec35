//! The process that watches over a hook: its parent, who outlives whoever runs it by as long as it takes to end it.
//!
//! A hook may hang, and so may what it started, in a session of its own even. A runtime that is killed cannot end them, and a signal for its
//! death reaches the hook itself alone. So a process in between is the subreaper of all that comes of the hook (docs/adr/0028).

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::engine::foreground::MainSignals;
use crate::sys::clone::exit_now;
use crate::sys::process::{kill_with_us, place_descriptors, unblock_signals};
use crate::sys::wait::{Children, reap, reap_blocking};
use crate::sys::{
    Channel, CloneError, CloneRequest, Fresh, clone_process, parse_message, read_pseudo_file, send_message,
};

/// So much of what a hook says is shown where it fails.
const SHOWN: usize = 1024;
/// So long those may take to end that have SIGKILL; one that is stuck in the kernel is left.
const KILL_DEADLINE: Duration = Duration::from_secs(2);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(2);

/// Is a hook that is to be run.
pub(super) struct Job<'a> {
    pub(super) hook: &'a Hook,
    pub(super) directory: &'a Path,
    /// For its standard input.
    pub(super) input: &'a [u8],
    /// So long it may take.
    pub(super) patience: Option<Duration>,
    /// Files that get its output.
    pub(super) outputs: &'a [Option<File>; 2],
}

/// Is what became of a hook.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HookEnd {
    Exited {
        code: i32,
        said: String,
    },
    Killed {
        signal: i32,
        said: String,
    },
    TimedOut {
        said: String,
    },
    NotExecuted {
        errno: i32,
    },
    Lost {
        errno: i32,
    },
    /// Whoever waited for it does not any more.
    Interrupted,
}

/// Runs a hook and waits for its end, or for a signal that wants ours.
///
/// # Errors
/// There can be no process to watch over it, or it was killed.
pub(super) fn run(job: &Job<'_>, signals: Option<&MainSignals>) -> io::Result<HookEnd> {
    let (mut ours, theirs) = Channel::pair()?;
    let guard = clone(|_| guard(&theirs, job))?;
    drop(theirs);
    let end = loop {
        match ours.try_recv()? {
            crate::sys::Received::Frame(frame) => break Some(parse_message(&frame)?),
            crate::sys::Received::Closed => break None,
            crate::sys::Received::Nothing => {}
        }
        let mut fds = vec![PollFd::new(&ours, PollFlags::IN)];
        fds.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if signals.is_some_and(MainSignals::take_ending) {
            break Some(HookEnd::Interrupted);
        }
    };
    // It hears that nobody waits any more.
    drop(ours);
    reap_blocking(Children::PidFd(guard.pidfd.as_fd()))?;
    end.ok_or_else(|| io::Error::other("the process that watches over it was killed"))
}

/// A thread of ours that has just ended may be counted for a moment.
fn clone(body: impl FnOnce(Fresh) -> Infallible) -> io::Result<crate::sys::Child> {
    let deadline = Instant::now() + KILL_DEADLINE;
    while !crate::sys::clone::is_single_threaded()? && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    clone_process(&CloneRequest::default(), body).map_err(|error| match error {
        CloneError::Clone { source, .. } | CloneError::ReadStatus(source) => source,
        threads @ CloneError::Threads { .. } => io::Error::other(threads.to_string()),
    })
}

/// Is the guard's whole life. It holds nothing of the runtime's: not its lock, nor its ends of channels.
fn guard(channel: &Channel, job: &Job<'_>) -> Infallible {
    // A program has the mask of whoever executes it, and the runtime may have signals blocked.
    unblock_signals();
    // Ctrl-C is for the runtime; what it means for the hook is said by the channel's end.
    let _ = rustix::process::setpgid(None, None);
    let [stdout, stderr] = job.outputs.each_ref().map(|file| file.as_ref().map(AsFd::as_fd));
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].map(Some);
    let all = [&standard[..], &[Some(channel.as_fd())], &[stdout.or(standard[1]), stderr.or(standard[2])]].concat();
    let Ok(placed) = place_descriptors(&all, 3) else { exit_now(125) };
    let mut placed = placed.into_iter();
    let (Some(channel), Some(out), Some(err)) = (placed.next(), placed.next(), placed.next()) else { exit_now(125) };
    let channel = Channel::new(channel);
    let outputs = [stdout.map(|_| File::from(out)), stderr.map(|_| File::from(err))];
    // It cannot fail on any kernel that we know (PR_SET_CHILD_SUBREAPER).
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
    let end = watch_over(job, outputs, channel.as_fd());
    // Where nobody waits nobody wants to know.
    let _ = send_message(&channel, &end, &[]);
    exit_now(0)
}

fn watch_over(job: &Job<'_>, [stdout, stderr]: [Option<File>; 2], channel: BorrowedFd<'_>) -> HookEnd {
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let mut command = command(job.hook, job.directory);
    stdout.map(|file| command.stdout(file));
    stderr.map(|file| command.stderr(file));
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return HookEnd::NotExecuted { errno: errno(error) },
    };
    let attended = attend(&mut child, job.input, job.patience, channel);
    if !matches!(attended, Ok(Attended { status: Some(_), .. })) {
        kill_all(&child);
    }
    match attended {
        Err(error) => HookEnd::Lost { errno: errno(error) },
        Ok(Attended { status, words }) => {
            let said = String::from_utf8_lossy(&words).into_owned();
            match status.map(|status| (status.code(), status.signal())) {
                None => HookEnd::TimedOut { said },
                Some((Some(code), _)) => HookEnd::Exited { code, said },
                Some((None, signal)) => HookEnd::Killed { signal: signal.unwrap_or_default(), said },
            }
        }
    }
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

/// Is what came of a hook.
struct Attended {
    /// `None` where its time was over, or nobody waits for it.
    status: Option<ExitStatus>,
    words: Vec<u8>,
}

/// Feeds a hook and listens to it until it ends. Whoever it left behind with its pipes is not waited for.
fn attend(
    child: &mut Child,
    input: &[u8],
    patience: Option<Duration>,
    channel: BorrowedFd<'_>,
) -> io::Result<Attended> {
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
        // Nothing is said on the channel; it ends with whoever waits.
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::from_borrowed_fd(channel, PollFlags::IN)];
        fds.extend(stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        fds.extend(stdout.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(stderr.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (ended, abandoned) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
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
        if abandoned {
            return Ok(Attended { status: None, words });
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

/// Kills the hook, its process group, and whatever came of them: what has lost its parent is our child.
fn kill_all(child: &Child) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let deadline = Instant::now() + KILL_DEADLINE;
    while Instant::now() < deadline {
        let children = read_pseudo_file("/proc/thread-self/children").unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // An error says that there are none.
        match reap(Children::Any) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(LOOK),
            Err(_) => return,
        }
    }
}
