//! Reading all that a cgroup has used.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::{keyed, read_if_there};
use super::hierarchy::files;
use super::statistics::{
    BlockEntry, BlockStatistics, CpuStatistics, CpusetStatistics, HugePageStatistics, MemoryStatistics, MemoryUsage,
    PidStatistics, Pressure, Stall, Statistics,
};
use super::{Cgroup, CgroupError};

type Measured<T> = Result<T, CgroupError>;

impl Cgroup {
    /// Reads all that it has used, each controller where the cgroup has it. The network is not the cgroup's to tell.
    ///
    /// # Errors
    /// [`CgroupError::Read`]; what is not there is 0.
    pub fn statistics(&self) -> Result<Statistics, CgroupError> {
        let v2 = self.v2.as_ref().map(|v2| v2.dir.as_path());
        let mut all = Statistics {
            cpu: match self.v1_with("cpuacct") {
                Some(dir) => cpu_v1(dir, self.v1_with("cpu"))?,
                None => v2.map(cpu_v2).transpose()?.unwrap_or_default(),
            },
            cpuset: match self.v1_with("cpuset") {
                Some(dir) => cpuset_v1(dir)?,
                None => v2.map(cpuset_v2).transpose()?.unwrap_or_default(),
            },
            memory: match self.v1_with("memory") {
                Some(dir) => memory_v1(dir)?,
                None => v2.map(memory_v2).transpose()?.unwrap_or_default(),
            },
            blkio: match self.v1_with("blkio") {
                Some(dir) => block_v1(dir)?,
                None => v2.map(block_v2).transpose()?.unwrap_or_default(),
            },
            pids: self.pids()?,
            ..Statistics::default()
        };
        match self.v1_with("hugetlb") {
            Some(dir) => all.hugetlb = huge_pages(dir, ".usage_in_bytes")?,
            None => all.hugetlb = v2.map(|dir| huge_pages(dir, ".current")).transpose()?.unwrap_or_default(),
        }
        if let Some(dir) = self.v1_with("rdma").or(v2) {
            all.rdma = rdma(dir)?;
        }
        if let Some(dir) = v2 {
            all.cpu.psi = pressure(dir, "cpu.pressure");
            all.memory.psi = pressure(dir, "memory.pressure");
            all.blkio.psi = pressure(dir, "io.pressure");
        }
        Ok(all)
    }

    fn pids(&self) -> Measured<PidStatistics> {
        let v2 = self.v2.as_ref().map(|v2| v2.dir.as_path());
        let dir = self.v1_with("pids").or(v2);
        let current = dir.map(|dir| number(dir, "pids.current")).transpose()?.flatten();
        let counted = match current {
            Some(current) => current,
            // No pids controller: the processes are counted instead.
            None => u64::try_from(self.processes()?.len()).unwrap_or(u64::MAX),
        };
        let limit = dir.map(|dir| number(dir, "pids.max")).transpose()?.flatten();
        Ok(PidStatistics { current: counted, limit: limit.filter(|limit| *limit != u64::MAX).unwrap_or(0) })
    }
}

/// Reads a number; `max` is the greatest there is.
fn number(dir: &Path, file: &str) -> Measured<Option<u64>> {
    let text = read_if_there(&dir.join(file))?;
    Ok(text.and_then(|text| match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }))
}

fn or_zero(dir: &Path, file: &str) -> Measured<u64> {
    Ok(number(dir, file)?.unwrap_or(0))
}

fn text(dir: &Path, file: &str) -> Measured<String> {
    Ok(read_if_there(&dir.join(file))?.unwrap_or_default())
}

