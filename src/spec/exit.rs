use std::fmt;

use serde::{Deserialize, Serialize};

/// Tells how a process ended (wait(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called _exit with this status, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It is gone and nobody could see how: never to be shown as 0.
    Unknown,
}

impl ExitStatus {
    /// Returns the status as a shell has it: 128 + n for a signal. `None` where it is unknown.
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(128 + signal),
            Self::Unknown => None,
        }
    }

    /// Says whether it ended with status 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{code}"),
            None => f.write_str("unknown"),
        }
    }
}

impl From<crate::sys::wait::Ended> for ExitStatus {
    fn from(ended: crate::sys::wait::Ended) -> Self {
        if ended.signaled { Self::Signal(ended.status) } else { Self::Code(ended.status) }
    }
}
