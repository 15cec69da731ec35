//! Which container is meant: by its name, its id, or the beginning of its id, in any project.

use crate::cli::args::shown;
use crate::cli::connect::Connector;
use crate::cli::report::{CliError, warn};
use crate::cli::settings::Settings;
use crate::cli::state::{self, as_it_is};
use crate::cli::style::Palette;
use crate::spec::ContainerId;
use crate::store::FileLock;
use crate::supervisor::control::protocol::{ContainerStatus, State};
use crate::supervisor::{ContainerRecord, Records};

/// Is what commands on containers work with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) palette: Palette,
}

impl Context<'_> {
    /// Prints a warning.
    pub(super) fn warn(&self, message: &str) {
        warn(message, self.palette);
    }

    /// Makes what reaches the supervisor of a container.
    pub(super) fn connector(&self, container: &ContainerStatus) -> Connector {
        Connector::new(self.settings, &container.project)
    }
}

/// Is a container as its record has it.
#[derive(Debug)]
pub(super) struct Found {
    /// What its supervisor wrote last.
    pub(super) record: ContainerRecord,
    /// The same, corrected by what can be seen.
    pub(super) status: ContainerStatus,
}

impl Found {
    /// Says whether it is meant to run, whether or not anybody of ours still sees to that.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.record.status.state, State::Running | State::Restarting)
    }
}

/// Lists the containers of all projects as their supervisors have them, or their records where there is none. Nothing is started.
pub(super) async fn all(context: Context<'_>) -> Result<Vec<ContainerStatus>, CliError> {
    let mut found = Vec::new();
    for project in context.settings.directories.projects()? {
        let connector = Connector::new(context.settings, &project);
        // A supervisor that has nothing left to do is not to be kept from ending.
        if state::recorded(&connector, &|_| ())?.is_empty() {
            continue;
        }
        match state::containers(&connector, &|message| context.warn(message)).await {
            Ok(containers) => found.extend(containers),
            // It does not answer: one must not hide the others.
            Err(error) => {
                context.warn(&error.line());
                found.extend(state::recorded(&connector, &|_| ())?);
            }
        }
    }
    Ok(found)
}

/// Finds the container that is meant. A whole id goes before a name, and that before the beginning of an id.
pub(super) fn find(context: Context<'_>, text: &str) -> Result<Found, CliError> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let mut by_name = Vec::new();
    let mut by_beginning = Vec::new();
    for project in context.settings.directories.projects()? {
        let Some(directory) = context.settings.directories.open_project(&project)? else { continue };
        let (records, _) = Records::of(&directory).look_at_containers()?;
        if records.is_empty() {
            forget_unused(context, &project);
        }
        for record in records {
            if record.status.id.as_str() == text {
                return Ok(found(context, record));
            }
            if record.status.name == name {
                by_name.push(record);
            } else if !text.is_empty() && record.status.id.as_str().starts_with(text) {
                by_beginning.push(record);
            }
        }
    }
    let mut candidates = if by_name.is_empty() { by_beginning } else { by_name };
    match (candidates.pop(), candidates.is_empty()) {
        (Some(record), true) => Ok(found(context, record)),
        (Some(_), false) => Err(CliError::NoSuch(format!(
            "several containers have the name `{0}`, or an id that begins so",
            shown(text)
        ))),
        (None, _) => Err(CliError::NoSuch(format!("No such container: {}", shown(text)))),
    }
}

/// Removes what a client left that was killed before it had started anybody: a directory for a container that there is not.
fn forget_unused(context: Context<'_>, project: &str) {
    let directories = &context.settings.directories;
    if project.parse::<ContainerId>().is_err() {
        return;
    }
    // Whoever has the lock is about to make it, or to remove it.
    let Ok(_lock) = FileLock::try_acquire(&directories.project(project).join("lock")) else { return };
    let records =
        directories.open_project(project).ok().flatten().map(|there| Records::of(&there).look_at_containers());
    if matches!(records, Some(Ok((records, _))) if records.is_empty()) {
        // What cannot be removed is nobody's to hear of who asked for something else.
        let _ = directories.remove_project(project);
        Connector::new(context.settings, project).see_off(None);
    }
}

/// A record is as it is where a supervisor sees to it.
fn found(context: Context<'_>, record: ContainerRecord) -> Found {
    let is_seen_to = Connector::new(context.settings, &record.status.project).answers();
    Found { status: if is_seen_to { record.status.clone() } else { as_it_is(record.clone()) }, record }
}
