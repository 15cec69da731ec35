//! Errors on their way to the screen: one place prints the chain, the hint and picks the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use super::args::UsageError;
use super::exit::{self, Family};
use super::style::{Colour, Palette, harmless};
use crate::engine::LaunchError;
use crate::engine::oci::OciError;
use crate::keeper::KeeperError;
use crate::logs::LogError;
use crate::namespaces::cgroup::CgroupError;
use crate::network::NetworkError;
use crate::store::StoreError;
use crate::supervisor::ExplainError;
use crate::supervisor::control::protocol::Failure;

/// Says why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The compose file is wrong: all that is wrong with it, written out.
    #[error("{text}")]
    File {
        /// What the loader's renderer made, several lines.
        text: String,
    },
    /// A directory or file of ours.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The project's processes could not be started.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The supervisor could not do it.
    #[error("{}", .0.chain.first().map_or("the supervisor gave no reason", |text| text))]
    Refused(Failure),
    /// Somebody holds the project and does not answer.
    #[error("project `{project}` is busy{}", .holder.map(|pid| format!(" with pid {pid}")).unwrap_or_default())]
    Busy {
        /// The project.
        project: String,
        /// Who, as far as the lock file tells.
        holder: Option<i32>,
    },
    /// The connection to the supervisor failed.
    #[error("talk to the supervisor of project `{project}`")]
    Connection {
        /// The project.
        project: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A container did not run.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A service that cannot be explained.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// A command of the runtime.
    #[error("{}", .0.line())]
    Oci(OciError),
    /// A network, or a plugin.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A directory that an option names.
    #[error("make the directory {path}")]
    Directory {
        /// The directory.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file that an option names to be written.
    #[error("write {file}")]
    Write {
        /// The file.
        file: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the user's.
    #[error("read {file}")]
    Read {
        /// The file.
        file: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something of the terminal or the standard streams.
    #[error("{operation}")]
    Terminal {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Logs could not be read.
    #[error(transparent)]
    Logs(LogError),
    /// Standard output did not take it.
    #[error("write to standard output")]
    Output(#[source] io::Error),
    /// A terminal is asked for and stdin is none.
    #[error("the input device is not a TTY")]
    NotATerminal,
    /// A signal ended the command.
    #[error("interrupted{}", .left.as_ref().map(|left| format!(": {left}")).unwrap_or_default())]
    Interrupted {
        /// Its number.
        signal: i32,
        /// What stays behind, where anything does.
        left: Option<String>,
    },
    /// What was named is not there.
    #[error("{0}")]
    NoSuch(String),
    /// The async runtime could not be made.
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
}

impl From<LogError> for CliError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Show(source) => Self::Output(source),
            error => Self::Logs(error),
        }
    }
}

impl From<OciError> for CliError {
    fn from(error: OciError) -> Self {
        Self::Oci(error)
    }
}

impl CliError {
    /// Writes it as one line, causes and all.
    pub fn line(&self) -> String {
        self.chain().join(": ")
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(error) => error.hint.clone(),
            Self::Store(error) => error.hint(),
            Self::Logs(error) => error.hint(),
            Self::Launch(error) => error.hint(),
            Self::Explain(error) => error.hint(),
            Self::Oci(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::Refused(failure) => failure.hint.clone(),
            // What crosses from the supervisor that could not start are words.
            Self::Keeper(KeeperError::Refused { message }) if *message == CgroupError::NoHierarchy.to_string() => {
                CgroupError::NoHierarchy.hint()
            }
            Self::Busy { .. } => Some("another mydocker works on this project; try again when it is done".into()),
            Self::NotATerminal => Some("without `-t` (`compose exec`: with `-T`) it runs without a terminal".into()),
            _ => None,
        }
    }

    /// Returns the exit code of a command of this family.
    pub fn code(&self, family: Family) -> u8 {
        match self {
            Self::Usage(error) => error.family.usage(),
            Self::File { .. } => family.usage(),
            Self::Refused(failure) if failure.code != 0 => failure.code,
            Self::Interrupted { signal, .. } => u8::try_from(128 + signal).unwrap_or(exit::INTERRUPTED),
            Self::Launch(error) => u8::try_from(error.exit_code()).unwrap_or(exit::OURS),
            Self::Oci(error) if family == Family::Container => u8::try_from(error.exit_code()).unwrap_or(exit::OURS),
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => exit::BROKEN_PIPE,
            _ => family.failed(),
        }
    }

    /// The error and its causes, outermost first.
    fn chain(&self) -> Vec<String> {
        if let Self::Refused(failure) = self {
            return if failure.chain.is_empty() { vec![self.to_string()] } else { failure.chain.clone() };
        }
        if let Self::Keeper(KeeperError::Refused { message }) = self {
            return message.lines().map(str::to_owned).collect();
        }
        let mut chain = vec![self.to_string()];
        let mut next = self.source();
        while let Some(cause) = next {
            chain.push(cause.to_string());
            next = cause.source();
        }
        chain
    }

    /// Writes it out: `error:`, `caused by:`, `hint:`.
    pub fn render(&self, palette: Palette) -> String {
        let mut out = String::new();
        if let Self::File { text } = self {
            // Diagnostics name their place first and are complete.
            let _ = writeln!(out, "{}", with_short_words(text.trim_end()));
            return out;
        }
        for (at, text) in self.chain().iter().enumerate() {
            let label = match at {
                0 => palette.paint(Colour::Red, "error:"),
                _ => palette.paint(Colour::Bold, "caused by:"),
            };
            let _ = writeln!(out, "{label} {}", harmless(text));
        }
        if let Some(hint) = self.hint() {
            let _ = writeln!(out, "{} {}", palette.paint(Colour::Cyan, "hint:"), harmless(&hint));
        }
        with_short_words(&out)
    }
}

/// Prints an error and returns the exit code that belongs to it. A reader that is gone is no error to tell of.
pub fn report(error: &CliError, family: Family, palette: Palette) -> ExitCode {
    let code = error.code(family);
    if code != exit::BROKEN_PIPE {
        say(&error.render(palette));
    }
    ExitCode::from(code)
}

/// Cuts words that nobody can want to read: the longest path that the kernel takes has 4096 bytes.
fn with_short_words(text: &str) -> String {
    const LONGEST: usize = 4200;
    const SHOWN: usize = 200;
    let cut = |word: &str| match word.char_indices().nth(SHOWN) {
        Some((at, _)) if word.len() > LONGEST => format!("{}…", &word[..at]),
        _ => word.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(cut).collect()
}

/// Writes to standard error. That it cannot be written to is nobody's to hear.
pub fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints a warning of one line or more.
pub fn warn(message: &str, palette: Palette) {
    say(&format!("{} {}\n", palette.paint(Colour::Yellow, "warning:"), harmless(message.trim_end())));
}

/// Writes data to standard output.
///
/// # Errors
/// [`CliError::Output`].
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Makes a panic one line for the user; the trace of the stack is for those who ask for it with RUST_BACKTRACE.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        say(&format!(
            "error: internal error: {} ({place}, mydocker {version}); please report it\n",
            harmless(&message.replace('\n', " "))
        ));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            say(&format!("{}\n", std::backtrace::Backtrace::force_capture()));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> CliError {
        CliError::Refused(Failure {
            chain: vec!["start container `shop-web-1`".into(), "bind 0.0.0.0:80: address in use \u{1b}[2J".into()],
            hint: Some("`ss -ltnp sport = :80` shows who has it".into()),
            code: 1,
        })
    }

    #[test]
    fn the_chain_comes_with_its_hint_and_drives_no_terminal() {
        insta::assert_snapshot!(failure().render(Palette::PLAIN), @r"
        error: start container `shop-web-1`
        caused by: bind 0.0.0.0:80: address in use \u{1b}[2J
        hint: `ss -ltnp sport = :80` shows who has it
        ");
    }

    #[test]
    fn causes_of_our_own_errors_are_followed() {
        let source = io::Error::from_raw_os_error(13);
        let error = CliError::Connection { project: "shop".into(), source };
        insta::assert_snapshot!(error.render(Palette::PLAIN), @r"
        error: talk to the supervisor of project `shop`
        caused by: Permission denied (os error 13)
        ");
        let boot = CliError::Keeper(KeeperError::Refused { message: "mount x\nno such device".into() });
        insta::assert_snapshot!(boot.render(Palette::PLAIN), @r"
        error: mount x
        caused by: no such device
        ");
    }

    #[test]
    fn codes_are_those_of_the_family() {
        let usage = || CliError::Usage(UsageError::new("x"));
        assert_eq!((usage().code(Family::Plain), failure().code(Family::Plain)), (2, 1));
        assert_eq!(CliError::NotATerminal.code(Family::Container), 125);
        assert_eq!(CliError::File { text: String::new() }.code(Family::Plain), 2);
        assert_eq!(CliError::Output(io::ErrorKind::BrokenPipe.into()).code(Family::Plain), 141);
        assert_eq!(CliError::Output(io::ErrorKind::StorageFull.into()).code(Family::Plain), 1);
    }

    #[test]
    fn colour_is_for_terminals_without_no_color() {
        use super::super::args::AnsiMode;
        let env = |name: &str| (name == "TERM").then(|| "xterm".into());
        let file = tempfile::tempfile().unwrap();
        assert!(!Palette::for_stream(&file, AnsiMode::Auto, env).is_on());
        let always = Palette::for_stream(&file, AnsiMode::Always, env);
        assert!(failure().render(always).starts_with("\u{1b}[31merror:\u{1b}[0m start"));
    }
}
