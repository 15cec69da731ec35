//! `compose exec`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook_tokio::Signals;
use tokio_stream::StreamExt;

use crate::cli::args::{ExecArgs, UsageError, shown};
use crate::cli::client::{Client, Heard};
use crate::cli::exit::{self, Family};
use crate::cli::output::RawOutput;
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::cli::terminal::{RawMode, Relay, copy_size, relay_stdin};
use crate::spec::ExitStatus;
use crate::supervisor::control::protocol::{Command, ContainerStatus, Exec, ReplyBody, State};

/// Runs a command in a running container, with its exit code as ours.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub fn run(context: &ComposeContext<'_>, args: ExecArgs) -> CommandResult {
    let project = context.name(&[])?;
    let exec = request(context, args)?;
    let connector = context.connector(&project);
    block_on(async {
        let found = state::containers(&connector, &|message| context.warn(message)).await?;
        check_runs(&project, &found, &exec)?;
        let client = Client::open(&connector)?;
        match (exec.detach, exec.tty) {
            (true, _) => detached(client, exec).await,
            (false, true) => on_terminal(client, exec).await,
            (false, false) => on_pipes(client, exec).await,
        }
    })
}

fn request(context: &ComposeContext<'_>, args: ExecArgs) -> Result<Exec, CliError> {
    let usage = |message: &str| UsageError::new(message).of(Family::Container);
    let mut words = args.words.into_iter();
    let service = words.next().unwrap_or_default();
    let command: Vec<String> = words.collect();
    if command.is_empty() {
        return Err(usage("missing: COMMAND").hint(format!("mydocker compose exec {} sh", shown(&service))).into());
    }
    // As Compose: a terminal by default where we have one to show it on.
    let tty = !args.no_tty && !args.detach && (args.tty || io::stdout().is_terminal());
    if tty && !io::stdin().is_terminal() {
        return Err(CliError::NotATerminal);
    }
    let mut env = BTreeMap::new();
    for entry in &args.env {
        let (key, value) = match entry.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (entry.as_str(), context.variable(entry)),
        };
        if key.is_empty() || key.contains(char::is_control) {
            return Err(usage(&format!("`{}` is not KEY=VALUE", shown(entry))).into());
        }
        // As Docker: a name that is not set here is not set there.
        if let Some(value) = value {
            env.insert(key.to_owned(), value.to_owned());
        }
    }
    if tty && let Some(term) = context.variable("TERM") {
        env.entry("TERM".into()).or_insert_with(|| term.to_owned());
    }
    Ok(Exec {
        service,
        index: args.index,
        args: command,
        env,
        user: args.user,
        working_dir: args.workdir,
        tty,
        privileged: args.privileged,
        detach: args.detach,
    })
}

/// Refuses what cannot be, before anything is started for it.
fn check_runs(project: &str, found: &[ContainerStatus], exec: &Exec) -> Result<(), CliError> {
    let of_service = |container: &&ContainerStatus| container.service == exec.service;
    if !found.is_empty() && !found.iter().any(|container| of_service(&container)) {
        let known = found.iter().map(|container| container.service.as_str());
        return Err(no_such_service(&exec.service, known).of(Family::Container).into());
    }
    let container = found.iter().filter(of_service).find(|container| container.number == exec.index);
    match container {
        Some(container) if container.state == State::Running => Ok(()),
        Some(_) | None if exec.index == 1 => {
            let service = shown(&exec.service);
            Err(CliError::NoSuch(format!("service `{service}` of project `{project}` is not running")))
        }
        Some(_) => {
            Err(CliError::NoSuch(format!("container {} of service `{}` is not running", exec.index, exec.service)))
        }
        None => Err(CliError::NoSuch(format!("service `{}` has no container {}", exec.service, exec.index))),
    }
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

async fn on_pipes(mut client: Client, exec: Exec) -> CommandResult {
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
    let mut to_stdin = Some(OwnedFd::from(to_stdin));
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

async fn on_terminal(mut client: Client, exec: Exec) -> CommandResult {
    let failed = |source| CliError::Terminal { operation: "connect the terminal", source };
    let mut signals = Signals::new([SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT]).map_err(failed)?;
    let number = client.send(Command::Exec(Box::new(exec)), &[])?;
    let mut terminal: Option<(RawMode, OwnedFd, Vec<Relay>)> = None;
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
                let raw = RawMode::enter()?;
                let out = RawOutput::stdout().map_err(failed)?;
                let relay = Relay::start(master.try_clone().map_err(failed)?, out).map_err(failed)?;
                relay_stdin(master.try_clone().map_err(failed)?).map_err(failed)?;
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
