use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::SpecError;

/// Is a signal number that can be sent to a container: 1 to 64 (signal(7)), real-time ones included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignalNumber(i32);

/// glibc keeps 32 and 33 for itself, so its SIGRTMIN is 34; container engines use the same number.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl SignalNumber {
    /// SIGTERM, the stop signal where none is asked for.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// Returns the number as kill(2) takes it.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl FromStr for SignalNumber {
    type Err = SpecError;

    /// Parses `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN`, `RTMIN+3`, `SIGRTMAX-1`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::Signal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(bad()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
            Some((RTMIN, rest, '+'))
        } else {
            name.strip_prefix("RTMAX").map(|rest| (RTMAX, rest, '-'))
        };
        if let Some((base, rest, sign)) = real_time {
            let offset = match rest.strip_prefix(sign) {
                Some(number) => number.parse::<i32>().map_err(|_| bad())?,
                None if rest.is_empty() => 0,
                None => return Err(bad()),
            };
            let number = if sign == '+' { base.checked_add(offset) } else { base.checked_sub(offset) };
            return match number {
                Some(number) if (RTMIN..=RTMAX).contains(&number) && offset >= 0 => Ok(Self(number)),
                _ => Err(bad()),
            };
        }
        let alias = match name {
            "CLD" => "CHLD",
            "POLL" => "IO",
            other => other,
        };
        Signal::from_str(&format!("SIG{alias}")).map(|signal| Self(signal as i32)).map_err(|_| bad())
    }
}

impl TryFrom<String> for SignalNumber {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

impl From<SignalNumber> for String {
    fn from(signal: SignalNumber) -> Self {
        signal.to_string()
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_accepted() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("kill", 9), ("15", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(text.parse::<SignalNumber>().unwrap().get(), number, "{text}");
        }
    }

    #[test]
    fn unknown_ones_are_refused() {
        for text in ["SIGFOO", "0", "65", "", "-9", "RTMIN+31", "RTMIN-1", "RTMIN+-1"] {
            assert!(text.parse::<SignalNumber>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_parses_again() {
        for number in 1..=64 {
            let signal = number.to_string().parse::<SignalNumber>().unwrap();
            assert_eq!(signal.to_string().parse::<SignalNumber>().unwrap(), signal);
        }
    }
}
