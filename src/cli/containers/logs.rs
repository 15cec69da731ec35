//! `logs`.

use std::process::ExitCode;
use std::time::SystemTime;

use super::find::{Context, find};
use crate::cli::args::ContainerLogsArgs;
use crate::cli::client::Client;
use crate::cli::follow::{Shown, follow, mux_options, query, replay};
use crate::cli::output::RawOutput;
use crate::cli::project::CommandResult;
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::cli::style::Palette;
use crate::logs::Mux;
use crate::supervisor::control::protocol::{Command, ContainerStatus};

/// Shows what a container has written, its two streams on ours, and with `-f` what it writes until it ends.
pub(super) fn run(context: Context<'_>, args: &ContainerLogsArgs) -> CommandResult {
    let query = query(args.tail, args.since.as_deref(), args.until.as_deref(), SystemTime::now())?;
    let found = find(context, &args.container)?;
    let options = mux_options(true, true, args.timestamps, Palette::PLAIN);
    let outputs = RawOutput::stdout().and_then(|out| Ok((out, RawOutput::of(rustix::stdio::stderr())?)));
    let (out, errors) = outputs.map_err(CliError::Output)?;
    let mux = Mux::new(out, options).with_errors(errors);
    let id = found.status.id.clone();
    let is_wanted = |container: &ContainerStatus| container.id == id;
    let warn: &dyn Fn(&str) = &|message| context.warn(message);
    let shown = Shown { is_wanted: &is_wanted, warn };
    let connector = context.connector(&found.status);
    block_on(async {
        let client = if args.follow { Client::open_running(&connector)? } else { None };
        match client {
            Some(mut client) => {
                client.send(Command::Watch, &[])?;
                let listed = state::listed(&mut client, warn).await?;
                follow(client, listed, mux, shown, query).await?;
            }
            None => replay(std::slice::from_ref(&found.status), mux, shown, query)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
