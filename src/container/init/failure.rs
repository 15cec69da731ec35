use std::io;

use crate::capabilities::CapabilityError;
use crate::container::protocol::LaunchFailure;
use crate::namespaces::mount::MountError;

/// Says why a step failed, before it crosses to the parent.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) object: Option<String>,
    pub(super) errno: Option<i32>,
    pub(super) hint: Option<String>,
    pub(super) exit_code: i32,
}

impl StepError {
    pub(super) fn io(error: &io::Error) -> Self {
        let object = if error.raw_os_error().is_some() { None } else { Some(error.to_string()) };
        Self { object, errno: error.raw_os_error(), hint: None, exit_code: 125 }
    }

    pub(super) fn unexpected(what: &str) -> Self {
        Self { object: Some(what.to_owned()), errno: None, hint: None, exit_code: 125 }
    }

    /// Is about the request rather than about us: 126.
    pub(super) fn refused(object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), errno: None, hint: None, exit_code: 126 }
    }

    #[must_use]
    pub(super) fn with_object(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }

    #[must_use]
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    #[must_use]
    pub(super) fn with_exit_code(self, exit_code: i32) -> Self {
        Self { exit_code, ..self }
    }

    pub(super) fn into_failure(self, step: String) -> LaunchFailure {
        let Self { object, errno, hint, exit_code } = self;
        LaunchFailure { step, object, errno, hint, exit_code }
    }
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        Self::io(&error)
    }
}

impl From<rustix::io::Errno> for StepError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::io(&errno.into())
    }
}

impl From<MountError> for StepError {
    fn from(error: MountError) -> Self {
        Self {
            object: Some(error.to_string()),
            errno: error.cause().and_then(io::Error::raw_os_error),
            hint: error.hint(),
            exit_code: 125,
        }
    }
}

impl From<CapabilityError> for StepError {
    fn from(error: CapabilityError) -> Self {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self { object: Some(format!("{error}{cause}")), errno: None, hint: error.hint(), exit_code: 125 }
    }
}
