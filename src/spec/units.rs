use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// Counts bytes; parses compose-spec byte values (`50m`, `1gb`, `1024`), powers of 1024.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = SpecError;

    /// Parses `<number>[unit]` where unit is `b k kb kib m mb mib g gb gib t tb tib p pb pib`, any case.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::ByteSize(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(bad()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(bad);
        }
        let value = number.parse::<f64>().map_err(|_| bad())? * (1_u64 << shift) as f64;
        if value.is_finite() && value < u64::MAX as f64 { Ok(Self(value as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 { write!(f, "{value} B") } else { write!(f, "{value:.1} {}", units[unit]) }
    }
}

/// Parses a compose-spec duration: a sequence of `<number><unit>` with `us ms s m h`, such as `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, SpecError> {
    let bad = || SpecError::Duration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let value = number.parse::<f64>().map_err(|_| bad())? * seconds;
        let part = Duration::try_from_secs_f64(value).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes_follow_docker() {
        for (text, bytes) in
            [("1024", 1024), ("50m", 52_428_800), ("1gb", 1 << 30), ("1.5K", 1536), ("64 MiB", 64 << 20)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes), "{text}");
        }
        for text in ["", "-1", "6mm", "1e30", "m", "99999999999999999999p"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_follow_compose_spec() {
        for (text, ms) in
            [("10s", 10_000), ("1m30s", 90_000), ("2.5s", 2_500), ("100ms", 100), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "5", "-1s", "1x", "s", "1s2"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
