use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ByteSize, SpecError};

/// Counts bits in a second; parses what tc(8) takes: `250kbit`, `10mbit`, `1.5gbit`, powers of 1000, from 8 kbit/s to 1 Tbit/s.
///
/// Units of bytes are refused: what tc calls `kbps` are kilobytes, and what others call so are kilobits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BitRate(u64);

impl BitRate {
    /// Returns the bits in a second.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the bytes in a second.
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for BitRate {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::BitRate(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return Err(bad()),
        };
        let bits = number.parse::<f64>().map_err(|_| bad())? * factor;
        if (8e3..=1e12).contains(&bits) { Ok(Self(bits as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000_000_000 == 0 => write!(f, "{}gbit", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{}mbit", bits / 1_000_000),
            bits if bits % 1_000 == 0 => write!(f, "{}kbit", bits / 1_000),
            bits => write!(f, "{bits}bit"),
        }
    }
}

/// Limits one direction of an interface: a token bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RateLimit {
    /// What passes in the long run.
    pub rate: BitRate,
    /// What may pass at once after a silence; 10 ms of the rate, at least 32 KiB, where `None`.
    pub burst: Option<ByteSize>,
}

/// Limits how much a container receives and sends through one of its interfaces.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What it receives.
    pub ingress: Option<RateLimit>,
    /// What it sends.
    pub egress: Option<RateLimit>,
}

impl Bandwidth {
    /// Says whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_tc() {
        for (text, bits) in [
            ("8000", 8000),
            ("10mbit", 10_000_000),
            ("1.5Gbit", 1_500_000_000),
            ("250kbit", 250_000),
            ("9000bit", 9000),
        ] {
            assert_eq!(text.parse::<BitRate>().unwrap(), BitRate(bits), "{text}");
        }
        for text in ["", "mbit", "10", "7999", "10mbps", "10m", "-1mbit", "1e3kbit", "2000gbit", "10 mbit", "nan"] {
            let error = text.parse::<BitRate>().unwrap_err().to_string();
            assert!(error.contains("mbit"), "{error}");
        }
        for text in ["8kbit", "10mbit", "3gbit", "8001bit"] {
            assert_eq!(text.parse::<BitRate>().unwrap().to_string(), text);
        }
    }
}
