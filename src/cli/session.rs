//! A command in a running container, with our streams or our terminal at the other end of its own.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook_tokio::Signals;
use tokio_stream::StreamExt;

use super::args::{UsageError, shown};
use super::client::{Client, Heard};
use super::exit::{self, Family};
use super::output::RawOutput;
use super::project::CommandResult;
use super::report::CliError;
use super::terminal::{RawMode, Relay, copy_size, relay_stdin};
use crate::spec::ExitStatus;
use crate::supervisor::control::protocol::{Command, Exec, ReplyBody};

/// Says whether what we are given on standard input goes to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// It does.
    Passed,
    /// The command finds its input at its end.
    Empty,
}

/// Runs a command in a container, with its exit code as ours.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub async fn run(client: Client, exec: Exec, input: Stdin) -> CommandResult {
    match (exec.detach, exec.tty) {
        (true, _) => detached(client, exec).await,
        (false, true) => on_terminal(client, exec, input).await,
        (false, false) => on_pipes(client, exec, input).await,
    }
}

/// Reads `-e KEY=VALUE`, or `-e KEY` for the value that it has here: `variable` knows that. With a terminal TERM is ours.
///
/// # Errors
/// [`UsageError`]: it is neither.
pub fn environment(
    list: &[String],
    tty: bool,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, UsageError> {
    let mut env = BTreeMap::new();
    for entry in list {
        let (key, value) = match entry.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (entry.as_str(), variable(entry)),
        };
        if key.is_empty() || key.contains(char::is_control) {
            let message = format!("`{}` is not KEY=VALUE", shown(entry));
            return Err(UsageError::new(message).of(Family::Container));
        }
        // As Docker: a name that is not set here is not set there.
        env.extend(value.map(|value| (key.to_owned(), value)));
    }
    if tty && let Some(term) = variable("TERM") {
        env.entry("TERM".into()).or_insert(term);
    }
    Ok(env)
}

async fn detached(mut client: Client, exec: Exec) -> CommandResult {
    let failed = |source| CliError::Terminal { operation: "open /dev/null", source };
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed)?;
    let number = client.send(Command::Exec(Box::new(exec)), &[null.as_fd(); 3])?;
    loop {
        match expect(client.next().await?, number)?.body {
            ReplyBody::ExecStarted { .. } | ReplyBody::Done => return Ok(ExitCode::SUCCESS),
            ReplyBody::ExecEnded { status } => return Ok(exit::from_status(status.code())),
            _ => {}
        }
    }
}

async fn on_pipes(mut client: Client, exec: Exec, input: Stdin) -> CommandResult {
    let failed = |source| CliError::Terminal { operation: "make pipes for the command", source };
    let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) =
        (io::pipe().map_err(failed)?, io::pipe().map_err(failed)?, io::pipe().map_err(failed)?);
    let number = client.send(Command::Exec(Box::new(exec)), &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    // The command's ends are its own from here on: else we would never see their end.
    drop((stdin, stdout, stderr));
    let mut relays = Vec::new();
    let ours = RawOutput::stdout().and_then(|out| Ok((out, RawOutput::of(rustix::stdio::stderr())?)));
    let (out, err) = ours.map_err(failed)?;
    relays.push(Relay::start(from_stdout.into(), out).map_err(failed)?);
    relays.push(Relay::start(from_stderr.into(), err).map_err(failed)?);
    // Without it the command finds the end of its input at once.
    let mut to_stdin = (input == Stdin::Passed).then(|| OwnedFd::from(to_stdin));
    let status = loop {
        match expect(client.next().await?, number)?.body {
            ReplyBody::ExecStarted { .. } => {
                if let Some(to_stdin) = to_stdin.take() {
                    relay_stdin(to_stdin).map_err(failed)?;
                }
            }
            ReplyBody::ExecEnded { status } => break status,
            _ => {}
        }
    };
    finish(relays, status)
}

async fn on_terminal(mut client: Client, exec: Exec, input: Stdin) -> CommandResult {
    let failed = |source| CliError::Terminal { operation: "connect the terminal", source };
    let mut signals = Signals::new([SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT]).map_err(failed)?;
    let number = client.send(Command::Exec(Box::new(exec)), &[])?;
    let mut terminal: Option<(Option<RawMode>, OwnedFd, Vec<Relay>)> = None;
    let status = loop {
        // Both branches are cancel-safe.
        let heard = tokio::select! {
            heard = client.next() => expect(heard?, number)?,
            signal = signals.next() => match (signal, &terminal) {
                (Some(SIGWINCH), Some((_, master, _))) => {
                    copy_size(master);
                    continue;
                }
                (Some(SIGWINCH), None) => continue,
                // The terminal is restored by leaving; the supervisor hangs up the command's.
                (signal, _) => return Ok(exit::from_status(signal.map(|signal| 128 + signal))),
            },
        };
        match heard.body {
            ReplyBody::ExecStarted { .. } if terminal.is_none() => {
                let lost = || failed(io::Error::other("the reply lacks the terminal"));
                let master = heard.fds.into_iter().next().ok_or_else(lost)?;
                copy_size(&master);
                let raw = if input == Stdin::Passed { Some(RawMode::enter()?) } else { None };
                let out = RawOutput::stdout().map_err(failed)?;
                let relay = Relay::start(master.try_clone().map_err(failed)?, out).map_err(failed)?;
                if input == Stdin::Passed {
                    relay_stdin(master.try_clone().map_err(failed)?).map_err(failed)?;
                }
                terminal = Some((raw, master, vec![relay]));
            }
            ReplyBody::ExecEnded { status } => break status,
            _ => {}
        }
    };
    match terminal {
        Some((raw, _, relays)) => {
            let code = finish(relays, status);
            drop(raw);
            code
        }
        None => Ok(exit::from_status(status.code())),
    }
}

fn finish(relays: Vec<Relay>, status: ExitStatus) -> CommandResult {
    for relay in relays {
        relay.finish().map_err(CliError::Output)?;
    }
    // Nobody saw how it ended: that is our failure, not a status of the command's.
    Ok(status.code().map_or_else(|| ExitCode::from(exit::OURS), |code| exit::from_status(Some(code))))
}

/// Takes a reply to the request; anything else that is said ends here too.
fn expect(heard: Option<Heard>, number: u64) -> Result<Heard, CliError> {
    match heard {
        None => Err(CliError::NoSuch("the supervisor ended before the command had".into())),
        Some(Heard { number: n, body: ReplyBody::Failed(failure), .. }) if n == number || n == 0 => {
            Err(CliError::Refused(failure))
        }
        Some(heard) => Ok(heard),
    }
}