fn cpu_v1(dir: &Path, quota: Option<&Path>) -> Measured<CpuStatistics> {
    let mut cpu = CpuStatistics::default();
    cpu.usage.total = or_zero(dir, "cpuacct.usage")?;
    cpu.usage.user = or_zero(dir, "cpuacct.usage_user")?;
    cpu.usage.kernel = or_zero(dir, "cpuacct.usage_sys")?;
    let numbers = |file| -> Measured<Vec<u64>> {
        Ok(text(dir, file)?.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    };
    cpu.usage.percpu = numbers("cpuacct.usage_percpu")?;
    cpu.usage.percpu_user = numbers("cpuacct.usage_percpu_user")?;
    cpu.usage.percpu_kernel = numbers("cpuacct.usage_percpu_sys")?;
    if let Some(quota) = quota {
        let stat = text(quota, "cpu.stat")?;
        throttling(&mut cpu, &stat);
        cpu.throttling.throttled_time = keyed(&stat, "throttled_time").unwrap_or(0);
    }
    Ok(cpu)
}

fn cpu_v2(dir: &Path) -> Measured<CpuStatistics> {
    let stat = text(dir, "cpu.stat")?;
    let nanoseconds = |key| keyed(&stat, key).unwrap_or(0).saturating_mul(1000);
    let mut cpu = CpuStatistics::default();
    cpu.usage.total = nanoseconds("usage_usec");
    cpu.usage.user = nanoseconds("user_usec");
    cpu.usage.kernel = nanoseconds("system_usec");
    throttling(&mut cpu, &stat);
    cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    Ok(cpu)
}

fn throttling(cpu: &mut CpuStatistics, stat: &str) {
    cpu.throttling.periods = keyed(stat, "nr_periods").unwrap_or(0);
    cpu.throttling.throttled_periods = keyed(stat, "nr_throttled").unwrap_or(0);
}

fn cpuset_v1(dir: &Path) -> Measured<CpusetStatistics> {
    let flag = |name: &str| or_zero(dir, &format!("cpuset.{name}"));
    Ok(CpusetStatistics {
        cpus: list(&text(dir, "cpuset.cpus")?),
        mems: list(&text(dir, "cpuset.mems")?),
        cpu_exclusive: flag("cpu_exclusive")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: text(dir, "cpuset.sched_relax_domain_level")?.trim().parse().unwrap_or(0),
    })
}

fn cpuset_v2(dir: &Path) -> Measured<CpusetStatistics> {
    Ok(CpusetStatistics {
        cpus: list(&text(dir, "cpuset.cpus.effective")?),
        mems: list(&text(dir, "cpuset.mems.effective")?),
        ..CpusetStatistics::default()
    })
}

/// Spells out a list like `0-2,5`.
fn list(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn raw(dir: &Path) -> Measured<BTreeMap<String, u64>> {
    let lines = text(dir, "memory.stat")?;
    let lines = lines.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect())
}

fn memory_v1(dir: &Path) -> Measured<MemoryStatistics> {
    let usage = |kind: &str| -> Measured<MemoryUsage> {
        let file = |name: &str| or_zero(dir, &format!("memory.{kind}{name}"));
        Ok(MemoryUsage {
            limit: file("limit_in_bytes")?,
            usage: file("usage_in_bytes")?,
            max: file("max_usage_in_bytes")?,
            failcnt: file("failcnt")?,
        })
    };
    let raw = raw(dir)?;
    Ok(MemoryStatistics {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: usage("")?,
        swap: usage("memsw.")?,
        kernel: usage("kmem.")?,
        kernel_tcp: usage("kmem.tcp.")?,
        raw,
        psi: None,
    })
}

fn memory_v2(dir: &Path) -> Measured<MemoryStatistics> {
    let raw = raw(dir)?;
    let usage = MemoryUsage {
        limit: or_zero(dir, "memory.max")?,
        usage: or_zero(dir, "memory.current")?,
        max: or_zero(dir, "memory.peak")?,
        failcnt: keyed(&text(dir, "memory.events")?, "max").unwrap_or(0),
    };
    // v1, and with it the form, counts memory and swap together.
    let swap = MemoryUsage {
        limit: usage.limit.saturating_add(or_zero(dir, "memory.swap.max")?),
        usage: usage.usage.saturating_add(or_zero(dir, "memory.swap.current")?),
        max: 0,
        failcnt: keyed(&text(dir, "memory.swap.events")?, "max").unwrap_or(0),
    };
    let cache = raw.get("file").copied().unwrap_or(0);
    Ok(MemoryStatistics { cache, usage, swap, raw, ..MemoryStatistics::default() })
}

fn block_v1(dir: &Path) -> Measured<BlockStatistics> {
    // BFQ counts what it schedules, the throttling layer everything.
    let entries = |name: &str| -> Measured<Vec<BlockEntry>> {
        let bfq = block_lines(&text(dir, &format!("blkio.bfq.{name}"))?);
        if bfq.is_empty() { Ok(block_lines(&text(dir, &format!("blkio.throttle.{name}"))?)) } else { Ok(bfq) }
    };
    Ok(BlockStatistics {
        io_service_bytes_recursive: entries("io_service_bytes_recursive")?,
        io_serviced_recursive: entries("io_serviced_recursive")?,
        psi: None,
    })
}

/// Reads lines like `8:0 Read 4096`; the sum of all devices behind them has no device.
fn block_lines(text: &str) -> Vec<BlockEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = device(words.next()?)?;
        Some(BlockEntry { major, minor, op: words.next()?.to_owned(), value: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn block_v2(dir: &Path) -> Measured<BlockStatistics> {
    let mut block = BlockStatistics::default();
    for line in text(dir, "io.stat")?.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (place, op) = match key {
                "rbytes" => (&mut block.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut block.io_service_bytes_recursive, "Write"),
                "rios" => (&mut block.io_serviced_recursive, "Read"),
                "wios" => (&mut block.io_serviced_recursive, "Write"),
                _ => continue,
            };
            place.extend(value.parse().ok().map(|value| BlockEntry { major, minor, op: op.to_owned(), value }));
        }
    }
    Ok(block)
}

fn huge_pages(dir: &Path, suffix: &str) -> Measured<BTreeMap<String, HugePageStatistics>> {
    let mut all = BTreeMap::new();
    for name in files(dir)? {
        let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(suffix));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let events = text(dir, &format!("hugetlb.{size}.events"))?;
        let refused = match keyed(&events, "max") {
            Some(count) => count,
            None => or_zero(dir, &format!("hugetlb.{size}.failcnt"))?,
        };
        let entry = HugePageStatistics {
            usage: or_zero(dir, &name)?,
            max: or_zero(dir, &format!("hugetlb.{size}.max_usage_in_bytes"))?,
            failcnt: refused,
        };
        all.insert(size.to_owned(), entry);
    }
    Ok(all)
}

