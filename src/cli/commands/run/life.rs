//! Options of `run` about what becomes of a container: `--rm`, `--restart`, `--log-driver`, `--log-opt`, `--health-…`.

use std::time::Duration;

use super::request::wrong;
use crate::cli::args::{RunOptions, UsageError, shown};
use crate::compose::logging_of;
use crate::compose::model::Logging;
use crate::spec::{Healthcheck, RestartPolicy};

/// Is what holds for a container that lives on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Life {
    pub(super) restart: RestartPolicy,
    pub(super) logging: Logging,
    pub(super) healthcheck: Option<Healthcheck>,
    pub(super) removed_at_end: bool,
}

impl Life {
    /// Reads all of them. One that would do nothing is an error: whoever wrote it relies on it.
    pub(super) fn of(options: &RunOptions) -> Result<Self, UsageError> {
        let restart = options.restart.unwrap_or_default();
        if restart != RestartPolicy::No && options.rm {
            return Err(wrong(
                "`--restart` and `--rm` contradict each other: a container that is removed is not restarted",
            ));
        }
        let of_others = [("--restart", restart != RestartPolicy::No), ("--health-cmd", options.health_cmd.is_some())];
        if let Some((option, _)) = of_others.iter().find(|(_, given)| *given && !options.detach) {
            let hint = "with -d it lives on; `mydocker logs -f NAME` shows what it writes";
            return Err(wrong(format!("`{option}` is for containers that live on")).hint(hint));
        }
        Ok(Self { restart, logging: logging(options)?, healthcheck: healthcheck(options)?, removed_at_end: options.rm })
    }
}

/// In the foreground nothing is kept anyway, and what is wrong is an error all the same.
fn logging(options: &RunOptions) -> Result<Logging, UsageError> {
    let pair = |text: &'_ String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut pairs = Vec::new();
    for text in &options.log_opt {
        pairs.push(pair(text).ok_or_else(|| wrong(format!("`--log-opt {}` is not KEY=VALUE", shown(text))))?);
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    logging_of(options.log_driver.as_deref().unwrap_or_default(), &pairs).map_err(wrong)
}

fn healthcheck(options: &RunOptions) -> Result<Option<Healthcheck>, UsageError> {
    let RunOptions { health_interval, health_timeout, health_start_period, health_start_interval, .. } = options;
    let Some(text) = options.health_cmd.as_ref().filter(|text| !text.is_empty()) else {
        let times = [health_interval, health_timeout, health_start_period, health_start_interval];
        if times.iter().any(|time| time.is_some()) || options.health_retries.is_some() {
            return Err(wrong("`--health-cmd` is missing: there is nothing to probe with"));
        }
        return Ok(None);
    };
    let time = |option: &str, given: &Option<Duration>, default: u64, least: Duration| {
        let time = given.unwrap_or(Duration::from_secs(default));
        let sound = (least..=Duration::from_secs(365 * 24 * 3600)).contains(&time);
        sound.then_some(time).ok_or_else(|| wrong(format!("`{option}` is from {least:?} to a year")))
    };
    let millisecond = Duration::from_millis(1);
    Ok(Some(Healthcheck {
        command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        interval: time("--health-interval", health_interval, 30, millisecond)?,
        timeout: time("--health-timeout", health_timeout, 30, millisecond)?,
        retries: options.health_retries.filter(|retries| *retries > 0).unwrap_or(3),
        start_period: time("--health-start-period", health_start_period, 0, Duration::ZERO)?,
        start_interval: time("--health-start-interval", health_start_interval, 5, millisecond)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: RunOptions) -> String {
        Life::of(&options).map_or_else(|error| error.to_string(), |life| panic!("{life:?}"))
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        let always = Some(RestartPolicy::Always);
        let detached = RunOptions { detach: true, ..RunOptions::default() };
        let options = RunOptions { restart: always, rm: true, ..detached.clone() };
        assert!(refused(options).contains("contradict"));
        assert!(refused(RunOptions { restart: always, ..RunOptions::default() }).contains("live on"));
        let options = RunOptions { health_cmd: Some("true".to_owned()), ..RunOptions::default() };
        assert!(refused(options).contains("live on"));
        assert!(refused(RunOptions { health_retries: Some(1), ..detached.clone() }).contains("--health-cmd"));
        assert!(refused(RunOptions { log_driver: Some("syslog".to_owned()), ..detached.clone() }).contains("syslog"));
        assert!(refused(RunOptions { log_opt: vec!["max-size".to_owned()], ..detached }).contains("KEY=VALUE"));
    }

    #[test]
    fn defaults_are_docker_s() {
        assert_eq!(Life::of(&RunOptions::default()).unwrap(), Life::default());
        let options = RunOptions {
            detach: true,
            restart: Some(RestartPolicy::OnFailure { max: Some(3) }),
            health_cmd: Some("test -e /x".to_owned()),
            health_retries: Some(0),
            log_opt: vec!["max-size=1k".to_owned()],
            ..RunOptions::default()
        };
        let life = Life::of(&options).unwrap();
        let check = life.healthcheck.unwrap();
        assert_eq!((check.command[2].as_str(), check.retries, check.interval.as_secs()), ("test -e /x", 3, 30));
        assert_eq!(life.logging, Logging::Rotated { max_size: 1000, max_files: 1 });
    }
}
