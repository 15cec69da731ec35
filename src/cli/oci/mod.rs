#![doc = include_str!("README.md")]

pub mod args;
mod console;
mod create;
mod events;
mod exec;
mod features;
mod lifecycle;
mod list;
mod log;
mod spec;
mod update;

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use self::args::{CgroupManager, OciArgs, OciCli, OciCommand, RuntimeArgs};
use self::log::Log;
use super::args::{ExplainBundleArgs, Meant, Parsed, usage_error};
use super::commands::explain::{Run, Told};
use super::exit::{self, Family};
use super::report::{self, CliError};
use super::settings::Settings;
use super::style::Palette;
use crate::engine::oci::{CgroupDriver, OciError, Runtime, StateRoot};
use crate::namespaces::cgroup::CgroupPath;
use crate::spec::Stopwatch;

/// The name under which the binary is the runtime.
const NAME: &str = "mydocker-oci";
/// The newest version of the runtime specification that is carried out.
const SPECIFICATION: &str = "1.2.1";

/// Says whether the binary was called as the runtime.
pub fn is_called(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new(NAME))
}

/// Runs the command that `words`, the arguments after the program's name, ask for.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let plain = Palette::PLAIN;
    let parsed = OciCli::command()
        .no_binary_name(true)
        .try_get_matches_from(words)
        .and_then(|matches| OciCli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, plain),
    };
    let settings = match Settings::new(&cli.global, |name| env::var_os(name)) {
        Ok(settings) => settings,
        Err(error) => return report::report(&error.into(), Family::Plain, plain),
    };
    run_parsed(cli.oci, &settings)
}

fn refuse(error: &clap::Error, palette: Palette) -> ExitCode {
    match usage_error(error, &Meant::runtime()) {
        Ok(Parsed::Text(text)) => match report::print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report::report(&error, Family::Plain, palette),
        },
        Ok(Parsed::Command(_)) => ExitCode::from(exit::FAILED),
        Err(error) => report::report(&error.into(), Family::Plain, palette),
    }
}

/// Runs a command, and leaves its last words in the log where it fails.
pub fn run_parsed(args: OciArgs, settings: &Settings) -> ExitCode {
    let OciArgs { runtime, command } = args;
    if runtime.version {
        return version();
    }
    let family = family(command.as_ref());
    let inherited = match inherit(command.as_ref()) {
        Ok(inherited) => inherited,
        Err(error) => return report::report(&error.into(), family, Palette::PLAIN),
    };
    let log = match Log::open(runtime.log.as_deref(), runtime.log_format, runtime.debug) {
        Ok(log) => log,
        Err(error) => return report::report(&error.into(), family, Palette::PLAIN),
    };
    match perform(command, &runtime, settings, &log, &inherited) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error.line());
            report::report(&error, family, Palette::PLAIN)
        }
    }
}

/// Tells what the runtime would do with a bundle; does it only with `run`.
///
/// # Errors
/// [`CliError`].
pub(in crate::cli) fn explain(
    args: &ExplainBundleArgs,
    settings: &Settings,
    run: Option<&Run>,
) -> Result<Told, CliError> {
    let watch = run.map(|run| run.watch.clone()).unwrap_or_default();
    create::explain(args, &Runtime { watch, ..runtime(&RuntimeArgs::default(), settings)? }, run)
}

/// Is what a command works with.
struct Context<'a> {
    runtime: Runtime,
    log: &'a Log,
    /// Descriptors that go to the container, from 3 on.
    inherited: &'a [Option<OwnedFd>],
    /// How many of them are sockets of systemd's protocol.
    listen_fds: u32,
}

impl Context<'_> {
    fn warn(&self, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.log.warn(warning));
    }
}

