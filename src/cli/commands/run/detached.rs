//! `run -d`: a project of one container, named by its id, with a supervisor of its own.

use std::path::Path;
use std::process::ExitCode;

use super::request::{Plan, plan, wrong};
use super::{network, write_id};
use crate::cli::args::RunArgs;
use crate::cli::client::Client;
use crate::cli::connect::Connector;
use crate::cli::report::{self, CliError};
use crate::cli::runtime::block_on;
use crate::cli::settings::Settings;
use crate::cli::style::Palette;
use crate::engine::PassingNetworks;
use crate::namespaces::Namespace;
use crate::network::NetworkConfig;
use crate::supervisor::control::protocol::{Command, ReplyBody};
use crate::supervisor::{Desired, NetworkOwner};

/// Starts a container that lives on, and prints its id. One that ends at once is no error.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`; then nothing of it is left.
pub(super) fn run(args: RunArgs, settings: &Settings, palette: Palette) -> Result<ExitCode, CliError> {
    let mut plan = plan(args, settings, &|name| std::env::var(name).ok())?;
    let passing = network::configurations(&mut plan.networks, settings)?;
    network::check_links(&plan.networks, settings)?;
    let id_file = plan.id_file.clone();
    let desired = desired(plan, &passing)?;
    let id = desired.request.id.clone();
    if let Some(file) = &id_file {
        write_id(file, id.as_str())?;
    }
    if let Err(error) = create(&Connector::new(settings, id.as_str()), desired, palette) {
        id_file.as_deref().map(remove_id);
        return Err(error);
    }
    report::print(&format!("{}\n", id.as_str()))?;
    Ok(ExitCode::SUCCESS)
}

fn create(connector: &Connector, desired: Desired, palette: Palette) -> Result<(), CliError> {
    let tell = |body| {
        if let ReplyBody::Warning { message } = body {
            report::warn(&message, palette);
        }
    };
    let mut lock = None;
    let created = block_on(async {
        let mut client = Client::open(connector)?;
        lock = connector.lock_file();
        let number = client.send(Command::Create(Box::new(desired)), &[])?;
        client.last_reply(number, tell).await
    });
    if created.is_err() {
        connector.see_off(lock);
    }
    created.map(drop)
}

/// That it cannot be removed is not what went wrong.
fn remove_id(file: &Path) {
    let _ = std::fs::remove_file(file);
}

/// Says the same as a service of a project would.
fn desired(plan: Plan, passing: &[NetworkConfig]) -> Result<Desired, CliError> {
    let Plan {
        request,
        mut networks,
        names,
        shared,
        volumes,
        own_volumes,
        host_paths,
        warnings: _,
        id_file: _,
        image,
        life,
    } = plan;
    for wish in &mut networks {
        wish.aliases.extend(names.iter().cloned());
    }
    let (mut shares_network_of, mut shares_processes_of) = (None, None);
    for (kind, name) in shared {
        match kind {
            Namespace::Network => shares_network_of = Some(NetworkOwner::Container(name)),
            Namespace::Pid => shares_processes_of = Some(name),
            _ => {
                let hint = "in the foreground it can; `--ipc host` and `--ipc private` hold here, too";
                return Err(wrong("a container that lives on cannot share the memory of another").hint(hint).into());
            }
        }
    }
    Ok(Desired {
        name: request.name.clone(),
        // It is of no service.
        service: String::new(),
        number: 1,
        image,
        config_hash: String::new(),
        restart: life.restart,
        logging: life.logging,
        healthcheck: life.healthcheck,
        networks,
        shares_network_of,
        shares_processes_of,
        create_host_paths: host_paths,
        volumes,
        own_volumes,
        passing: PassingNetworks::of(passing),
        removed_at_end: life.removed_at_end,
        request,
    })
}
