//! `wait`.

use super::find::{Context, find};
use crate::cli::args::ContainerNames;
use crate::cli::client::Client;
use crate::cli::exit::{self, Family};
use crate::cli::project::CommandResult;
use crate::cli::report::{CliError, print, report};
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::supervisor::control::protocol::{Command, ContainerStatus, ReplyBody, State};

/// Waits until containers have ended, and prints their exit codes, one a line in the order of their names.
pub(super) fn run(context: Context<'_>, args: &ContainerNames) -> CommandResult {
    let found: Vec<_> = args.containers.iter().map(|name| find(context, name)).collect();
    let mut code = exit::SUCCESS;
    block_on(async {
        for found in found {
            match found {
                Ok(found) => print(&format!("{}\n", ended(context, found.status).await?))?,
                Err(error) => {
                    report(&error, Family::Plain, context.palette);
                    code = exit::FAILED;
                }
            }
        }
        Ok(code.into())
    })
}

/// Waits for the end of one container and returns its exit code. A status that nobody saw must not look like success.
async fn ended(context: Context<'_>, container: ContainerStatus) -> Result<i32, CliError> {
    let mut last = container;
    if let Some(mut client) = Client::open_running(&context.connector(&last))? {
        client.send(Command::Watch, &[])?;
        let listed = state::listed(&mut client, &|message| context.warn(message)).await?;
        // One that goes when it has ended may be gone: then the record that we have read is the last.
        last = listed.into_iter().find(|container| container.id == last.id).unwrap_or(last);
        while is_active(&last) {
            let Some(heard) = client.next().await? else { break };
            match heard.body {
                ReplyBody::Event(status) if status.id == last.id => last = *status,
                _ => {}
            }
        }
    }
    Ok(match (last.state, last.exit) {
        (State::Created, None) => 0,
        (_, exit) => exit.and_then(crate::spec::ExitStatus::code).unwrap_or(-1),
    })
}

fn is_active(container: &ContainerStatus) -> bool {
    matches!(container.state, State::Running | State::Restarting)
}
