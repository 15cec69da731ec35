//! One request for each container that was named, side by side; each is told of by itself.

use tokio::task::JoinSet;

use super::find::{Context, Found, find};
use crate::cli::client::Client;
use crate::cli::connect::Connector;
use crate::cli::exit::{self, Family};
use crate::cli::project::CommandResult;
use crate::cli::report::{self, CliError, print};
use crate::cli::runtime::block_on;
use crate::cli::style::Palette;
use crate::supervisor::control::protocol::{Command, ReplyBody, Selection};

/// Does something with each of the containers that `names` mean, and prints the names of those with which that went well.
/// `request` says what is asked of a container's supervisor: nothing where there is nothing to do.
pub(super) fn each(
    context: Context<'_>,
    names: &[String],
    request: impl Fn(&Found) -> Result<Option<Command>, CliError>,
) -> CommandResult {
    let mut asked = Vec::new();
    for name in names {
        let command = find(context, name).and_then(|found| Ok((request(&found)?, found)));
        asked.push((name, command));
    }
    block_on(async {
        let mut tasks = JoinSet::new();
        let mut outcomes: Vec<Option<Result<(), CliError>>> = Vec::new();
        for (at, (_, command)) in asked.iter_mut().enumerate() {
            outcomes.push(None);
            if let Ok((command, found)) = command {
                let (command, connector) = (command.take(), context.connector(&found.status));
                let palette = context.palette;
                tasks.spawn(async move { (at, carry_out(&connector, command, palette).await) });
            }
        }
        while let Some(joined) = tasks.join_next().await {
            let (at, outcome) = joined.map_err(|error| CliError::Runtime(std::io::Error::other(error)))?;
            outcomes[at] = Some(outcome);
        }
        let mut code = exit::SUCCESS;
        for ((name, command), outcome) in asked.into_iter().zip(outcomes) {
            match command.map(drop).and(outcome.unwrap_or(Ok(()))) {
                Ok(()) => print(&format!("{name}\n"))?,
                Err(error) => {
                    report::report(&error, Family::Plain, context.palette);
                    code = exit::FAILED;
                }
            }
        }
        Ok(code.into())
    })
}

/// Names one container of a project.
pub(super) fn only(found: &Found) -> Selection {
    Selection::Containers(vec![found.status.id.clone()])
}

/// Asks a supervisor, which is started where none works, and waits until it is done.
async fn carry_out(connector: &Connector, command: Option<Command>, palette: Palette) -> Result<(), CliError> {
    let Some(command) = command else { return Ok(()) };
    let is_removal = matches!(command, Command::Remove { .. });
    let mut client = Client::open(connector)?;
    let lock = connector.lock_file();
    let number = client.send(command, &[])?;
    let tell = |body| {
        if let ReplyBody::Warning { message } = body {
            report::warn(&message, palette);
        }
    };
    client.last_reply(number, tell).await?;
    drop(client);
    if is_removal && connector.is_single() {
        connector.see_off(lock);
    }
    Ok(())
}
