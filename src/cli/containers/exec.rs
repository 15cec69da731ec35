//! `exec`.

use std::io::{self, IsTerminal};

use super::find::{Context, find};
use crate::cli::args::{ContainerExecArgs, UsageError, shown};
use crate::cli::client::Client;
use crate::cli::exit::Family;
use crate::cli::project::CommandResult;
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::session::{self, Stdin};
use crate::supervisor::control::protocol::{Exec, One, State};

/// Runs a command in a running container, with its exit code as ours.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub(super) fn run(context: Context<'_>, args: ContainerExecArgs) -> CommandResult {
    let mut words = args.words.into_iter();
    let name = words.next().unwrap_or_default();
    let command: Vec<String> = words.collect();
    if command.is_empty() {
        let missing = UsageError::new("missing: COMMAND").of(Family::Container);
        return Err(missing.hint(format!("mydocker exec {} sh", shown(&name))).into());
    }
    let tty = args.tty && !args.detach;
    if tty && args.interactive && !io::stdin().is_terminal() {
        return Err(CliError::NotATerminal);
    }
    let env = session::environment(&args.env, tty, &|name| std::env::var(name).ok())?;
    let found = find(context, &name)?;
    if found.status.state != State::Running {
        return Err(CliError::NoSuch(format!("container {} is not running", found.status.name)));
    }
    let exec = Exec {
        container: One::Container(found.status.id.clone()),
        args: command,
        env,
        user: args.user,
        working_dir: args.workdir,
        tty,
        privileged: args.privileged,
        detach: args.detach,
    };
    let input = if args.interactive { Stdin::Passed } else { Stdin::Empty };
    let connector = context.connector(&found.status);
    block_on(async { session::run(Client::open(&connector)?, exec, input).await })
}
