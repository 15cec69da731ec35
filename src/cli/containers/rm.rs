//! `rm`.

use super::find::{Context, find};
use super::requests::{each, only};
use crate::cli::args::ContainerRemoveArgs;
use crate::cli::exit::Family;
use crate::cli::project::CommandResult;
use crate::cli::report::report;
use crate::supervisor::control::protocol::Command;

/// Removes containers with their logs and all that they have written.
pub(super) fn run(context: Context<'_>, args: &ContainerRemoveArgs) -> CommandResult {
    let (force, volumes) = (args.force, args.volumes);
    let mut names = args.containers.clone();
    if force {
        // As Docker: what is not there need not go.
        names.retain(|name| {
            let found = find(context, name).map_err(|error| report(&error, Family::Plain, context.palette));
            found.is_ok()
        });
    }
    each(context, &names, |found| Ok(Some(Command::Remove { which: only(found), force, volumes })))
}
