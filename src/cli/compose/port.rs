//! `compose port`.

use std::process::ExitCode;

use crate::cli::args::PortArgs;
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::{CliError, print};
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::supervisor::control::protocol::{ContainerStatus, Failure, State};

/// Prints where a port of a service is published, `0.0.0.0:8080`, one line an address.
///
/// # Errors
/// [`CliError`]: no such service or container, or the port is not published.
pub fn run(context: &ComposeContext<'_>, args: &PortArgs) -> CommandResult {
    let project = context.name(&[])?;
    let mut found = block_on(state::containers(&context.connector(&project), &|message| context.warn(message)))?;
    if !found.iter().any(|container| container.service == args.service) {
        context.load(std::slice::from_ref(&args.service)).map_err(|error| match error {
            CliError::File { .. } => {
                no_such_service(&args.service, found.iter().map(|container| container.service.as_str())).into()
            }
            error => error,
        })?;
    }
    let is_meant = |container: &ContainerStatus| {
        let numbered = args.index.is_none_or(|index| container.number == index);
        container.service == args.service && container.state == State::Running && numbered
    };
    found.retain(is_meant);
    let Some(container) = found.into_iter().min_by_key(|container| container.number) else {
        let number = args.index.map(|index| format!(" with the index {index}")).unwrap_or_default();
        return Err(failed(format!("service `{}` has no running container{number}", args.service)));
    };
    let places = published(&container.ports, args.port, &args.protocol);
    if places.is_empty() {
        let ContainerStatus { name, .. } = container;
        return Err(failed(format!("no port {}/{} of {name} is published", args.port, args.protocol)));
    }
    print(&places.iter().map(|place| format!("{place}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

fn failed(text: String) -> CliError {
    CliError::Refused(Failure::new(text))
}

/// Takes `0.0.0.0:8080` out of `0.0.0.0:8080->80/tcp`.
pub(in crate::cli) fn published<'a>(ports: &'a [String], port: u16, protocol: &str) -> Vec<&'a str> {
    let inside = format!("{port}/{protocol}");
    ports
        .iter()
        .filter_map(|text| text.split_once("->").filter(|(_, target)| *target == inside))
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_port_is_shown() {
        let ports = ["0.0.0.0:8080->80/tcp", "127.0.0.1:9000->80/tcp", "0.0.0.0:53->80/udp"].map(str::to_owned);
        assert_eq!(published(&ports, 80, "tcp"), ["0.0.0.0:8080", "127.0.0.1:9000"]);
        assert_eq!(published(&ports, 80, "udp"), ["0.0.0.0:53"]);
        assert!(published(&ports, 8080, "tcp").is_empty());
    }
}
