//! How logs are shown: `logs` and a foreground `up` are one path, the followers of [`crate::logs`].

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::args::{TailCount, UsageError, shown};
use super::client::Client;
use super::output::RawOutput;
use super::report::CliError;
use super::style::Palette;
use crate::logs::{Follower, LogQuery, LogReader, Mux, MuxOptions, Progress, Stamp};
use crate::spec::parse_duration;
use crate::supervisor::control::protocol::{ContainerStatus, ReplyBody, State};

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

/// Says which containers' logs are shown, and who hears of what cannot be.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Which.
    pub is_wanted: &'a dyn Fn(&ContainerStatus) -> bool,
    /// Who hears.
    pub warn: &'a dyn Fn(&str),
}

impl Shown<'_> {
    fn warn_of_no_log(&self, found: &[ContainerStatus]) {
        for container in found.iter().filter(|container| container.log.is_none() && (self.is_wanted)(container)) {
            (self.warn)(&format!("{} has no log: its log driver is `none`", container.name));
        }
    }
}

/// Shows what is there.
///
/// # Errors
/// [`CliError::Logs`], [`CliError::Output`].
pub fn replay(
    found: &[ContainerStatus],
    mut mux: Mux<RawOutput>,
    shown: Shown<'_>,
    query: LogQuery,
) -> Result<(), CliError> {
    shown.warn_of_no_log(found);
    let mut reader = LogReader::new(query);
    for container in found.iter().filter(|container| (shown.is_wanted)(container)) {
        if let Some(directory) = log_directory(container) {
            mux.add_name(reader.add_source(directory)?, log_name(container));
        }
    }
    while reader.read(&mut mux)? == Progress::More {}
    mux.finish().map_err(CliError::Output)
}

/// Follows until no container runs, or nobody works on the project any more. `found` was listed after `client` began to watch.
///
/// # Errors
/// As [`replay`], and [`CliError::Connection`].
pub async fn follow(
    mut client: Client,
    found: Vec<ContainerStatus>,
    mux: Mux<RawOutput>,
    shown: Shown<'_>,
    query: LogQuery,
) -> Result<(), CliError> {
    let mut follower = Follower::start(mux)?;
    let mut running = found;
    running.retain(|container| (shown.is_wanted)(container));
    shown.warn_of_no_log(&running);
    for container in &running {
        if let Some(directory) = log_directory(container) {
            follower.add(log_name(container), directory, query);
        }
    }
    running.retain(is_active);
    while !running.is_empty() {
        // Both branches are cancel-safe.
        let heard = tokio::select! {
            ended = follower.ended() => return Ok(ended?),
            heard = client.next() => heard?,
        };
        let Some(heard) = heard else { break };
        if let ReplyBody::Event(container) = heard.body
            && (shown.is_wanted)(&container)
        {
            running.retain(|other| other.id != container.id);
            // Made while we follow: all of it is new. One that is known is left as it is.
            if let Some(directory) = log_directory(&container) {
                follower.add(log_name(&container), directory, LogQuery { tail: None, ..query });
            }
            if is_active(&container) {
                running.push(*container);
            }
        }
    }
    Ok(follower.finish().await?)
}

fn is_active(container: &ContainerStatus) -> bool {
    matches!(container.state, State::Running | State::Restarting)
}

/// Reads `--tail`, `--since` and `--until`.
///
/// # Errors
/// [`UsageError`]: no time.
pub fn query(
    tail: TailCount,
    since: Option<&str>,
    until: Option<&str>,
    now: SystemTime,
) -> Result<LogQuery, UsageError> {
    let stamp = |text: Option<&str>| text.map(|text| parse_time(text, now)).transpose();
    let tail = match tail {
        TailCount::All => None,
        TailCount::Lines(lines) => Some(lines),
    };
    Ok(LogQuery { tail, since: stamp(since)?, until: stamp(until)? })
}

/// Parses how long ago (`10m`), a time of RFC 3339, one without a zone (UTC), a day, or seconds after the epoch.
fn parse_time(text: &str, now: SystemTime) -> Result<Stamp, UsageError> {
    let bad = || {
        let hint = "write 2026-01-02T03:04:05Z, or how long ago: 10m, 1h30m";
        UsageError::new(format!("`{}` is not a time", shown(text))).hint(hint)
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Stamp::from(time));
    }
    let civil = text.parse::<DateTime>().ok().or_else(|| text.parse::<jiff::civil::Date>().ok().map(DateTime::from));
    if let Some(civil) = civil {
        return Ok(Stamp::from(civil.to_zoned(TimeZone::UTC).map_err(|_| bad())?.timestamp()));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let after = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
        return SystemTime::UNIX_EPOCH.checked_add(after).map(Stamp::from).ok_or_else(bad);
    }
    let ago = parse_duration(text).map_err(|_| bad())?;
    now.checked_sub(ago).map(Stamp::from).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_ages() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let text =
            |time: &str| parse_time(time, now).map(|stamp| String::from_utf8_lossy(stamp.as_bytes()).into_owned());
        assert_eq!(text("10m").unwrap(), "2027-01-15T07:50:00.000000000Z");
        assert_eq!(text("2026-01-02T03:04:05+01:00").unwrap(), "2026-01-02T02:04:05.000000000Z");
        assert_eq!(text("2026-01-02T03:04:05").unwrap(), "2026-01-02T03:04:05.000000000Z");
        assert_eq!(text("2026-01-02").unwrap(), "2026-01-02T00:00:00.000000000Z");
        assert_eq!(text("1800000000.5").unwrap(), "2027-01-15T08:00:00.500000000Z");
        for bad in ["", "yesterday", "-5", "1e400"] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }
}
