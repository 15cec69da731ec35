//! `port`.

use std::process::ExitCode;

use super::find::{Context, find};
use crate::cli::args::{ContainerPortArgs, UsageError, shown};
use crate::cli::compose::port::published;
use crate::cli::project::CommandResult;
use crate::cli::report::{CliError, print};

/// Prints where a container's ports are published, or where one of them is.
pub(super) fn run(context: Context<'_>, args: &ContainerPortArgs) -> CommandResult {
    let container = find(context, &args.container)?.status;
    let Some(text) = &args.port else {
        let line = |port: &String| port.split_once("->").map(|(at, inside)| format!("{inside} -> {at}\n"));
        print(&container.ports.iter().filter_map(line).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    };
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = || UsageError::new(format!("`{}` is no port", shown(text))).hint("80, 53/udp");
    let number = number.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(bad)?;
    let places = published(&container.ports, number, protocol);
    if places.is_empty() {
        return Err(CliError::NoSuch(format!("no port {number}/{protocol} of {} is published", container.name)));
    }
    print(&places.iter().map(|place| format!("{place}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