fn rdma(dir: &Path) -> Measured<BTreeMap<String, BTreeMap<String, u64>>> {
    let lines = text(dir, "rdma.current")?;
    let device = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let objects = rest.split(' ').filter_map(|word| word.split_once('='));
        let objects = objects.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)));
        Some((name.to_owned(), objects.collect()))
    };
    Ok(lines.lines().filter_map(device).collect())
}

/// Reads a pressure file; a kernel that was told not to count has none, or one that cannot be read.
fn pressure(dir: &Path, file: &str) -> Option<Pressure> {
    let text = crate::sys::read_pseudo_file(dir.join(file)).ok()?;
    let line = |kind: &str| -> Option<Stall> {
        let rest = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let word = |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let per_cent = |key| word(key).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let total = word("total").and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Stall { avg10: per_cent("avg10"), avg60: per_cent("avg60"), avg300: per_cent("avg300"), total })
    };
    Some(Pressure { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2s_files_become_v1s_words() {
        let dir = tempfile::tempdir().unwrap();
        for (file, content) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n"),
            ("memory.stat", "anon 10\nfile 20\n"),
            ("memory.current", "30\n"),
            ("memory.max", "max\n"),
            ("memory.swap.max", "0\n"),
            ("memory.swap.current", "4\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.2MB.events", "max 3\n"),
            ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\n"),
        ] {
            std::fs::write(dir.path().join(file), content).unwrap();
        }
        let cpu = cpu_v2(dir.path()).unwrap();
        assert_eq!((cpu.usage.total, cpu.usage.kernel, cpu.throttling.throttled_time), (5000, 2000, 9000));
        let memory = memory_v2(dir.path()).unwrap();
        assert_eq!((memory.cache, memory.usage.limit, memory.swap.usage), (20, u64::MAX, 34));
        let block = block_v2(dir.path()).unwrap();
        let shown = serde_json::to_string(&block.io_serviced_recursive).unwrap();
        assert_eq!(
            shown,
            r#"[{"major":8,"minor":0,"op":"Read","value":3},{"major":8,"minor":0,"op":"Write","value":4}]"#
        );
        let pages = huge_pages(dir.path(), ".current").unwrap();
        assert_eq!(serde_json::to_string(&pages).unwrap(), r#"{"2MB":{"usage":2097152,"max":0,"failcnt":3}}"#);
        assert_eq!(rdma(dir.path()).unwrap()["mlx4_0"]["hca_object"], 2000);
        let stall = pressure(dir.path(), "cpu.pressure").unwrap().some;
        assert!((stall.avg10 - 1.5).abs() < 0.01 && stall.total == 77);
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(block_lines("8:0 Read 9\nTotal 9\n").len(), 1);
    }
}
