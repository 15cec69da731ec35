//! The error object, and what VERSION answers: SPEC.md section 5.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::version::SpecVersion;

/// Codes that the specification reserves; a plugin's own begin at 100.
pub mod code {
    /// The plugin does not speak the version of the configuration.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration that the plugin does not have; the message names key and value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// There is no such container: nothing has to be cleaned up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable is missing or wrong; the message names it.
    pub const BAD_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO_FAILURE: u32 = 5;
    /// What was read is not what it should be.
    pub const DECODE_FAILURE: u32 = 6;
    /// The configuration is wrong.
    pub const BAD_CONFIGURATION: u32 = 7;
    /// Something passing is in the way.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: no ADD can be served.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: no ADD can be served, and containers that are attached may be cut off.
    pub const NOT_AVAILABLE_AND_LIMITED: u32 = 51;
}

/// Is the error that a plugin prints on standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorObject {
    /// The version in use; as text, because a broken plugin may print any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cni_version: String,
    /// What kind of error, see [`code`].
    pub code: u32,
    /// What is wrong, in a few words.
    #[serde(default)]
    pub msg: String,
    /// What is wrong, at length.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl ErrorObject {
    /// Makes an error of a plugin.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { cni_version: SpecVersion::V1_1_0.to_string(), code, msg: msg.into(), details: String::new() }
    }

    /// Adds what is wrong at length.
    #[must_use]
    pub fn details(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// Says in which version the answer is given.
    #[must_use]
    pub fn of(self, version: SpecVersion) -> Self {
        Self { cni_version: version.to_string(), ..self }
    }
}

impl fmt::Display for ErrorObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let msg = if self.msg.is_empty() { "no message" } else { &self.msg };
        write!(f, "{msg} (code {})", self.code)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "; {}", self.details) }
    }
}

impl std::error::Error for ErrorObject {}

/// Is what a plugin answers to VERSION.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionObject {
    /// The version in which it answers.
    #[serde(default)]
    pub cni_version: String,
    /// All that it speaks; those that we do not know stay text.
    #[serde(default)]
    pub supported_versions: Vec<String>,
}

impl VersionObject {
    /// Makes the answer of a plugin of ours.
    pub fn of(answer_in: &str, versions: &[SpecVersion]) -> Self {
        Self {
            cni_version: answer_in.to_owned(),
            supported_versions: versions.iter().map(ToString::to_string).collect(),
        }
    }

    /// Returns those that we speak, too, oldest first.
    pub fn known(&self) -> Vec<SpecVersion> {
        if self.supported_versions.is_empty() && self.cni_version == SpecVersion::V0_2_0.as_str() {
            // The first that knew VERSION; some of them answer no more than this.
            return vec![SpecVersion::V0_1_0, SpecVersion::V0_2_0];
        }
        let mut known: Vec<SpecVersion> = self.supported_versions.iter().filter_map(|text| text.parse().ok()).collect();
        known.sort_unstable();
        known.dedup();
        known
    }
}
