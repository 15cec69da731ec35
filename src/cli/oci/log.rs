//! The runtime's log: how engines learn why a command failed.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use super::args::LogFormat;
use crate::cli::report;
use crate::engine::oci::OciError;

/// Takes what the runtime has to tell. Standard error belongs to the container and its engine, and engines call us without a log, too: on it
/// are told a command's failure and, where there is no log, what of a description cannot be carried out on any host. Anything else
/// only where a person reads it, or with `--debug`.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    format: LogFormat,
    /// Tells more.
    debug: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    /// Opens the log, to write at its end.
    pub(super) fn open(path: Option<&Path>, format: LogFormat, debug: bool) -> Result<Self, OciError> {
        // O_NONBLOCK: a FIFO that nobody reads must not hold us up.
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options
                .append(true)
                .create(true)
                .mode(0o644)
                .custom_flags(libc::O_NONBLOCK)
                .open(path)
                .map_err(|source| OciError::File { operation: "open the log", path: path.to_owned(), source })
        };
        let path = path.filter(|path| *path != Path::new("/dev/stderr"));
        Ok(Self { file: path.map(open).transpose()?, format, debug })
    }

    /// Notes a failure.
    pub(super) fn error(&self, text: &str) {
        self.write("error", text);
    }

    /// Tells what is worse than asked on this host.
    pub(super) fn warn(&self, text: &str) {
        if self.debug || io::stderr().is_terminal() {
            self.tell("warning", text);
        } else {
            self.write("warning", text);
        }
    }

    /// Tells what of a description is left out.
    pub(super) fn left_out(&self, text: &str) {
        self.tell("warning", text);
    }

    /// Tells what went wrong after a container's end, when its streams are nobody's any more.
    pub(super) fn left_over(&self, text: &str) {
        self.tell("warning", text);
    }

    /// Returns what tells each step of a plan, with `--debug`.
    pub(super) fn steps(&self) -> impl Fn(&str) {
        |step| {
            if self.debug {
                self.tell("debug", step);
            }
        }
    }

    fn tell(&self, level: &str, text: &str) {
        if self.file.is_none() {
            report::say(&format!("{level}: {text}\n"));
        }
        self.write(level, text);
    }

    /// One write(2) a line: others may write to the same file. That it cannot be written is nobody's to hear.
    fn write(&self, level: &str, text: &str) {
        let Some(mut file) = self.file.as_ref() else { return };
        let time = jiff::Timestamp::now().to_string();
        let line = match self.format {
            LogFormat::Json => serde_json::to_string(&Entry { level, msg: text, time }).unwrap_or_default(),
            LogFormat::Text => format!("time={time:?} level={level} msg={text:?}"),
        };
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
