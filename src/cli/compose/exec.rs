//! `compose exec`.

use std::io::{self, IsTerminal};

use crate::cli::args::{ExecArgs, UsageError, shown};
use crate::cli::client::Client;
use crate::cli::exit::Family;
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::session::{self, Stdin};
use crate::cli::state;
use crate::supervisor::control::protocol::{ContainerStatus, Exec, One, State};

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
        session::run(Client::open(&connector)?, exec, Stdin::Passed).await
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
    let env = session::environment(&args.env, tty, &|name| context.variable(name).map(str::to_owned))?;
    Ok(Exec {
        container: One::Of { service, index: args.index },
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
    let One::Of { service, index } = &exec.container else { return Ok(()) };
    let of_service = |container: &&ContainerStatus| container.service == *service;
    if !found.is_empty() && !found.iter().any(|container| of_service(&container)) {
        let known = found.iter().map(|container| container.service.as_str());
        return Err(no_such_service(service, known).of(Family::Container).into());
    }
    let container = found.iter().filter(of_service).find(|container| container.number == *index);
    match container {
        Some(container) if container.state == State::Running => Ok(()),
        Some(_) | None if *index == 1 => {
            let service = shown(service);
            Err(CliError::NoSuch(format!("service `{service}` of project `{project}` is not running")))
        }
        Some(_) => Err(CliError::NoSuch(format!("container {index} of service `{service}` is not running"))),
        None => Err(CliError::NoSuch(format!("service `{service}` has no container {index}"))),
    }
}
