//! Our terminal and standard streams at the other end of the container's.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};

use crate::cli::output::RawOutput;
use crate::cli::report::{self, CliError};
use crate::cli::style::Palette;
use crate::cli::terminal::{RawMode, Relay, copy_size, relay_stdin};
use crate::engine::foreground::{Console, StreamEnds};

/// Ctrl-D: what a terminal in its usual mode turns into an end of file (termios(3), VEOF).
const END_OF_FILE: &[u8] = b"\x04";

/// Carries bytes between our streams and the container's, in threads.
#[derive(Debug)]
pub(in crate::cli) struct TerminalConsole {
    palette: Palette,
    interactive: bool,
    relays: Vec<Relay>,
    raw: Option<RawMode>,
    master: Option<OwnedFd>,
}

impl TerminalConsole {
    pub(in crate::cli) fn new(interactive: bool, palette: Palette) -> Self {
        Self { palette, interactive, relays: Vec::new(), raw: None, master: None }
    }

    fn connect_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        copy_size(&master);
        let ours = io::stdin().is_terminal();
        // What the container writes is to arrive in a file or pipe as it was written, and what is typed not at all.
        let exact = !io::stdout().is_terminal();
        if exact {
            let mut modes = tcgetattr(&master)?;
            modes.output_modes.remove(OutputModes::OPOST);
            modes.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&master, OptionalActions::Now, &modes)?;
        }
        if self.interactive && ours && !exact {
            self.raw = Some(RawMode::enter().map_err(|error| match error {
                CliError::Terminal { source, .. } => source,
                other => io::Error::other(other),
            })?);
        }
        self.relays.push(Relay::start(master.try_clone()?, RawOutput::stdout()?)?);
        if self.interactive {
            relay_keys(master.try_clone()?, ours)?;
        }
        self.master = Some(master);
        Ok(())
    }
}

impl Console for TerminalConsole {
    fn warn(&mut self, text: &str) {
        report::warn(text, self.palette);
    }

    fn connect(&mut self, ends: StreamEnds) -> io::Result<()> {
        if let Some(master) = ends.terminal {
            return self.connect_terminal(master);
        }
        if let Some(stdout) = ends.stdout {
            self.relays.push(Relay::start(stdout, RawOutput::stdout()?)?);
        }
        if let Some(stderr) = ends.stderr {
            self.relays.push(Relay::start(stderr, RawOutput::of(rustix::stdio::stderr())?)?);
        }
        ends.stdin.map_or(Ok(()), relay_stdin)
    }

    fn resize(&mut self) {
        if let Some(master) = &self.master {
            copy_size(master);
        }
    }

    fn disconnect(&mut self) {
        for relay in self.relays.drain(..) {
            // A reader of ours that is gone is nothing that the command's status should hide.
            let _ = relay.finish();
        }
        self.raw = None;
        self.master = None;
    }
}

/// Carries standard input to the container's terminal. An end of it is told as a terminal tells it; a terminal of ours
/// may go on after one.
fn relay_keys(master: OwnedFd, ours: bool) -> io::Result<()> {
    let relay = move || {
        let mut to = RawOutput::from(master);
        let mut buffer = [0; 4096];
        loop {
            let count = match rustix::io::read(rustix::stdio::stdin().as_fd(), &mut buffer) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(_) => 0,
            };
            let bytes = if count == 0 { END_OF_FILE } else { &buffer[..count] };
            if to.write_all(bytes).is_err() || (count == 0 && !ours) {
                return;
            }
        }
    };
    thread::Builder::new().name("stdin".into()).spawn(relay).map(drop)
}
