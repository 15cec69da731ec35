//! `compose logs`.

use std::process::ExitCode;
use std::time::SystemTime;

use crate::cli::args::LogsArgs;
use crate::cli::client::Client;
use crate::cli::follow::{Shown, follow, mux_options, query, replay};
use crate::cli::output::RawOutput;
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::logs::Mux;
use crate::supervisor::control::protocol::{Command, ContainerStatus};

/// Shows what containers have written, and with `-f` what they write until the last has ended.
///
/// # Errors
/// [`CliError`].
pub fn run(context: &ComposeContext<'_>, args: &LogsArgs) -> CommandResult {
    let query = query(args.tail, args.since.as_deref(), args.until.as_deref(), SystemTime::now())?;
    let project = context.name(&[])?;
    let connector = context.connector(&project);
    let options = mux_options(args.no_log_prefix, args.no_color, args.timestamps, context.stdout_palette());
    let mux = Mux::new(RawOutput::stdout().map_err(CliError::Output)?, options);
    let warn: &dyn Fn(&str) = &|message| context.warn(message);
    let is_wanted =
        |container: &ContainerStatus| args.services.is_empty() || args.services.contains(&container.service);
    let shown = Shown { is_wanted: &is_wanted, warn };
    block_on(async {
        let client = if args.follow { Client::open_running(&connector)? } else { None };
        match client {
            Some(mut client) => {
                client.send(Command::Watch, &[])?;
                let found = state::listed(&mut client, warn).await?;
                check_services(&found, &args.services)?;
                follow(client, found, mux, shown, query).await?;
            }
            None => {
                let found = state::containers(&connector, warn).await?;
                check_services(&found, &args.services)?;
                replay(&found, mux, shown, query)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn check_services(found: &[ContainerStatus], services: &[String]) -> Result<(), CliError> {
    match services.iter().find(|name| !found.iter().any(|container| container.service == **name)) {
        None => Ok(()),
        Some(name) => Err(no_such_service(name, found.iter().map(|container| container.service.as_str())).into()),
    }
}
