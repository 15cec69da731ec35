//! The agent that answers a filter whose action is SCMP_ACT_NOTIFY (runtime specification, "Container Process State").

use std::os::fd::{AsFd, OwnedFd};

use serde_json::json;

use super::{Container, OciError, Status};
use crate::seccomp::send_listener;

/// Hands the listener of process `pid` to the agent that the configuration names.
///
/// # Errors
/// [`OciError::Seccomp`] where nobody listens there.
pub(super) fn hand_over(container: &Container, status: Status, pid: i32, listener: &OwnedFd) -> Result<(), OciError> {
    let spec = container.directory.config()?;
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some((filter, path)) = filter.and_then(|filter| Some((filter, filter.listener_path().as_ref()?))) else {
        let reason = "a filter asks, and nobody is named who answers".to_owned();
        return Err(OciError::Config { key: "linux.seccomp.listenerPath".to_owned(), reason });
    };
    let mut state = json!({
        "ociVersion": spec.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "state": container.record.report(status),
    });
    if let Some(metadata) = filter.listener_metadata() {
        state["metadata"] = metadata.as_str().into();
    }
    Ok(send_listener(path, state.to_string().as_bytes(), listener.as_fd())?)
}
