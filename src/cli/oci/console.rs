use std::io;

use super::log::Log;
use crate::cli::commands::run::TerminalConsole;
use crate::cli::style::Palette;
use crate::engine::foreground::{Console, StreamEnds};

/// Is the console of a foreground container whose warnings go where all of the runtime's go.
pub(super) struct LoggedConsole<'a> {
    console: TerminalConsole,
    log: &'a Log,
}

impl<'a> LoggedConsole<'a> {
    pub(super) fn new(log: &'a Log) -> Self {
        Self { console: TerminalConsole::new(true, Palette::PLAIN), log }
    }
}

impl Console for LoggedConsole<'_> {
    fn warn(&mut self, text: &str) {
        self.log.warn(text);
    }

    fn connect(&mut self, ends: StreamEnds) -> io::Result<()> {
        self.console.connect(ends)
    }

    fn resize(&mut self) {
        self.console.resize();
    }

    fn disconnect(&mut self) {
        self.console.disconnect();
    }
}
