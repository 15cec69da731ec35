//! `events`: what a container uses, and whether it ran out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::pause::cgroup;
use super::{Container, OciError, OciId, Runtime, Status};
use crate::namespaces::cgroup::Statistics;

/// Is one event as runc writes it: engines parse this form.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container.
    pub id: String,
    /// What there is to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Statistics>>,
}

/// Reads what a container uses now.
///
/// # Errors
/// [`OciError::NotRunning`]; [`OciError::Cgroup`].
pub fn stats(runtime: &Runtime, id: &OciId) -> Result<Event, OciError> {
    let container = runtime.find(id)?;
    let status = container.status()?;
    if status == Status::Stopped {
        return Err(OciError::NotRunning { id: id.to_string(), status });
    }
    stats_of(&container)
}

fn stats_of(container: &Container) -> Result<Event, OciError> {
    let used = cgroup(container, "watch")?.statistics()?;
    Ok(Event { kind: "stats", id: container.id().to_string(), data: Some(Box::new(used)) })
}

/// Tells of a container every `interval`, and when it runs out of memory, until it ends.
///
/// # Errors
/// As [`stats`], and whatever `tell` says.
pub fn watch<E: From<OciError>>(
    runtime: &Runtime,
    id: &OciId,
    interval: Duration,
    tell: &mut dyn FnMut(&Event) -> Result<(), E>,
) -> Result<(), E> {
    let container = runtime.find(id)?;
    let gone = || OciError::NotRunning { id: id.to_string(), status: Status::Stopped };
    let init = container.record.init.as_ref().ok_or_else(gone)?;
    let pidfd = init.open_pidfd().map_err(OciError::from)?.ok_or_else(gone)?;
    let mut memory = cgroup(&container, "watch")?.watch_oom().map_err(OciError::from)?;
    tell(&stats_of(&container)?)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(memory.iter().map(|memory| PollFd::from_borrowed_fd(memory.as_fd(), memory.interest())));
        // Interrupted, or not: what there is is looked at.
        let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        let ended = !fds[0].revents().is_empty();
        let rang = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        match memory.as_mut().filter(|_| rang).map(|memory| memory.happened()) {
            Some(Ok(Some(true))) => tell(&Event { kind: "oom", id: id.to_string(), data: None })?,
            // The cgroup is gone, or cannot be watched any more.
            Some(Ok(None) | Err(_)) => memory = None,
            _ => {}
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            tell(&stats_of(&container)?)?;
            next = Instant::now() + interval;
        }
    }
}
