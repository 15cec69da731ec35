use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::sys::read_pseudo_record;

/// Names one process for ever: a pid comes again, a pid with its start time and the boot does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id, as seen in our pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).
    pub start_time: u64,
    /// Which boot of the machine (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
}

impl ProcessIdentity {
    /// Looks at a process; `None` when there is none with this pid.
    ///
    /// # Errors
    /// [`StoreError::Process`] when /proc cannot be read.
    pub fn of(pid: i32) -> Result<Option<Self>, StoreError> {
        let failed = |source| StoreError::Process { pid, source };
        let Some(stat) = read_stat(pid).map_err(failed)? else { return Ok(None) };
        let boot_id = boot_id().map_err(failed)?.to_owned();
        Ok(Some(Self { pid, start_time: stat.start_time, boot_id }))
    }

    /// Looks at the calling process.
    ///
    /// # Errors
    /// As [`ProcessIdentity::of`].
    pub fn own() -> Result<Self, StoreError> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let missing = || StoreError::Process { pid, source: io::ErrorKind::NotFound.into() };
        Self::of(pid)?.ok_or_else(missing)
    }

    /// Says whether this very process still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
            && matches!(read_stat(self.pid), Ok(Some(stat)) if stat.start_time == self.start_time && stat.runs())
    }

    /// Opens a pidfd of this very process; `None` when it is gone.
    ///
    /// The identity is compared after the open: from then on the descriptor, unlike the number, cannot come to mean
    /// another process. A zombie can still be opened.
    ///
    /// # Errors
    /// [`StoreError::Process`].
    pub fn open_pidfd(&self) -> Result<Option<OwnedFd>, StoreError> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // EINVAL: the number is that of a thread, so the process is gone.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(StoreError::Process { pid: self.pid, source: errno.into() }),
        };
        Ok((Self::of(self.pid)?.as_ref() == Some(self)).then_some(pidfd))
    }
}

/// Is what we need of /proc/PID/stat.
struct Stat {
    state: u8,
    start_time: u64,
}

impl Stat {
    fn runs(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

fn read_stat(pid: i32) -> io::Result<Option<Stat>> {
    match read_pseudo_record(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        // ESRCH: it went between open and read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses after the last `)`: the name in field 2 is the process's to choose and may hold blanks and parentheses.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(&text[end + 1..]).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // `fields` now stands before field 4.
    let start_time = fields.nth(22 - 4)?.parse().ok()?;
    Some(Stat { state, start_time })
}

fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id);
    }
    let text = read_pseudo_record("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| String::from_utf8_lossy(&text).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn field_22_is_found_behind_a_hostile_name() {
        let text = b"12 (a) S 1 (b 1 2) Z 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.start_time), (b'Z', 777));
        for text in [&b""[..], b"12 (", b"12 (a) S 1", b"12 (a) "] {
            assert!(parse_stat(text).is_none());
        }
    }

    #[test]
    fn a_child_is_alive_until_it_is_dead() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = ProcessIdentity::of(pid).unwrap().unwrap();
        assert!(identity.is_alive());
        let pidfd = identity.open_pidfd().unwrap().unwrap();
        drop(child.stdin.take());
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert!(!identity.is_alive(), "a zombie is dead");
        child.wait().unwrap();
        assert!(!identity.is_alive());
        assert!(identity.open_pidfd().unwrap().is_none());
    }

    #[test]
    fn another_start_time_or_boot_is_another_process() {
        let own = ProcessIdentity::own().unwrap();
        assert!(own.is_alive());
        let earlier = ProcessIdentity { start_time: own.start_time - 1, ..own.clone() };
        assert!(!earlier.is_alive());
        assert!(earlier.open_pidfd().unwrap().is_none());
        let before_boot = ProcessIdentity { boot_id: "x".to_owned(), ..own.clone() };
        assert!(!before_boot.is_alive());
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<ProcessIdentity>(&text).unwrap(), own);
    }
}
