//! What a cgroup has used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::{keyed, read_if_there};
use super::{Cgroup, CgroupError};

/// Holds what a cgroup has used. `None` where no hierarchy counts it for this cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupStats {
    /// Bytes of memory in use now, page cache included.
    pub memory: Option<u64>,
    /// Bytes of memory it may use; `None` is no limit.
    pub memory_limit: Option<u64>,
    /// CPU time used by all processes that were ever in it.
    pub cpu: Option<Duration>,
    /// Processes and threads in it now.
    pub pids: Option<u64>,
}

impl Cgroup {
    /// Reads what it has used.
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        let pids = match self.number("pids", "pids.current", "pids.current")? {
            Some(pids) => Some(pids),
            // No pids controller: count the processes instead.
            None => u64::try_from(self.processes()?.len()).ok(),
        };
        Ok(CgroupStats {
            memory: self.number("memory", "memory.usage_in_bytes", "memory.current")?,
            memory_limit: self
                .number("memory", "memory.limit_in_bytes", "memory.max")?
                .filter(|limit| *limit < UNLIMITED),
            cpu: self.cpu()?,
            pids,
        })
    }

    /// Counts the processes that the kernel killed because the cgroup was out of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let file = match (self.v1_with("memory"), &self.v2) {
            (Some(dir), _) => dir.join("memory.oom_control"),
            (None, Some(v2)) => v2.dir.join("memory.events"),
            (None, None) => return Ok(0),
        };
        Ok(read_if_there(&file)?.and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0))
    }

    fn cpu(&self) -> Result<Option<Duration>, CgroupError> {
        if let Some(dir) = self.v1_with("cpuacct") {
            let text = read_if_there(&dir.join("cpuacct.usage"))?;
            return Ok(text.and_then(|text| text.trim().parse().ok()).map(Duration::from_nanos));
        }
        // v2 counts CPU time in every cgroup, with or without the controller.
        let Some(v2) = &self.v2 else { return Ok(None) };
        let text = read_if_there(&v2.dir.join("cpu.stat"))?;
        Ok(text.and_then(|text| keyed(&text, "usage_usec")).map(Duration::from_micros))
    }

    /// Reads one number from the v1 directory of a controller, else from v2; `max` is no number.
    fn number(&self, controller: &str, v1: &str, v2: &str) -> Result<Option<u64>, CgroupError> {
        let file = match (self.v1_with(controller), &self.v2) {
            (Some(dir), _) => dir.join(v1),
            (None, Some(dir)) => dir.dir.join(v2),
            (None, None) => return Ok(None),
        };
        Ok(read_if_there(&file)?.and_then(|text| text.trim().parse().ok()))
    }
}

/// v1 has no word for "no limit" but a number near i64::MAX, rounded down to pages.
const UNLIMITED: u64 = 1 << 62;
