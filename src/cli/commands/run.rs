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

use std::cell::OnceCell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

pub(in crate::cli) use self::console::TerminalConsole;
use self::request::{Plan, plan, wrong};
use super::explain::{Run, Told};
use crate::cli::args::RunArgs;
use crate::cli::exit;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::cli::style::Palette;
use crate::engine::SharedNamespaces;
use crate::engine::foreground::{self, ForegroundJob, Outlook, PASSING};
use crate::network::{NetworkConfig, Networks};
use crate::spec::{ExitStatus, Mark, Stopwatch};
use crate::supervisor::OneOff;

/// Runs a command in a new container, with its exit code as ours, or leaves it running and prints its id.
///
/// # Errors
/// [`CliError`], with the codes of the family of `run`.
pub fn run(args: RunArgs, settings: &Settings, palette: Palette) -> Result<ExitCode, CliError> {
    if args.options.detach {
        return detached::run(args, settings, palette);
    }
    let prepared = Prepared::of(args, settings)?;
    let status = prepared.carry_out(&prepared.job(settings), settings, palette)?;
    // Nobody saw how it ended: that is our failure, not a status of the command's.
    Ok(status.code().map_or_else(|| ExitCode::from(exit::OURS), |code| exit::from_status(Some(code))))
}

/// Writes the container's id for others to find. A file that is there may be that of a container that runs.
fn write_id(file: &Path, id: &str) -> Result<(), CliError> {
    let written = File::create_new(file).and_then(|mut opened| opened.write_all(id.as_bytes()));
    written.map_err(|source| CliError::Write { file: file.display().to_string(), source })
}

/// Tells what [`run`] would do; does it only with `run`.
///
/// # Errors
/// As [`run`], as far as they are known before.
pub(super) fn explain(args: RunArgs, settings: &Settings, run: Option<&Run>) -> Result<Told, CliError> {
    if run.is_some() && args.options.detach {
        let error = wrong("`explain --run` waits for the container's end, and `--detach` does not");
        return Err(error.hint("leave one of the two out").into());
    }
    Prepared::of(args, settings)?.tell(settings, run)
}

/// Runs a container of a service, and tells how.
///
/// # Errors
/// As [`run`], as far as they are known before.
pub(super) fn explain_one_off(one_off: OneOff, settings: &Settings, run: &Run) -> Result<Told, CliError> {
    let OneOff { request, networks, mut made, volumes, host_paths } = one_off;
    let known = Networks::open(settings.directories.run())?;
    // One that is there is the project's own, and stays.
    made.retain(|config| known.find(&config.name).map_or(true, |found| found.config.labels.contains_key(PASSING)));
    let names = vec![request.name.clone(), request.id.short().to_owned()];
    let plan = Plan {
        request,
        networks,
        names,
        volumes,
        host_paths,
        shared: Vec::new(),
        own_volumes: Vec::new(),
        warnings: Vec::new(),
        id_file: None,
        image: String::new(),
        life: life::Life::default(),
    };
    let prepared = Prepared { plan, passing_networks: made, shared: SharedNamespaces::default() };
    prepared.tell(settings, Some(run))
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

    fn tell(&self, settings: &Settings, run: Option<&Run>) -> Result<Told, CliError> {
        let volumes = self.plan.volumes.iter().map(|volume| settings.directories.volume(volume));
        let sources: Vec<_> =
            volumes.chain(self.plan.host_paths.iter().cloned()).filter(|path| !path.exists()).collect();
        let carried_out = OnceCell::new();
        let mut job = self.job(settings);
        if let Some(run) = run {
            (job.watch, job.carried_out) = (run.watch.clone(), Some(&carried_out));
        }
        let outlook = Outlook::of(&settings.directories, &job, &sources)?;
        let outcome = run.map(|run| self.carry_out(&job, settings, run.palette));
        Ok(Told { explanation: outlook.explain(), outcome })
    }

    fn carry_out(
        &self,
        job: &ForegroundJob<'_>,
        settings: &Settings,
        palette: Palette,
    ) -> Result<ExitStatus, CliError> {
        job.watch.time(Mark::MakeSources, || prepare_volumes(&self.plan, settings))?;
        if let Some(file) = &self.plan.id_file {
            write_id(file, self.plan.request.id.as_str())?;
        }
        let mut console = TerminalConsole::new(self.plan.request.stdin_open, palette);
        Ok(foreground::run(&settings.directories, job, &mut console)?)
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
            watch: Stopwatch::default(),
            carried_out: None,
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
