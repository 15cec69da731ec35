//! The v1 files that the crate `cgroups-rs` knows, written through it.

use std::error::Error;
use std::io;
use std::path::Path;

use cgroups_rs::MaxValue;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::error::Error as LibraryError;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;

/// Writes a value to a file of a v1 cgroup; `None` where the library does not know the file or its type has no such value.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Option<io::Result<()>> {
    let number = || value.parse::<i64>().ok();
    let positive = || value.parse::<u64>().ok();
    let memory = || MemController::new(dir.to_owned(), false);
    let cpu = || CpuController::new(dir.to_owned(), false);
    let cpuset = || CpuSetController::new(dir.to_owned(), false);
    let written: Result<(), LibraryError> = match file {
        "memory.limit_in_bytes" => memory().set_limit(number()?),
        "memory.memsw.limit_in_bytes" => memory().set_memswap_limit(number()?),
        "memory.soft_limit_in_bytes" => memory().set_soft_limit(number()?),
        "memory.swappiness" => memory().set_swappiness(positive()?),
        "cpu.shares" => cpu().set_shares(positive()?),
        "cpu.cfs_period_us" => cpu().set_cfs_period(positive()?),
        "cpu.cfs_quota_us" => cpu().set_cfs_quota(number()?),
        "cpu.rt_period_us" => cpu().set_rt_period_us(positive()?),
        "cpu.rt_runtime_us" => cpu().set_rt_runtime(number()?),
        "cpuset.cpus" => cpuset().set_cpus(value),
        "cpuset.mems" => cpuset().set_mems(value),
        "pids.max" => {
            let most = if value == "max" { MaxValue::Max } else { MaxValue::Value(number()?) };
            PidController::new(dir.to_owned(), false).set_pid_max(most)
        }
        _ => return None,
    };
    Some(written.map_err(|error| {
        // The kernel's own answer, without what the library says around it.
        let kernel =
            error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
        kernel.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
    }))
}
