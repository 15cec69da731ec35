//! One run of a plugin: bounded in time and in what it prints, and nothing of it left afterwards.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::error::CniError;
use super::request::Parameters;
use crate::store::ProcessIdentity;

/// What a plugin may print on standard output, in bytes.
const MOST_OUTPUT: usize = 1 << 20;
/// What is kept of standard error, in bytes.
const KEPT_STDERR: usize = 2 << 10;
/// So long the kernel may take to end what has SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// So long is waited for the rest of a group: a process group has no descriptor, and some hosts never reap orphans.
const GROUP_DEADLINE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// What a plugin's own tools (iptables, tc) are found by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Is how a plugin ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Exit code; `None` where a signal ended it.
    pub(super) code: Option<i32>,
    /// In words.
    pub(super) how: String,
    pub(super) stdout: Vec<u8>,
    /// Fit to be shown, shortened.
    pub(super) stderr: String,
}

/// Says why there is no end to tell of.
#[derive(Debug)]
pub(super) enum Failed {
    Start(io::Error),
    NotNoted(CniError),
    TimedOut { stderr: String },
    TooMuch { stderr: String },
}

/// Is a plugin with its whole process group: dropped before its end is known, all of it is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Until its end is taken, the number stays the group's.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Kills what a run has left, and waits until it is gone: whoever was killed while a plugin worked has not ended that, and what
/// undoes its work must not run beside it.
pub(super) async fn end_leftover(plugin: &ProcessIdentity) {
    let Ok(Some(pidfd)) = plugin.open_pidfd() else { return };
    let group = Pid::from_raw(plugin.pid);
    let _ = killpg(group, Signal::SIGKILL);
    let leader = async {
        while !has_ended(&pidfd) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(KILL_DEADLINE, leader).await.is_err() {
        tracing::warn!(pid = plugin.pid, "a CNI plugin does not end after SIGKILL");
        return;
    }
    let others = async {
        while killpg(group, None).is_ok() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let _ = tokio::time::timeout(GROUP_DEADLINE, others).await;
}

/// Says whether a process has ended, whoever reaps it: its pidfd is readable then.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
}

/// Runs a plugin. Whoever stops waiting, kills it. `begun` hears who it is before it is told anything: it has done nothing yet.
pub(super) async fn run(
    file: &Path,
    parameters: &Parameters,
    input: &[u8],
    limit: Duration,
    begun: impl FnOnce(i32) -> Result<(), CniError>,
) -> Result<Ended, Failed> {
    let mut command = Command::new(file);
    command.env_clear().env("PATH", PATH).envs(parameters.environment()).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what a plugin starts (`ipam` plugins, iptables) is killed with it.
    command.process_group(0);
    let mut running = Running(start(&mut command).await.map_err(Failed::Start)?);
    let child = &mut running.0;
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        begun(pid).map_err(Failed::NotNoted)?;
    }
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut words = Vec::new();
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that does not read its configuration has its reasons.
                let _ = stdin.write_all(input).await;
            }
            Ok(())
        };
        let listen = async {
            read_some(stderr, &mut words).await;
            Ok(())
        };
        tokio::try_join!(feed, read_all(stdout), listen).map(|((), stdout, ())| stdout)
    };
    // Until the pipes' ends, not the process's: what holds them still works for it. Then its status, which frees its number.
    let outcome = tokio::time::timeout(limit, async {
        let stdout = talk.await?;
        Ok::<_, TooMuch>(child.wait().await.map(|status| (stdout, status)))
    })
    .await;
    match outcome {
        Err(_) => Err(Failed::TimedOut { stderr: shown(&words) }),
        Ok(Err(TooMuch)) => Err(Failed::TooMuch { stderr: shown(&words) }),
        Ok(Ok(Err(error))) => Err(Failed::Start(error)),
        Ok(Ok(Ok((stdout, status)))) => {
            Ok(Ended { code: status.code(), how: status.to_string(), stdout, stderr: shown(&words) })
        }
    }
}

/// Starts the process. A file that somebody has only just written may still be open for writing in a process that is being made.
async fn start(command: &mut Command) -> io::Result<Child> {
    let mut left = 20;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && left > 0 => {
                left -= 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
}

/// Says that a plugin prints without end.
struct TooMuch;

/// Reads to the end, or gives up.
async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, TooMuch> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(MOST_OUTPUT as u64 + 1).read_to_end(&mut bytes).await;
    }
    if bytes.len() > MOST_OUTPUT { Err(TooMuch) } else { Ok(bytes) }
}

/// Reads to the end and keeps the last part: a crash tells its reason first, an error last; of both the end helps more often.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = [0_u8; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if kept.len() > KEPT_STDERR {
            kept.drain(..kept.len() - KEPT_STDERR);
        }
    }
}

/// Makes a plugin's words fit for one line of a terminal.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" | ");
    let escaped: String = line
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    let surplus = escaped.chars().count().saturating_sub(KEPT_STDERR);
    escaped.chars().skip(surplus).collect()
}
