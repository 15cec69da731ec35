//! Capabilities beyond the default ones: what each lets a container do (capabilities(7)).

use super::risk::RiskLevel::{self, High, Low, Medium};

/// Says what the container shares with the host, where a capability's reach depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shares {
    /// The network namespace.
    pub(super) network: bool,
    /// The PID namespace.
    pub(super) pid: bool,
}

const CAPABILITIES: &[(&str, RiskLevel, &str)] = &[
    ("ALL", High, "has every capability: it can load modules, mount disks, read any file of this host"),
    (
        "SYS_ADMIN",
        High,
        "can mount file systems and change namespaces: known ways lead from there to root of this host",
    ),
    ("SYS_MODULE", High, "can load code into the kernel"),
    ("SYS_RAWIO", High, "can reach the hardware past the kernel: ports, memory, disks' raw commands"),
    ("DAC_READ_SEARCH", High, "can open any file of this host by its handle (open_by_handle_at)"),
    ("BPF", High, "can load programs into the kernel (bpf)"),
    ("PERFMON", High, "can read kernel memory by tracing (perf_event_open, bpf)"),
    ("MAC_ADMIN", High, "can change the rules of the host's security module"),
    ("MAC_OVERRIDE", High, "can pass by the rules of the host's security module"),
    ("SYS_PTRACE", Medium, "can read and change every process that it sees"),
    ("SYS_BOOT", Medium, "can ask for a reboot or another kernel (reboot, kexec_load)"),
    ("SYS_TIME", Medium, "can set the clock of this host"),
    ("SYSLOG", Medium, "reads the kernel's log, and its addresses"),
    (
        "NET_ADMIN",
        Medium,
        "can change interfaces, routes and rules of its network, and reaches much code of the kernel",
    ),
    ("SYS_RESOURCE", Medium, "can go over limits and quotas"),
    ("CHECKPOINT_RESTORE", Medium, "can choose process ids and look into other processes' files"),
    ("AUDIT_CONTROL", Medium, "can switch off the audit of this host"),
    ("AUDIT_READ", Medium, "reads the audit log of this host"),
    ("SYS_TTY_CONFIG", Low, "can hang up terminals"),
    ("SYS_NICE", Low, "can take processor time from others (priorities, real time)"),
    ("SYS_PACCT", Low, "can switch process accounting"),
    ("IPC_LOCK", Low, "can keep memory from being swapped out"),
    ("IPC_OWNER", Low, "passes by permissions of System V objects"),
    ("LINUX_IMMUTABLE", Low, "can make files that root cannot remove"),
    ("LEASE", Low, "can hold up others that open a file"),
    ("NET_BROADCAST", Low, "can send to everybody on its network"),
    ("WAKE_ALARM", Low, "can wake this host from sleep"),
    ("BLOCK_SUSPEND", Low, "can keep this host from sleeping"),
];

/// Says what a capability, by its name without `CAP_`, lets a container do; `None` for those that every container has.
pub(super) fn judge(name: &str, shares: Shares) -> Option<(RiskLevel, &'static str)> {
    match name {
        "NET_ADMIN" if shares.network => Some((High, "can change the interfaces, routes and firewall of this host")),
        "SYS_PTRACE" if shares.pid => Some((High, "can read and change every process of this host")),
        "SYS_BOOT" if shares.pid => Some((High, "can reboot this host")),
        name => CAPABILITIES.iter().find(|(known, ..)| *known == name).map(|(_, level, effect)| (*level, *effect)),
    }
}
