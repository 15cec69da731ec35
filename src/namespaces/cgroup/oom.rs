//! Being told that a cgroup was out of memory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::files::{is_gone, keyed};
use super::{Cgroup, CgroupError};

/// Watches a cgroup run out of memory. Poll it for [`OomWatch::interest`], then ask [`OomWatch::happened`].
#[derive(Debug)]
pub struct OomWatch {
    kind: Kind,
    path: PathBuf,
}

#[derive(Debug)]
enum Kind {
    /// `memory.events` of v2, and how many were killed when it was last read.
    Events { file: File, killed: u64 },
    /// An eventfd of v1.
    Eventfd(OwnedFd),
}

impl Cgroup {
    /// Begins to watch; `None` where no memory controller holds the cgroup.
    ///
    /// # Errors
    /// [`CgroupError::Open`], [`CgroupError::Write`].
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        if let Some(dir) = self.v1_with("memory") {
            let path = dir.join("memory.oom_control");
            let open = |path: &PathBuf| {
                File::options().read(true).open(path).map_err(|source| CgroupError::Open { path: path.clone(), source })
            };
            let control = open(&path)?;
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|errno| CgroupError::Open { path: path.clone(), source: errno.into() })?;
            let numbers = [event.as_fd(), control.as_fd()].map(|fd| std::os::fd::AsRawFd::as_raw_fd(&fd));
            let value = format!("{} {}", numbers[0], numbers[1]);
            let place = dir.join("cgroup.event_control");
            let written =
                File::options().write(true).open(&place).and_then(|mut file| file.write_all(value.as_bytes()));
            written.map_err(|source| CgroupError::Write { path: place, value, source })?;
            return Ok(Some(OomWatch { kind: Kind::Eventfd(event), path }));
        }
        let Some(v2) = self.v2.as_ref().filter(|v2| v2.has("memory")) else { return Ok(None) };
        let path = v2.dir.join("memory.events");
        let file = File::open(&path).map_err(|source| CgroupError::Open { path: path.clone(), source })?;
        let mut watch = OomWatch { kind: Kind::Events { file, killed: 0 }, path };
        watch.happened()?;
        Ok(Some(watch))
    }
}

impl OomWatch {
    /// Says what to poll for: POLLPRI of a file, POLLIN of an eventfd. The end of the cgroup is told the same way.
    pub fn interest(&self) -> PollFlags {
        match &self.kind {
            Kind::Events { .. } => PollFlags::PRI,
            Kind::Eventfd(_) => PollFlags::IN,
        }
    }

    /// Answers whether it ran out of memory since this was last asked; `None` where the cgroup is gone.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn happened(&mut self) -> Result<Option<bool>, CgroupError> {
        let answer = match &mut self.kind {
            Kind::Events { file, killed } => kills(file).map(|now| {
                let more = now > *killed;
                *killed = now;
                Some(more)
            }),
            Kind::Eventfd(event) => match rustix::io::read(event, &mut [0_u8; 8]) {
                // The kernel rings once more when the cgroup is removed.
                Ok(_) => Ok(self.path.exists().then_some(true)),
                Err(rustix::io::Errno::AGAIN) => Ok(self.path.exists().then_some(false)),
                Err(errno) => Err(errno.into()),
            },
        };
        match answer {
            Err(error) if is_gone(&error) => Ok(None),
            other => other.map_err(|source| CgroupError::Read { path: self.path.clone(), source }),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Events { file, .. } => file.as_fd(),
            Kind::Eventfd(event) => event.as_fd(),
        }
    }
}

/// Reads how many were killed; reading is what arms the next notification.
fn kills(file: &mut File) -> io::Result<u64> {
    use std::io::{Read, Seek};
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(keyed(&text, "oom_kill").unwrap_or(0))
}
