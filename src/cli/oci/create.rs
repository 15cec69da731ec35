//! `create` and `run`.

use std::cell::OnceCell;
use std::process::ExitCode;

use super::Context;
use super::args::{BundleArgs, CreateArgs, RunBundleArgs};
use super::console::LoggedConsole;
use crate::cli::args::ExplainBundleArgs;
use crate::cli::commands::explain::{Run, Told};
use crate::cli::commands::run::TerminalConsole;
use crate::cli::exit;
use crate::cli::report::{CliError, warn};
use crate::engine::oci::{
    Bundle, CreateJob, OciError, OciId, Outlook, Runtime, TerminalTaker, Trace, create, run, run_detached,
};
use crate::spec::ExitStatus;

/// Creates a container.
pub(super) fn create_only(args: &CreateArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let bundle = read(&args.bundle, context)?;
    let hear = context.log.steps();
    let job = CreateJob { trace: Trace::new(&hear), ..job(&args.id, &args.bundle, &bundle, context) };
    let created = create(&context.runtime, &job)?;
    context.warn(&created.warnings);
    Ok(ExitCode::SUCCESS)
}

/// Creates and starts a container; in the foreground, with its exit code as ours.
pub(super) fn create_and_start(args: &RunBundleArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let bundle = read(&args.bundle, context)?;
    let hear = context.log.steps();
    let job =
        CreateJob { starts_here: true, trace: Trace::new(&hear), ..job(&args.id, &args.bundle, &bundle, context) };
    if args.detach {
        context.warn(&run_detached(&context.runtime, &job)?);
        return Ok(ExitCode::SUCCESS);
    }
    let terminal = match job.terminal {
        TerminalTaker::Nobody => TerminalTaker::Caller,
        other => other,
    };
    let job = CreateJob { die_with_parent: true, terminal, ..job };
    let mut console = LoggedConsole::new(context.log);
    let (status, warnings) = run(&context.runtime, &job, args.keep, &mut console)?;
    warnings.iter().for_each(|warning| context.log.left_over(warning));
    Ok(status.code().map_or_else(|| ExitCode::from(exit::OURS), |code| exit::from_status(Some(code))))
}

/// Tells what [`create_and_start`] would do in the foreground; does it only with `run`.
pub(super) fn explain(args: &ExplainBundleArgs, runtime: &Runtime, measured: Option<&Run>) -> Result<Told, CliError> {
    let bundle = Bundle::read(&args.bundle.bundle, args.bundle.config.as_deref())?;
    let id = match &args.id {
        Some(id) => id.clone(),
        None => bundle.path.file_name().unwrap_or_default().to_string_lossy().parse::<OciId>()?,
    };
    let carried_out = OnceCell::new();
    let job = CreateJob {
        id: &id,
        bundle: &bundle,
        pid_file: None,
        terminal: TerminalTaker::Caller,
        preserved: &[],
        no_pivot: args.bundle.no_pivot,
        new_keyring: !args.bundle.no_new_keyring,
        starts_here: true,
        die_with_parent: true,
        trace: Trace::default(),
        carried_out: measured.map(|_| &carried_out),
    };
    let outlook = Outlook::of(runtime, &job)?;
    let outcome = measured.map(|measured| -> Result<ExitStatus, CliError> {
        bundle.warnings.iter().for_each(|warning| warn(warning, measured.palette));
        let mut console = TerminalConsole::new(true, measured.palette);
        let (status, warnings) = run(runtime, &job, false, &mut console)?;
        warnings.iter().for_each(|warning| warn(warning, measured.palette));
        Ok(status)
    });
    Ok(Told { explanation: outlook.explain(), outcome })
}

fn read(args: &BundleArgs, context: &Context<'_>) -> Result<Bundle, OciError> {
    let mut bundle = Bundle::read(&args.bundle, args.config.as_deref())?;
    bundle.warnings.iter().for_each(|warning| context.log.left_out(warning));
    bundle.pass_sockets(context.listen_fds);
    Ok(bundle)
}

fn job<'a>(id: &'a OciId, args: &'a BundleArgs, bundle: &'a Bundle, context: &'a Context<'_>) -> CreateJob<'a> {
    CreateJob {
        id,
        bundle,
        pid_file: args.pid_file.as_deref(),
        terminal: args.console_socket.as_deref().map_or(TerminalTaker::Nobody, TerminalTaker::Socket),
        preserved: context.inherited,
        no_pivot: args.no_pivot,
        new_keyring: !args.no_new_keyring,
        starts_here: false,
        die_with_parent: false,
        trace: Trace::default(),
        carried_out: None,
    }
}
