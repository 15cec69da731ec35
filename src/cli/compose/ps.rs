//! `compose ps`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jiff::Timestamp;

use crate::cli::args::{PsArgs, PsFormat};
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::print;
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::cli::table::{Listing, json_line};
use crate::supervisor::control::protocol::{ContainerStatus, State};

/// Lists containers.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(context: &ComposeContext<'_>, args: &PsArgs) -> CommandResult {
    let project = context.name(&[])?;
    let found = block_on(state::containers(&context.connector(&project), &|message| context.warn(message)))?;
    for name in &args.service_names {
        if !found.iter().any(|container| container.service == *name) {
            // It may be in the file and have no container yet.
            context.load(std::slice::from_ref(name)).map_err(|error| match error {
                crate::cli::report::CliError::File { .. } => {
                    no_such_service(name, found.iter().map(|container| container.service.as_str())).into()
                }
                error => error,
            })?;
        }
    }
    print(&render(&chosen(found, args), args, Timestamp::now().as_second()))?;
    Ok(ExitCode::SUCCESS)
}

fn chosen(found: Vec<ContainerStatus>, args: &PsArgs) -> Vec<ContainerStatus> {
    let is_shown = |container: &ContainerStatus| {
        let named = args.service_names.is_empty() || args.service_names.contains(&container.service);
        named && (args.all || matches!(container.state, State::Running | State::Restarting))
    };
    found.into_iter().filter(is_shown).collect()
}

fn render(containers: &[ContainerStatus], args: &PsArgs, now: i64) -> String {
    let lines = |words: Vec<String>| words.into_iter().map(|word| word + "\n").collect::<String>();
    if args.quiet {
        return lines(containers.iter().map(|container| container.id.as_str().to_owned()).collect());
    }
    if args.services {
        let services: BTreeSet<&str> = containers.iter().map(|container| container.service.as_str()).collect();
        return lines(services.into_iter().map(str::to_owned).collect());
    }
    match args.format {
        PsFormat::Json => lines(containers.iter().map(|container| json_line(container, now)).collect()),
        PsFormat::Table => Listing::of(containers, now).to_string(),
    }
}
