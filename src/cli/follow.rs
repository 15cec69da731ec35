//! Logs on their way to standard output: `logs` and a foreground `up` are one path.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use super::output::Drain;
use super::report::CliError;
use super::style::Palette;
use crate::logs::{LogError, LogQuery, LogReader, Mux, MuxOptions, Progress, SourceId};
use crate::spec::ContainerId;
use crate::supervisor::control::protocol::ContainerStatus;

/// Shows the logs of containers as they come and go.
#[derive(Debug)]
pub struct Follower<W: Write> {
    reader: LogReader,
    mux: Mux<W>,
    sources: BTreeMap<ContainerId, SourceId>,
    /// Something was written since the last look.
    has_more: bool,
}

/// Says how lines are shown, on standard output as it is.
pub fn mux_options(no_log_prefix: bool, no_color: bool, timestamps: bool, palette: Palette) -> MuxOptions {
    MuxOptions {
        prefix: !no_log_prefix,
        colour: palette.is_on() && !no_color,
        timestamps,
        terminal: io::stdout().is_terminal(),
    }
}

/// Returns the name that stands before a container's lines: without the project's, as Compose has it.
pub fn log_name(container: &ContainerStatus) -> &str {
    let below = container.name.strip_prefix(container.project.as_str()).and_then(|rest| rest.strip_prefix('-'));
    below.filter(|rest| !rest.is_empty()).unwrap_or(&container.name)
}

impl<W: Write> Follower<W> {
    /// Shows what `reader` reads on `out`.
    pub fn new(reader: LogReader, out: W, options: MuxOptions) -> Self {
        Self { reader, mux: Mux::new(out, options), sources: BTreeMap::new(), has_more: true }
    }

    /// Adds a container's log, from where the query says. One that is known, or has no directory (any more), is left alone.
    ///
    /// # Errors
    /// [`CliError::Logs`].
    pub fn attach(&mut self, container: &ContainerStatus, query: LogQuery) -> Result<(), CliError> {
        let Some(directory) = container.log.parent().filter(|_| !self.sources.contains_key(&container.id)) else {
            return Ok(());
        };
        let source = match self.reader.add_source_from(directory, query) {
            Ok(source) => source,
            Err(LogError::Watch { source, .. } | LogError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.sources.insert(container.id.clone(), source);
        self.mux.add_name(source, log_name(container));
        self.has_more = true;
        Ok(())
    }

    /// Lets go of a container's log once what is there was shown.
    pub fn detach(&mut self, id: &ContainerId) {
        if let Some(source) = self.sources.remove(id) {
            self.reader.remove_source(source);
            self.has_more = true;
        }
    }

    /// Looks at every log again: what is in the files now is shown before [`Follower::is_caught_up`] holds.
    pub fn look_again(&mut self) {
        self.reader.look_again();
        self.has_more = true;
    }

    /// Says whether all that was written when it was last looked at is shown.
    pub fn is_caught_up(&self) -> bool {
        !self.has_more
    }

    /// Says whether nothing can come any more because everything is past the query's end.
    pub fn has_ended(&self) -> bool {
        !self.reader.is_empty() && self.reader.has_ended()
    }

    /// Shows about a mebibyte of what is there.
    ///
    /// # Errors
    /// [`CliError::Logs`] and [`CliError::Output`].
    pub fn read(&mut self) -> Result<(), CliError> {
        self.has_more = self.reader.read(&mut self.mux)? == Progress::More;
        Ok(())
    }

    /// Shows what is there and ends the last line.
    ///
    /// # Errors
    /// [`CliError::Logs`] and [`CliError::Output`].
    pub fn read_to_end(&mut self) -> Result<(), CliError> {
        self.look_again();
        while self.has_more {
            self.read()?;
        }
        self.mux.finish().map_err(CliError::Output)
    }

    /// Waits until there is something to read. Cancel-safe.
    ///
    /// # Errors
    /// [`CliError::Logs`].
    pub async fn changed(&mut self) -> Result<(), CliError> {
        if !self.has_more {
            self.reader.changed().await?;
            self.has_more = true;
        }
        Ok(())
    }

    /// As [`Follower::changed`], and until what was shown before is written. Cancel-safe.
    ///
    /// # Errors
    /// [`CliError::Logs`] and [`CliError::Output`].
    pub async fn ready(&mut self, drain: &mut Drain) -> Result<(), CliError> {
        self.changed().await?;
        drain.drained().await.map_err(CliError::Output)
    }

    /// Shows everything that is there, waits until it is written, and ends the last line.
    ///
    /// # Errors
    /// [`CliError::Logs`] and [`CliError::Output`].
    pub async fn drain(&mut self, drain: &mut Drain) -> Result<(), CliError> {
        self.look_again();
        while self.has_more {
            drain.drained().await.map_err(CliError::Output)?;
            self.read()?;
        }
        self.mux.finish().map_err(CliError::Output)?;
        drain.drained().await.map_err(CliError::Output)
    }

    /// Prints a line of ours between the others.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn say(&mut self, text: &str) -> Result<(), CliError> {
        self.mux.say(text).map_err(CliError::Output)
    }
}
