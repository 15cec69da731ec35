use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Is a version of the CNI specification that we speak, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SpecVersion {
    /// 0.1.0: results with `ip4` and `ip6`; also what a configuration without `cniVersion` has.
    V0_1_0,
    /// 0.2.0: the command VERSION.
    V0_2_0,
    /// 0.3.0: lists of plugins, `prevResult`, results with `interfaces` and `ips`.
    V0_3_0,
    /// 0.3.1: 0.3.0 with a misprint put right.
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` with DEL.
    V0_4_0,
    /// 1.0.0: `ips` without `version`.
    V1_0_0,
    /// 1.1.0: GC and STATUS; mtu and more in results.
    V1_1_0,
}

/// Says that a text is no version of the specification that we speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no version of CNI that mydocker speaks ({known})", text = .0, known = versions_text(&SpecVersion::ALL))]
pub struct UnknownVersion(pub String);

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// Returns the text, `1.1.0`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Says whether configurations of this version are also good ones of the other: the same major version, and that is not 0.
    pub fn is_compatible(self, other: Self) -> bool {
        self == other || (self >= Self::V1_0_0 && other >= Self::V1_0_0)
    }

    /// Says whether the version has CHECK, and `prevResult` with DEL.
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Says whether the version has lists and `prevResult`.
    pub fn has_chains(self) -> bool {
        self >= Self::V0_3_0
    }
}

/// Lists versions for a message.
pub(super) fn versions_text(versions: &[SpecVersion]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl TryFrom<String> for SpecVersion {
    type Error = UnknownVersion;

    fn try_from(text: String) -> Result<Self, UnknownVersion> {
        text.parse()
    }
}

impl From<SpecVersion> for String {
    fn from(version: SpecVersion) -> Self {
        version.as_str().to_owned()
    }
}
