//! What containers a project has: asked of its supervisor, or read from its records where none runs.

use super::client::Client;
use super::connect::Connector;
use super::report::CliError;
use crate::spec::ExitStatus;
use crate::supervisor::control::protocol::{Command, ContainerStatus, ReplyBody, State};
use crate::supervisor::{ContainerRecord, Records};

/// Lists the project's containers, by service and number; damaged records are told of through `warn`. Nothing is started.
///
/// # Errors
/// [`CliError::Store`], [`CliError::Connection`], [`CliError::Busy`].
pub async fn containers(connector: &Connector, warn: &dyn Fn(&str)) -> Result<Vec<ContainerStatus>, CliError> {
    match Client::open_running(connector)? {
        Some(mut client) => listed(&mut client, warn).await,
        None => recorded(connector, warn),
    }
}

/// Asks the supervisor.
///
/// # Errors
/// As [`Client::last_reply`].
pub async fn listed(client: &mut Client, warn: &dyn Fn(&str)) -> Result<Vec<ContainerStatus>, CliError> {
    let number = client.send(Command::List, &[])?;
    let tell = |body: ReplyBody| {
        if let ReplyBody::Warning { message } = body {
            warn(&message);
        }
    };
    match client.last_reply(number, tell).await? {
        ReplyBody::Containers(found) => Ok(found),
        _ => Ok(Vec::new()),
    }
}

/// Reads the project's records.
///
/// # Errors
/// [`CliError::Store`].
pub fn recorded(connector: &Connector, warn: &dyn Fn(&str)) -> Result<Vec<ContainerStatus>, CliError> {
    let Some(directory) = connector.open_directory()? else { return Ok(Vec::new()) };
    let (records, warnings) = Records::of(&directory).look_at_containers()?;
    warnings.iter().for_each(|warning| warn(warning));
    Ok(records.into_iter().map(as_it_is).collect())
}

/// Corrects a record by what can be seen: a process that nobody watched may have ended, and then nobody knows how.
pub fn as_it_is(record: ContainerRecord) -> ContainerStatus {
    let mut status = record.status;
    let runs = record.process.as_ref().is_some_and(|process| process.is_alive());
    if !runs && matches!(status.state, State::Running | State::Restarting) {
        status.pid = None;
        status.health = None;
        if status.state == State::Running {
            status.exit = Some(ExitStatus::Unknown);
            status.finished_at = None;
        }
        status.state = State::Exited;
    }
    status
}
