//! All that a cgroup has used, in the JSON form of `runc events --stats`, which engines read.

use std::collections::BTreeMap;

use serde::Serialize;

/// Holds all that a cgroup has used: `data` of an event of the type `stats`. What no hierarchy counts is 0 or left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// CPU time.
    pub cpu: CpuStatistics,
    /// CPUs and memory nodes.
    pub cpuset: CpusetStatistics,
    /// Memory.
    pub memory: MemoryStatistics,
    /// Processes and threads.
    pub pids: PidStatistics,
    /// Block I/O.
    pub blkio: BlockStatistics,
    /// Huge pages by their size, as `2MB`.
    pub hugetlb: BTreeMap<String, HugePageStatistics>,
    /// Remote direct memory access: objects in use, by device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, BTreeMap<String, u64>>,
    /// Cache and bandwidth of Intel's resource director; not a cgroup's, always empty.
    pub intel_rdt: BTreeMap<String, u64>,
    /// The container's network interfaces; not a cgroup's, for the caller to fill.
    pub network_interfaces: Vec<InterfaceStatistics>,
}

/// Holds CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuStatistics {
    /// Time used.
    pub usage: CpuUsage,
    /// How the quota worked.
    pub throttling: Throttling,
    /// Pressure; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Holds CPU time used, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// By CPU; v1 only, as the next two.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In programs, by CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// Says how a quota of CPU time worked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds for which it was held.
    pub throttled_time: u64,
}

/// Says for how long processes waited for something (pressure stall information).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some of them waited.
    pub some: Stall,
    /// All of them waited.
    pub full: Stall,
}

/// Is one line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last 60 seconds.
    pub avg60: f64,
    /// Per cent of the last 300 seconds.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

/// Says which CPUs and memory nodes it may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpusetStatistics {
    /// CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// Nobody else's CPUs; v1 only, as all that follow but `mems`.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// Kernel memory from these nodes too.
    pub mem_hardwall: u64,
    /// Nobody else's memory nodes.
    pub mem_exclusive: u64,
    /// Pages follow a change of nodes.
    pub memory_migrate: u64,
    /// Page cache is spread over the nodes.
    pub memory_spread_page: u64,
    /// Slabs are spread over the nodes.
    pub memory_spread_slab: u64,
    /// Reclaims, times 1000, in a second.
    pub memory_pressure: u64,
    /// Processes are moved between the CPUs.
    pub sched_load_balance: u64,
    /// How far they are moved.
    pub sched_relax_domain_level: i64,
}

/// Holds bytes of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStatistics {
    /// Page cache.
    pub cache: u64,
    /// All of it.
    pub usage: MemoryUsage,
    /// Memory and swap together.
    pub swap: MemoryUsage,
    /// The kernel's; v1 only.
    pub kernel: MemoryUsage,
    /// The kernel's for TCP; v1 only.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryUsage,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Holds bytes of one kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// The most it may use; without a limit the greatest number that the kernel has.
    pub limit: u64,
    /// Now.
    pub usage: u64,
    /// The most it ever used.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Counts processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidStatistics {
    /// Now.
    pub current: u64,
    /// The most there may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Counts block I/O, with all below.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockStatistics {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockEntry>,
    /// Pressure; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Is one number of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockEntry {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`.
    pub op: String,
    /// How many.
    pub value: u64,
}

/// Holds bytes of huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugePageStatistics {
    /// Now.
    pub usage: u64,
    /// The most it ever used; v1 only.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Counts what went through a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the kernel's: /sys/class/net/NAME/statistics")]
pub struct InterfaceStatistics {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
