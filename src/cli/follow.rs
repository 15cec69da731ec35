//! How logs are shown: `logs` and a foreground `up` are one path, the followers of [`crate::logs`].

use std::io::{self, IsTerminal};
use std::path::Path;

use super::style::Palette;
use crate::logs::MuxOptions;
use crate::supervisor::control::protocol::ContainerStatus;

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

/// Returns the directory of a container's log, where it is there.
pub fn log_directory(container: &ContainerStatus) -> Option<&Path> {
    container.log.as_deref()?.parent().filter(|directory| directory.is_dir())
}
