//! `compose up`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use super::foreground::{self, Attached};
use super::policy;
use super::requests::carry_out;
use crate::cli::args::UpArgs;
use crate::cli::cni;
use crate::cli::follow::mux_options;
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::CliError;
use crate::compose::model::{Logging, Project};
use crate::supervisor::control::protocol::{Command, Recreate, Up};

/// Makes the project be as its file says, and stays to show what it writes unless `-d`.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(context: &ComposeContext<'_>, args: UpArgs) -> CommandResult {
    let meant = |project: &Project| with_dependencies(project, &args.services);
    let told = |judgement, meant: &BTreeSet<String>| policy::tell(context, judgement, meant, args.policy);
    let mut project = policy::with_host(context, |host| context.load_to_run(&args.services, host, meant, told))?;
    cni::resolve(&mut project, context.settings)?;
    for service in args.scale.iter().map(|(name, _)| name).chain(&args.exit_code_from) {
        if !project.services.contains_key(service) {
            return Err(no_such_service(service, project.services.keys().map(String::as_str)).into());
        }
    }
    let name = project.name.clone();
    let stays = !(args.detach || args.wait || args.no_start);
    let attached = stays.then(|| attached(context, &project, &args));
    for name in attached.iter().flat_map(|attached| &attached.shown) {
        if project.services.get(name).is_some_and(|service| service.logging == Logging::Nothing) {
            context.warn(&format!("what {name} writes is neither kept nor shown: its log driver is `none`"));
        }
    }
    let up = Command::Up(Box::new(request(context, project, &args)));
    match attached {
        Some(attached) => foreground::run(context, &name, up, attached),
        None => carry_out(context, &name, up).map(|()| ExitCode::SUCCESS),
    }
}

/// Loads the project as [`run`] does for one service, and sends nothing.
///
/// # Errors
/// [`CliError`]
pub(in crate::cli) fn request_for(context: &ComposeContext<'_>, service: &str) -> Result<Up, CliError> {
    let args = UpArgs { services: vec![service.to_owned()], ..UpArgs::default() };
    let mut project = context.load(&args.services)?;
    cni::resolve(&mut project, context.settings)?;
    Ok(request(context, project, &args))
}

fn request(context: &ComposeContext<'_>, project: Project, args: &UpArgs) -> Up {
    Up {
        project,
        default_rootfs: context.settings.default_rootfs(),
        services: args.services.clone(),
        recreate: match (args.force_recreate, args.no_recreate) {
            (true, _) => Recreate::Always,
            (_, true) => Recreate::Never,
            _ => Recreate::Changed,
        },
        remove_orphans: args.remove_orphans,
        no_start: args.no_start,
        timeout: args.timeout,
        scale: args.scale.iter().cloned().collect::<BTreeMap<_, _>>(),
        wait: args.wait,
    }
}

fn attached(context: &ComposeContext<'_>, project: &Project, args: &UpArgs) -> Attached {
    let all = args.services.is_empty();
    let shown =
        project.services.values().filter(|service| service.attach && (all || args.services.contains(&service.name)));
    Attached {
        shown: shown.map(|service| service.name.clone()).collect(),
        meant: with_dependencies(project, &args.services),
        // No name means all, orphans among them.
        stopped: if all { Vec::new() } else { with_dependencies(project, &args.services).into_iter().collect() },
        timeout: args.timeout,
        aborts: args.abort_on_container_exit || args.exit_code_from.is_some(),
        exit_code_from: args.exit_code_from.clone(),
        options: mux_options(args.no_log_prefix, args.no_color, args.timestamps, context.stdout_palette()),
    }
}

/// Collects services with all they depend on; every service where none is named.
fn with_dependencies(project: &Project, services: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = match services {
        [] => project.services.keys().map(String::as_str).collect(),
        named => named.iter().map(String::as_str).collect(),
    };
    while let Some(name) = open.pop() {
        if found.insert(name.to_owned())
            && let Some(service) = project.services.get(name)
        {
            open.extend(service.depends_on.keys().map(String::as_str));
        }
    }
    found
}
