//! `compose logs`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::cli::args::{LogsArgs, TailCount, UsageError, shown};
use crate::cli::client::Client;
use crate::cli::follow::{log_directory, log_name, mux_options};
use crate::cli::output::RawOutput;
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::logs::{Follower, LogQuery, LogReader, Mux, Progress, Stamp};
use crate::spec::parse_duration;
use crate::supervisor::control::protocol::{Command, ContainerStatus, ReplyBody, State};

/// Shows what containers have written, and with `-f` what they write until the last has ended.
///
/// # Errors
/// [`CliError`].
pub fn run(context: &ComposeContext<'_>, args: &LogsArgs) -> CommandResult {
    let query = query(args, SystemTime::now())?;
    let project = context.name(&[])?;
    let connector = context.connector(&project);
    let options = mux_options(args.no_log_prefix, args.no_color, args.timestamps, context.stdout_palette());
    let mux = Mux::new(RawOutput::stdout().map_err(CliError::Output)?, options);
    block_on(async {
        let client = if args.follow { Client::open_running(&connector)? } else { None };
        match client {
            Some(client) => follow(context, client, mux, args, query).await?,
            None => {
                let found = state::containers(&connector, &|message| context.warn(message)).await?;
                warn_of_no_log(context, &found, args);
                replay(found, mux, args, query)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Shows what is there.
fn replay(
    found: Vec<ContainerStatus>,
    mut mux: Mux<RawOutput>,
    args: &LogsArgs,
    query: LogQuery,
) -> Result<(), CliError> {
    check_services(&found, &args.services)?;
    let mut reader = LogReader::new(query);
    for container in found.iter().filter(|container| is_wanted(container, args)) {
        if let Some(directory) = log_directory(container) {
            mux.add_name(reader.add_source(directory)?, log_name(container));
        }
    }
    while reader.read(&mut mux)? == Progress::More {}
    mux.finish().map_err(CliError::Output)
}

/// Follows until no container runs, or nobody works on the project any more.
async fn follow(
    context: &ComposeContext<'_>,
    mut client: Client,
    mux: Mux<RawOutput>,
    args: &LogsArgs,
    query: LogQuery,
) -> Result<(), CliError> {
    let mut follower = Follower::start(mux)?;
    client.send(Command::Watch, &[])?;
    let mut running: Vec<ContainerStatus> = state::listed(&mut client, &|message| context.warn(message)).await?;
    check_services(&running, &args.services)?;
    running.retain(|container| is_wanted(container, args));
    warn_of_no_log(context, &running, args);
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
            && is_wanted(&container, args)
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

fn warn_of_no_log(context: &ComposeContext<'_>, found: &[ContainerStatus], args: &LogsArgs) {
    for container in found.iter().filter(|container| container.log.is_none() && is_wanted(container, args)) {
        context.warn(&format!("{} has no log: its log driver is `none`", container.name));
    }
}

fn is_active(container: &ContainerStatus) -> bool {
    matches!(container.state, State::Running | State::Restarting)
}

fn is_wanted(container: &ContainerStatus, args: &LogsArgs) -> bool {
    args.services.is_empty() || args.services.contains(&container.service)
}

fn check_services(found: &[ContainerStatus], services: &[String]) -> Result<(), CliError> {
    match services.iter().find(|name| !found.iter().any(|container| container.service == **name)) {
        None => Ok(()),
        Some(name) => Err(no_such_service(name, found.iter().map(|container| container.service.as_str())).into()),
    }
}

fn query(args: &LogsArgs, now: SystemTime) -> Result<LogQuery, UsageError> {
    let stamp = |text: &Option<String>| text.as_deref().map(|text| parse_time(text, now)).transpose();
    let tail = match args.tail {
        TailCount::All => None,
        TailCount::Lines(lines) => Some(lines),
    };
    Ok(LogQuery { tail, since: stamp(&args.since)?, until: stamp(&args.until)? })
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
