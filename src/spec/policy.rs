use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// Says what happens when a container's process ends by itself (compose-spec `restart`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    /// Never started again.
    #[default]
    No,
    /// Started again whatever its status.
    Always,
    /// Started again after a status other than 0, at most `max` times in a row where given.
    OnFailure {
        /// The greatest number of restarts.
        max: Option<u32>,
    },
    /// As `Always`, but a container that was stopped by hand stays stopped over a reboot.
    UnlessStopped,
}

impl FromStr for RestartPolicy {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "no" | "" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure { max: None }),
            other => match other.strip_prefix("on-failure:").map(str::parse) {
                Some(Ok(max)) => Ok(Self::OnFailure { max: Some(max) }),
                _ => Err(SpecError::RestartPolicy(text.to_owned())),
            },
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure { max: None } => f.write_str("on-failure"),
            Self::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
        }
    }
}

/// Says how a container's health is probed; the defaults are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// The program and its arguments (`CMD`), or `/bin/sh -c TEXT` (`CMD-SHELL`).
    pub command: Vec<String>,
    /// From the end of one probe to the start of the next.
    pub interval: Duration,
    /// After which a probe is killed and has failed.
    pub timeout: Duration,
    /// How many failures in a row make a container unhealthy.
    pub retries: u32,
    /// While it lasts, failures do not count.
    pub start_period: Duration,
    /// The interval while the start period lasts.
    pub start_interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_round_trip() {
        for text in ["no", "always", "unless-stopped", "on-failure", "on-failure:3"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in ["sometimes", "on-failure:x", "on-failure:-1", "on-failure:"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }
}
