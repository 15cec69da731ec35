//! The kernel's controllers, by the names that the two designs have for them.

use std::fmt;

/// Is a cgroup controller that enforces a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// CPU time and its weight.
    Cpu,
    /// The number of processes and threads.
    Pids,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Block I/O.
    Io,
    /// Huge pages.
    Hugetlb,
    /// Remote direct memory access.
    Rdma,
    /// The class of network packets; v1 only.
    NetCls,
    /// The priority of network packets; v1 only.
    NetPrio,
}

impl Controller {
    /// Returns the name that cgroup v1 has for it.
    pub fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.v2_name(),
        }
    }

    /// Returns the name that cgroup v2 has for it.
    pub fn v2_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
            Self::Hugetlb => "hugetlb",
            Self::Rdma => "rdma",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
        }
    }

    /// Returns what it limits, in words.
    pub(super) fn limits(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu time",
            Self::Pids => "the number of processes",
            Self::Cpuset => "the cpus to be used",
            Self::Io => "block i/o",
            Self::Hugetlb => "huge pages",
            Self::Rdma => "remote direct memory access",
            Self::NetCls => "the class of network packets",
            Self::NetPrio => "the priority of network packets",
        }
    }

    /// Returns where the runtime specification has it below `linux.resources`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu | Self::Cpuset => "cpu",
            Self::Pids => "pids",
            Self::Io => "blockIO",
            Self::Hugetlb => "hugepageLimits",
            Self::Rdma => "rdma",
            Self::NetCls => "network.classID",
            Self::NetPrio => "network.priorities",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v2_name())
    }
}
