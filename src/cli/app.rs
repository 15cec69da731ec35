//! From the process's arguments to its exit code.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use super::args::{AnsiMode, Cli, Command, ComposeCommand, Parsed, parse};
use super::exit::Family;
use super::report::{self, CliError};
use super::settings::Settings;
use super::style::Palette;
use super::{commands, compose, containers, oci};

/// Runs the command that `words`, the arguments after the program's name, ask for.
pub fn run(words: Vec<OsString>) -> ExitCode {
    // An engine waits for each of these: they need no more than their own part of the command line.
    if words.first().is_some_and(|word| word == "oci") {
        return oci::run(words.into_iter().skip(1).collect());
    }
    let plain = Palette::for_stream(&io::stderr(), AnsiMode::Auto, |name| env::var_os(name));
    let cli = match parse(words) {
        Ok(Parsed::Command(cli)) => *cli,
        Ok(Parsed::Text(text)) => {
            return match report::print(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => report::report(&error, Family::Plain, plain),
            };
        }
        Err(error) => {
            let family = error.family;
            return report::report(&error.into(), family, plain);
        }
    };
    let family = family(&cli.command);
    let mode = if let Command::Compose(args) = &cli.command { args.ansi } else { AnsiMode::Auto };
    let palette = Palette::for_stream(&io::stderr(), mode, |name| env::var_os(name));
    // A panic has been told of by the hook; the code still has to be ours.
    match catch_unwind(AssertUnwindSafe(|| dispatch(cli, palette))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => report::report(&error, family, palette),
        Err(_) => ExitCode::from(family.failed()),
    }
}

/// Says whether a command line may be one whose process makes a container's itself: asked before anything else is done, so that executing
/// the program anew costs no second look at the words.
pub fn may_start_containers(words: &[OsString]) -> bool {
    let is_ancestor_form = words.first().is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    is_ancestor_form || words.iter().any(|word| word == "run" || word == "create" || word == "exec" || word == "--run")
}

/// Says whether a command line may be one that tells how long everything takes.
pub fn measures(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "--run") && words.iter().any(|word| word == "explain")
}

fn dispatch(cli: Cli, palette: Palette) -> Result<ExitCode, CliError> {
    let settings =
        Settings::new(&cli.global, |name| env::var_os(name)).map_err(|error| error.of(family(&cli.command)))?;
    start_tracing(settings.log_level.as_str());
    match cli.command {
        Command::Compose(args) => compose::run(*args, &settings, palette),
        Command::Run(args) => commands::run::run(*args, &settings, palette),
        Command::Container(command) => containers::run(command, &settings, palette),
        Command::Explain(args) => commands::explain::run(*args, &settings, palette),
        Command::Network(args) => commands::network::run(args, &settings),
        Command::Cni(args) => commands::cni::run(args, &settings),
        Command::Oci(args) => Ok(oci::run_parsed(*args, &settings)),
        Command::Version(args) => commands::version::run(&args),
    }
}

/// Says which exit codes a command has.
fn family(command: &Command) -> Family {
    match command {
        Command::Run(_) | Command::Explain(_) => Family::Container,
        Command::Container(command) => containers::family(command),
        Command::Compose(args) if matches!(args.command, ComposeCommand::Exec(_)) => Family::Container,
        _ => Family::Plain,
    }
}

/// Begins to write what mydocker does of its own to standard error, down to `level` (the words of `--log-level`; `warn` for
/// any other). A process does it once; later calls change nothing.
pub fn start_tracing(level: &str) {
    let level = level.parse().unwrap_or(LevelFilter::WARN);
    let colour = Palette::for_stream(&io::stderr(), AnsiMode::Auto, |name| env::var_os(name)).is_on();
    let _ = tracing_subscriber::fmt().with_max_level(level).with_ansi(colour).with_writer(quiet_stderr).try_init();
}

/// Standard error that cannot fail: eprintln! panics where a write does.
fn quiet_stderr() -> impl Write {
    struct Quiet;
    impl Write for Quiet {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = io::stderr().write_all(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    Quiet
}