fn perform(
    command: Option<OciCommand>,
    args: &RuntimeArgs,
    settings: &Settings,
    log: &Log,
    inherited: &[Option<OwnedFd>],
) -> Result<ExitCode, CliError> {
    let listen_fds = listen_fds();
    let mut runtime = runtime(args, settings)?;
    runtime.notify_socket = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
    let context = Context { runtime, log, inherited, listen_fds };
    let Some(command) = command else {
        let error = super::args::UsageError::new("a command is missing");
        return Err(error.hint(format!("`{NAME} --help` lists what there is")).into());
    };
    match command {
        OciCommand::Create(args) => create::create_only(&args, &context),
        OciCommand::Run(args) => create::create_and_start(&args, &context),
        OciCommand::Exec(args) => exec::run(&args, &context),
        OciCommand::Pause(args) => lifecycle::pause(&args, &context),
        OciCommand::Resume(args) => lifecycle::resume(&args, &context),
        OciCommand::Events(args) => events::run(&args, &context),
        OciCommand::Ps(args) => list::ps(&args, &context),
        OciCommand::Update(args) => update::run(&args, &context),
        OciCommand::List(args) => list::list(&args, &context),
        OciCommand::Spec(args) => spec::run(&args),
        OciCommand::Features => features::run(),
        OciCommand::Checkpoint(_) => Err(unsupported("checkpoint").into()),
        OciCommand::Restore(_) => Err(unsupported("restore").into()),
        OciCommand::Start(args) => lifecycle::start(&args, &context),
        OciCommand::State(args) => lifecycle::state(&args, &context),
        OciCommand::Kill(args) => lifecycle::kill(&args, &context),
        OciCommand::Delete(args) => lifecycle::delete(&args, &context),
    }
}

fn runtime(args: &RuntimeArgs, settings: &Settings) -> Result<Runtime, OciError> {
    let wrong = |reason: &str| OciError::Config { key: "--systemd-cgroup".to_owned(), reason: reason.to_owned() };
    let cgroups = match args.cgroup_manager {
        _ if args.systemd_cgroup => Err(wrong("this runtime makes cgroups itself and asks no systemd: leave it out")),
        CgroupManager::Systemd => Err(wrong("this runtime asks no systemd: `--cgroup-manager cgroupfs`")),
        CgroupManager::Cgroupfs => Ok(CgroupDriver::Files { parent: CgroupPath::new(&settings.cgroup_parent)? }),
        CgroupManager::Disabled => Ok(CgroupDriver::Disabled),
    }?;
    let root = args.root.clone().unwrap_or_else(|| settings.directories.run().join("oci"));
    let root = std::path::absolute(&root).map_err(|source| OciError::File {
        operation: "find the directory",
        path: root.clone(),
        source,
    })?;
    Ok(Runtime {
        root: StateRoot::new(root),
        cgroups,
        notify_socket: None,
        filter_cache: settings.directories.data().join("cache/seccomp"),
        watch: Stopwatch::default(),
    })
}

/// Takes the descriptors that a container is to have, before any of ours can get their numbers; no other that we inherited
/// reaches a hook.
fn inherit(command: Option<&OciCommand>) -> Result<Vec<Option<OwnedFd>>, OciError> {
    let (asked, passes) = match command {
        Some(OciCommand::Create(args)) => (args.bundle.preserve_fds, true),
        Some(OciCommand::Run(args)) => (args.bundle.preserve_fds, true),
        Some(OciCommand::Exec(args)) => (args.preserve_fds, true),
        _ => (0, false),
    };
    let passed = if passes { listen_fds() } else { 0 };
    let count = asked.saturating_add(passed).min(1 << 16);
    crate::sys::process::take_inherited(count).map_err(OciError::Descriptors)
}

/// Counts the sockets that systemd's protocol passes to us (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_PID") {
        Some(pid) if pid != std::process::id() => 0,
        _ => number("LISTEN_FDS").unwrap_or(0),
    }
}

/// Says which exit codes a command has: what runs a program has that program's.
fn family(command: Option<&OciCommand>) -> Family {
    match command {
        Some(OciCommand::Run(args)) if !args.detach => Family::Container,
        Some(OciCommand::Exec(args)) if !args.detach => Family::Container,
        _ => Family::Plain,
    }
}

fn unsupported(command: &str) -> OciError {
    let reason = "containers cannot be written down and read again here; stop them and start them anew".to_owned();
    OciError::Config { key: command.to_owned(), reason }
}

/// Engines read these lines: the name first, then what is known by its name.
fn version() -> ExitCode {
    let text =
        format!("{NAME} version {}\nspec: {SPECIFICATION}\n+CAP +SECCOMP +EBPF +CGROUPFS\n", env!("CARGO_PKG_VERSION"));
    match report::print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::report(&error, Family::Plain, Palette::PLAIN),
    }
}
