//! Exit codes, a sentence each.

use std::process::ExitCode;

/// Everything that was asked is done; `up` also after one Ctrl-C.
pub const SUCCESS: u8 = 0;
/// It could not be done.
pub const FAILED: u8 = 1;
/// The command line or a file is wrong: nothing was tried.
pub const USAGE: u8 = 2;
/// `run`, `exec` and the ancestor's form: mydocker itself failed, so that 1 and 2 can only be the command's own.
pub const OURS: u8 = 125;
/// `up` after a second Ctrl-C, and whatever else a SIGINT ends, as a shell has it: 128 + 2.
pub const INTERRUPTED: u8 = 130;
/// The reader of our output is gone, as a shell shows a death by SIGPIPE: 128 + 13.
pub const BROKEN_PIPE: u8 = 141;

/// Says which set of exit codes a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 0, 1 failed, 2 usage or invalid file.
    Plain,
    /// 125 for anything of ours, else the command's own code.
    Container,
}

impl Family {
    /// Returns the code of a wrong command line or file.
    pub fn usage(self) -> u8 {
        match self {
            Self::Plain => USAGE,
            Self::Container => OURS,
        }
    }

    /// Returns the code of a failure of ours.
    pub fn failed(self) -> u8 {
        match self {
            Self::Plain => FAILED,
            Self::Container => OURS,
        }
    }
}

/// Turns a status as a shell has it into an exit code; what does not fit a byte is [`FAILED`].
pub fn from_status(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED))
}
