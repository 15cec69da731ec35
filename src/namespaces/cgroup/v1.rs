//! Limits on cgroup v1, one controller at a time, through `cgroups-rs`.

use std::fs;
use std::path::{Path, PathBuf};

use cgroups_rs::MaxValue;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::error::Error as LibraryError;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;

use super::CgroupError;
use super::create::lineage;
use super::files::{read, try_write, write};
use super::hierarchy::Mount;
use super::limits::{Controller, bandwidth, v1_shares};
use crate::spec::ResourceLimits;

/// Sets what one v1 controller enforces.
trait V1Controller {
    /// Writes the limits that are this controller's to the cgroup.
    fn apply(
        &self,
        cgroup: &V1Cgroup<'_>,
        limits: &ResourceLimits,
        warnings: &mut Vec<String>,
    ) -> Result<(), CgroupError>;
}

/// Is a cgroup's directory in one v1 hierarchy.
struct V1Cgroup<'a> {
    mount: &'a Mount,
    dir: &'a Path,
}

struct Memory;
struct Cpu;
struct Pids;
struct Cpuset;
struct Blkio;

/// Applies the limits of one controller to a cgroup's directory.
pub(super) fn apply(
    controller: Controller,
    mount: &Mount,
    dir: &Path,
    limits: &ResourceLimits,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let owner: &dyn V1Controller = match controller {
        Controller::Memory => &Memory,
        Controller::Cpu => &Cpu,
        Controller::Pids => &Pids,
        Controller::Cpuset => &Cpuset,
        Controller::Io => &Blkio,
    };
    owner.apply(&V1Cgroup { mount, dir }, limits, warnings)
}

impl V1Cgroup<'_> {
    /// Names the file and the value in an error of the library.
    fn failed(&self, file: &'static str, value: impl ToString) -> impl FnOnce(LibraryError) -> CgroupError {
        let (path, value) = (self.dir.to_owned(), value.to_string());
        move |source| CgroupError::V1 { path, file, value, source: Box::new(source) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl V1Controller for Memory {
    fn apply(
        &self,
        cgroup: &V1Cgroup<'_>,
        limits: &ResourceLimits,
        warnings: &mut Vec<String>,
    ) -> Result<(), CgroupError> {
        let memory = MemController::new(cgroup.dir.to_owned(), false);
        let both = limits.memory_swap;
        if let Some(bytes) = limits.memory {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            let set = || memory.set_limit(bytes).map_err(cgroup.failed("memory.limit_in_bytes", bytes));
            // Memory alone may never exceed memory and swap together: a cgroup that is raised takes them in the other order.
            match both {
                Some(both) if set().is_err() => {
                    memory.set_memswap_limit(both).map_err(cgroup.failed("memory.memsw.limit_in_bytes", both))?;
                    set()?;
                }
                Some(_) => {}
                None => set()?,
            }
            // Kernel memory apart from the rest: gone since Linux 5.16, and counted with the rest before.
            let _ = memory.set_kmem_limit(bytes);
        }
        if let Some(both) = both {
            if cgroup.file("memory.memsw.limit_in_bytes").exists() {
                memory.set_memswap_limit(both).map_err(cgroup.failed("memory.memsw.limit_in_bytes", both))?;
            } else {
                warnings.push(
                    "the limit of swap has no effect: this kernel does not count swap (boot it with swapaccount=1)"
                        .to_owned(),
                );
            }
        }
        if let Some(bytes) = limits.memory_reservation {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            memory.set_soft_limit(bytes).map_err(cgroup.failed("memory.soft_limit_in_bytes", bytes))?;
        }
        Ok(())
    }
}

impl V1Controller for Cpu {
    fn apply(&self, cgroup: &V1Cgroup<'_>, limits: &ResourceLimits, _: &mut Vec<String>) -> Result<(), CgroupError> {
        let cpu = CpuController::new(cgroup.dir.to_owned(), false);
        if let Some(weight) = limits.cpu_weight {
            let shares = v1_shares(weight);
            cpu.set_shares(shares).map_err(cgroup.failed("cpu.shares", shares))?;
        }
        if let Some((quota, period)) = bandwidth(limits) {
            cpu.set_cfs_period(period).map_err(cgroup.failed("cpu.cfs_period_us", period))?;
            let quota = quota.map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX));
            cpu.set_cfs_quota(quota).map_err(cgroup.failed("cpu.cfs_quota_us", quota))?;
        }
        Ok(())
    }
}

impl V1Controller for Pids {
    fn apply(&self, cgroup: &V1Cgroup<'_>, limits: &ResourceLimits, _: &mut Vec<String>) -> Result<(), CgroupError> {
        let pids = PidController::new(cgroup.dir.to_owned(), false);
        let most = limits.pids.filter(|pids| *pids > 0).map_or(MaxValue::Max, MaxValue::Value);
        pids.set_pid_max(most).map_err(cgroup.failed("pids.max", most))
    }
}

/// Gives a new v1 cpuset its CPUs and memory nodes, which come from above: it takes no process until it has both.
pub(super) fn inherit_cpuset(mount: &Mount, dir: &Path) -> Result<(), CgroupError> {
    let mut path = lineage(mount, dir);
    path.push(dir.to_owned());
    for pair in path.windows(2) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read(&pair[1].join(file))?.trim().is_empty() {
                write(&pair[1].join(file), read(&pair[0].join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

impl V1Controller for Cpuset {
    fn apply(&self, cgroup: &V1Cgroup<'_>, limits: &ResourceLimits, _: &mut Vec<String>) -> Result<(), CgroupError> {
        inherit_cpuset(cgroup.mount, cgroup.dir)?;
        let Some(cpus) = &limits.cpuset else { return Ok(()) };
        let cpuset = CpuSetController::new(cgroup.dir.to_owned(), false);
        cpuset.set_cpus(cpus).map_err(cgroup.failed("cpuset.cpus", cpus))
    }
}

impl V1Controller for Blkio {
    fn apply(
        &self,
        cgroup: &V1Cgroup<'_>,
        limits: &ResourceLimits,
        warnings: &mut Vec<String>,
    ) -> Result<(), CgroupError> {
        let Some(weight) = limits.io_weight else { return Ok(()) };
        // `blkio.weight` went with the CFQ scheduler in Linux 5.0; the library knows that name alone on v1.
        let written = ["blkio.weight", "blkio.bfq.weight"].iter().any(|file| {
            fs::exists(cgroup.file(file)).unwrap_or(false) && try_write(&cgroup.file(file), &weight.to_string()).is_ok()
        });
        if !written {
            warnings.push(format!(
                "the i/o weight {weight} has no effect: {} has neither blkio.weight nor blkio.bfq.weight",
                cgroup.dir.display()
            ));
        }
        Ok(())
    }
}
