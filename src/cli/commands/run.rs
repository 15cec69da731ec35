#![doc = include_str!("run/README.md")]

mod console;
mod detached;
mod devices;
mod life;
mod limits;
mod mounts;
mod names;
mod namespaces;
mod network;
mod publish;
mod request;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

pub(in crate::cli) use self::console::TerminalConsole;
use self::request::{Plan, plan};
use crate::cli::args::RunArgs;
use crate::cli::exit;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::cli::style::Palette;
use crate::engine::SharedNamespaces;
use crate::engine::explain::LaunchExplanation;
use crate::engine::foreground::{self, ForegroundJob};
use crate::network::NetworkConfig;

/// Runs a command in a new container, with its exit code as ours, or leaves it running and prints its id.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub fn run(args: RunArgs, settings: &Settings, palette: Palette) -> Result<ExitCode, CliError> {
    if args.options.detach {
        return detached::run(args, settings, palette);
    }
    let prepared = Prepared::of(args, settings)?;
    prepare_volumes(&prepared.plan, settings)?;
    if let Some(file) = &prepared.plan.id_file {
        write_id(file, prepared.plan.request.id.as_str())?;
    }
    let mut console = TerminalConsole::new(prepared.plan.request.stdin_open, palette);
    let status = foreground::run(&settings.directories, &prepared.job(settings), &mut console)?;
    // Nobody saw how it ended: that is our failure, not a status of the command's.
    Ok(status.code().map_or_else(|| ExitCode::from(exit::OURS), |code| exit::from_status(Some(code))))
}

/// Writes the container's id for others to find. A file that is there may be that of a container that runs.
fn write_id(file: &Path, id: &str) -> Result<(), CliError> {
    let written = File::create_new(file).and_then(|mut opened| opened.write_all(id.as_bytes()));
    written.map_err(|source| CliError::Write { file: file.display().to_string(), source })
}

/// Tells what [`run`] would do, and does nothing.
///
/// # Errors
/// As [`run`], as far as they are known before.
pub(super) fn explain(args: RunArgs, settings: &Settings) -> Result<LaunchExplanation, CliError> {
    let prepared = Prepared::of(args, settings)?;
    let volumes = prepared.plan.volumes.iter().map(|volume| settings.directories.volume(volume));
    let sources: Vec<_> =
        volumes.chain(prepared.plan.host_paths.iter().cloned()).filter(|path| !path.exists()).collect();
    Ok(foreground::explain(&settings.directories, &prepared.job(settings), &sources)?)
}

/// Is a command line that was understood.
struct Prepared {
    plan: Plan,
    passing_networks: Vec<NetworkConfig>,
    shared: SharedNamespaces,
}

impl Prepared {
    /// Checks everything; touches nothing.
    fn of(args: RunArgs, settings: &Settings) -> Result<Self, CliError> {
        let mut plan = plan(args, settings, &|name| std::env::var(name).ok())?;
        let passing_networks = network::configurations(&mut plan.networks, settings)?;
        network::check_links(&plan.networks, settings)?;
        let shared = namespaces::share(&plan.shared, &mut plan.request, settings)?;
        Ok(Self { plan, passing_networks, shared })
    }

    fn job<'a>(&'a self, settings: &'a Settings) -> ForegroundJob<'a> {
        let Self { plan, passing_networks, shared } = self;
        ForegroundJob {
            request: &plan.request,
            cgroup_parent: &settings.cgroup_parent,
            networks: &plan.networks,
            passing_networks,
            firewall: &settings.firewall,
            names: &plan.names,
            shared,
            own_volumes: &plan.own_volumes,
            warnings: &plan.warnings,
        }
    }
}

/// Makes the directories that mounts name and that are not there, as Docker's `-v` does.
fn prepare_volumes(plan: &Plan, settings: &Settings) -> Result<(), CliError> {
    let volumes = &plan.volumes;
    if !volumes.is_empty() {
        settings.directories.create()?;
    }
    for volume in volumes {
        settings.directories.create_volume(volume)?;
    }
    for path in &plan.host_paths {
        if !path.exists() {
            std::fs::create_dir_all(path)
                .map_err(|source| CliError::Directory { path: path.display().to_string(), source })?;
        }
    }
    Ok(())
}
