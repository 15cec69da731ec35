//! Another process in a container that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Spec};

use super::plan::{Action, LaunchPlan, UserChoice};
use super::planner::{self, Extras, note};
use super::{Confinement, ContainerError, StartOptions, bundle, checks, describe, from_process, labels};
use crate::seccomp::SpecFilter;
use crate::spec::CapabilitySet;

/// Is a command to execute in a running container; the container's own request says the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCommand {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; the container's where `None`. It must exist.
    pub working_dir: Option<PathBuf>,
    /// `user[:group]`; the container's where `None`.
    pub user: Option<String>,
    /// Gives the process a terminal of the container's devpts.
    pub tty: bool,
}

/// Plans an exec: the same last steps as the container's own process had, without the built-in init.
///
/// # Errors
/// [`ContainerError`], as [`super::prepare()`].
pub fn plan_exec(
    spec: &Spec,
    id: &str,
    command: &ExecCommand,
    confinement: &Confinement,
) -> Result<LaunchPlan, ContainerError> {
    if command.args.first().is_none_or(String::is_empty) {
        return Err(ContainerError::NoCommand);
    }
    let user = command.user.as_deref();
    checks::check_user(user.unwrap_or_default())?;
    checks::check_working_directory(command.working_dir.as_deref())?;
    for (name, value) in &command.env {
        checks::check_variable(name, value)?;
    }
    let mut process = spec.process().clone().unwrap_or_default();
    let path = command.working_dir.clone().unwrap_or_else(|| process.cwd().clone());
    process.set_args(Some(command.args.clone()));
    process.set_env(Some(environment(process.env().as_deref().unwrap_or_default(), command)));
    let options = StartOptions { start_at_once: true, ..StartOptions::default() };
    let extras = Extras {
        id,
        overlay: None,
        bundle: None,
        confinement,
        options: &options,
        deny_setgroups: planner::denies_setgroups(spec),
    };
    let mut create = Vec::new();
    if planner::has_user_namespace(spec) {
        create.push(Action::BecomeNamespaceRoot { keep_groups: false });
    }
    if command.tty {
        create.push(Action::OpenTerminal { console: false, size: None });
    }
    create.push(Action::OpenDirectory { path, make: false });
    create.push(Action::SetUmask(process.user().umask().unwrap_or(0o022)));
    let mut choice = planner::requested_user(spec, extras.deny_setgroups);
    if let Some(user) = user {
        choice = UserChoice { user: user.to_owned(), ..choice };
    }
    create.push(Action::ResolveUser(choice));
    create.extend(from_process::limits(&process)?.into_iter().map(Action::SetLimit));
    create.extend(labels::program_steps(&process)?);
    let mut start = from_process::start_steps(spec, &process, &extras)?;
    if note(spec, describe::INIT) == "true" {
        // The container has its init; this process is not PID 1 of anything.
        start.insert(1, Action::StartSession);
        if let Some(Action::Execute { init, .. }) = start.last_mut() {
            *init = false;
        }
    }
    Ok(LaunchPlan { id: id.to_owned(), create, start, start_at_once: true, descriptors: Vec::new(), preserved: 0 })
}

/// Plans an exec in a bundle's container, of a process that is described as config.json describes one. The second value is what
/// will be worse than asked.
///
/// # Errors
/// [`ContainerError`], as [`super::prepare_bundle`].
pub fn plan_exec_process(
    spec: &Spec,
    id: &str,
    process: &Process,
    seccomp: Option<&SpecFilter>,
) -> Result<(LaunchPlan, Vec<String>), ContainerError> {
    let mut spec = spec.clone();
    // Hooks are for the container's own process.
    let mut process = process.clone();
    labels::inherit(&mut process, spec.process().as_ref());
    spec.set_hooks(None).set_process(Some(process.clone()));
    bundle::check_process(&spec)?;
    let linux = spec.linux().clone().unwrap_or_default();
    let mut warnings = Vec::new();
    let capabilities = bundle::grantable(&spec, &linux, &mut warnings)?;
    let confinement = Confinement {
        capabilities: CapabilitySet::EMPTY,
        seccomp: seccomp.map(|filter| filter.program.as_bytes().to_vec()),
        devices: Vec::new(),
    };
    let options = StartOptions { start_at_once: true, ..StartOptions::default() };
    let bundle = planner::Bundle {
        directory: Path::new("/"),
        no_pivot: false,
        new_keyring: false,
        seccomp_flags: seccomp.map_or(0, |filter| filter.flags),
        capabilities,
        makes_devices: false,
    };
    let extras = Extras {
        id,
        overlay: None,
        bundle: Some(bundle),
        confinement: &confinement,
        options: &options,
        deny_setgroups: false,
    };
    let create = exec_steps(&spec, &process, &linux)?;
    let start = from_process::start_steps(&spec, &process, &extras)?;
    let descriptors = Vec::new();
    Ok((LaunchPlan { id: id.to_owned(), create, start, start_at_once: true, descriptors, preserved: 0 }, warnings))
}

fn exec_steps(spec: &Spec, process: &Process, linux: &Linux) -> Result<Vec<Action>, ContainerError> {
    let (initial, last) = from_process::affinity(process)?;
    let mut steps: Vec<_> = initial.map(Action::SetAffinity).into_iter().collect();
    if planner::has_user_namespace(spec) {
        steps.push(Action::BecomeNamespaceRoot { keep_groups: planner::keeps_groups(spec) });
    }
    if process.terminal().unwrap_or(false) {
        let size = process.console_size().and_then(from_process::console_size);
        steps.push(Action::OpenTerminal { console: false, size });
    }
    steps.push(Action::OpenDirectory { path: process.cwd().clone(), make: false });
    steps.push(from_process::find_program(process)?);
    steps.push(Action::SetUmask(process.user().umask().unwrap_or(0o022)));
    steps.push(Action::ResolveUser(planner::numeric_user(process, planner::keeps_groups(spec))));
    steps.extend(from_process::limits(process)?.into_iter().map(Action::SetLimit));
    steps.extend(from_process::scheduling_steps(process, linux)?);
    steps.extend(labels::program_steps(process)?);
    steps.extend(last.map(Action::SetAffinity));
    Ok(steps)
}

fn environment(container: &[String], command: &ExecCommand) -> Vec<String> {
    let split = |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut env: BTreeMap<String, String> = container.iter().filter_map(split).collect();
    if command.tty {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    env.extend(command.env.clone());
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}
