//! `exec`.

use std::process::ExitCode;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, User, UserBuilder};

use super::Context;
use super::args::ExecInArgs;
use super::console::LoggedConsole;
use crate::cli::exit;
use crate::cli::report::CliError;
use crate::engine::oci::{
    ExecJob, OciError, TerminalTaker, Trace, exec, exec_detached, exec_target, pass_sockets, read_process,
};

/// Executes another program in a container; in the foreground, with its exit code as ours.
pub(super) fn run(args: &ExecInArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let terminal = match (&args.console_socket, args.detach) {
        (Some(socket), _) => TerminalTaker::Socket(socket),
        (None, true) => TerminalTaker::Nobody,
        (None, false) => TerminalTaker::Caller,
    };
    let mut process = process(args, context)?;
    pass_sockets(&mut process, context.listen_fds);
    let hear = context.log.steps();
    let job = ExecJob {
        id: &args.id,
        process,
        pid_file: args.pid_file.as_deref(),
        terminal,
        preserved: context.inherited,
        ignore_paused: args.ignore_paused,
        cgroup: args.cgroup.as_deref(),
        trace: Trace::new(&hear),
    };
    if args.detach {
        context.warn(&exec_detached(&context.runtime, &job)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut console = LoggedConsole::new(context.log);
    let status = exec(&context.runtime, &job, &mut console)?;
    Ok(status.code().map_or_else(|| ExitCode::from(exit::OURS), |code| exit::from_status(Some(code))))
}

/// Returns what the file describes, or the container's own process with another command; options change either.
fn process(args: &ExecInArgs, context: &Context<'_>) -> Result<Process, CliError> {
    let wrong = |key: &str, reason: &str| OciError::Config { key: key.to_owned(), reason: reason.to_owned() };
    let mut process = match &args.process {
        Some(path) => {
            let (process, warnings) = read_process(path)?;
            warnings.iter().for_each(|warning| context.log.left_out(warning));
            process
        }
        None => {
            let container = exec_target(&context.runtime, &args.id, args.ignore_paused)?;
            let config = container.directory.config()?;
            let mut process = config.process().clone().unwrap_or_default();
            process.set_terminal(Some(false)).set_args(None).set_console_size(None);
            process
        }
    };
    if !args.words.is_empty() {
        process.set_args(Some(args.words.clone()));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(wrong("exec", "no command: name one after the id, or in the file of `--process`").into());
    }
    apply(args, &mut process)?;
    Ok(process)
}

fn apply(args: &ExecInArgs, process: &mut Process) -> Result<(), OciError> {
    if let Some(tty) = args.tty {
        process.set_terminal(Some(tty));
    }
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &args.env {
        // Of two with one name most programs see the first.
        let name = entry.split('=').next();
        env.retain(|had| had.split('=').next() != name);
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    process.set_user(user(args, process.user())?);
    if !args.cap.is_empty() {
        let set = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(with_capabilities(set, &args.cap)?));
    }
    Ok(())
}

fn user(args: &ExecInArgs, before: &User) -> Result<User, OciError> {
    let mut groups = before.additional_gids().clone().unwrap_or_default();
    groups.extend(&args.additional_gids);
    let (uid, gid) = match args.user {
        Some(numbers) => (numbers.uid, numbers.gid.unwrap_or(before.gid())),
        None => (before.uid(), before.gid()),
    };
    let mut user = UserBuilder::default().uid(uid).gid(gid).additional_gids(groups);
    if let Some(umask) = before.umask() {
        user = user.umask(umask);
    }
    let failed =
        |error: oci_spec::OciSpecError| OciError::Config { key: "--user".to_owned(), reason: error.to_string() };
    user.build().map_err(failed)
}

/// Adds capabilities to every set but the inheritable one.
fn with_capabilities(mut set: LinuxCapabilities, names: &[String]) -> Result<LinuxCapabilities, OciError> {
    let parse = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        serde_json::from_value::<Capability>(full.into()).map_err(|_| OciError::Config {
            key: "--cap".to_owned(),
            reason: format!("there is no capability `{name}`"),
        })
    };
    let more = names.iter().map(parse).collect::<Result<Capabilities, _>>()?;
    let with = |before: &Option<Capabilities>| Some(before.iter().flatten().chain(&more).copied().collect());
    let (bounding, effective) = (with(set.bounding()), with(set.effective()));
    let (permitted, ambient) = (with(set.permitted()), with(set.ambient()));
    set.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(ambient);
    Ok(set)
}
