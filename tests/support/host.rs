//! What the machine can do, probed once; a test that needs more is listed as ignored with the reason.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// Root, namespaces of our own and a static busybox: what every test here needs.
    Sandbox,
    /// The tools of the NAT lab.
    Internet,
    /// `iptables` of any kind and bridges.
    Bridge,
    /// The older `iptables`, whose tables are not those of nf_tables.
    LegacyIptables,
    /// nft(8), with the maps that published ports want.
    Nftables,
    /// IPv6 with NAT.
    Ipv6,
    /// Memory, cpu and pids controllers in any hierarchy.
    Controllers,
    /// Interfaces of the kind macvlan.
    Macvlan,
    /// The reference CNI plugins where Debian puts them.
    Plugins,
    /// Perl, which can make any system call.
    Perl,
    /// strace(1), which may trace.
    Strace,
    /// File systems in user space.
    Fuse,
}

impl Need {
    /// Says why the machine cannot do it; `None` if it can.
    pub(crate) fn missing(self) -> Option<String> {
        static FOUND: [OnceLock<Option<String>>; 12] = [const { OnceLock::new() }; 12];
        FOUND[self as usize].get_or_init(|| self.probe()).clone()
    }

    fn probe(self) -> Option<String> {
        match self {
            Self::Sandbox => probe_sandbox(),
            Self::Internet => ["python3", "ip", "nsenter"]
                .into_iter()
                .find(|tool| !succeeds("sh", &["-c", &format!("command -v {tool}")]))
                .map(|tool| format!("the NAT lab needs {tool}")),
            Self::Bridge => {
                let script = "ip link add probe0 type bridge && iptables -t nat -A POSTROUTING -j MASQUERADE";
                (!succeeds("unshare", &["--net", "sh", "-c", script]))
                    .then(|| format!("a bridge with NAT cannot be made here ({script})"))
            }
            Self::LegacyIptables => {
                let script = "iptables-legacy -t nat -A POSTROUTING -j MASQUERADE";
                (!succeeds("unshare", &["--net", "sh", "-c", script]))
                    .then(|| format!("this kernel has no tables of the older kind ({script})"))
            }
            Self::Nftables => {
                let script = "nft add table inet x && nft add chain inet x c '{ type nat hook prerouting priority -100; }' && \
                              nft add rule inet x c dnat ip to meta l4proto . th dport map '{ tcp . 1 : 10.0.0.1 . 1 }'";
                (!succeeds("unshare", &["--net", "sh", "-c", script]))
                    .then(|| format!("nft cannot make a map of ports here ({script})"))
            }
            Self::Macvlan => {
                let script =
                    "ip link add probe0 type veth peer name probe1 && ip link add link probe0 name probe2 type macvlan";
                (!succeeds("unshare", &["--net", "sh", "-c", script]))
                    .then(|| format!("this kernel has no macvlan ({script})"))
            }
            Self::Ipv6 => {
                let script = "ip link set lo up && ip addr add fd00::1/64 dev lo && ip6tables -t nat -A POSTROUTING -j MASQUERADE";
                (!succeeds("unshare", &["--net", "sh", "-c", script]))
                    .then(|| format!("this kernel has no IPv6, or no NAT of it ({script})"))
            }
            Self::Plugins => (!std::path::Path::new("/usr/lib/cni/bridge").exists())
                .then(|| "needs the package containernetworking-plugins".to_owned()),
            Self::Perl => (!succeeds("/usr/bin/perl", &["-e", "syscall(39)"])).then(|| "needs perl".to_owned()),
            Self::Fuse => (!succeeds("sh", &["-c", ": 3<>/dev/fuse"])).then(|| "/dev/fuse cannot be opened".to_owned()),
            Self::Strace => (!succeeds("strace", &["-f", "-o", "/dev/null", "true"]))
                .then(|| "needs the package strace, and leave to trace (ptrace_scope)".to_owned()),
            Self::Controllers => {
                let missing: Vec<&str> =
                    ["memory", "cpu", "pids"].into_iter().filter(|name| !has_controller(name)).collect();
                (!missing.is_empty()).then(|| format!("no cgroup controller {}", missing.join(", ")))
            }
        }
    }
}

fn probe_sandbox() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if !succeeds("unshare", &["--net", "--mount", "true"]) {
        return Some("unshare --net --mount fails here".to_owned());
    }
    (!succeeds("busybox", &["true"])).then(|| "needs busybox-static".to_owned())
}

/// A controller is there if v1 has it mounted or the v2 root offers it.
fn has_controller(name: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split_once(" - ")).any(|(mount, kind)| {
        let point = mount.split(' ').nth(4).unwrap_or_default();
        if kind.starts_with("cgroup2 ") {
            let offered = std::fs::read_to_string(format!("{point}/cgroup.controllers")).unwrap_or_default();
            offered.split_whitespace().any(|offer| offer == name)
        } else {
            kind.starts_with("cgroup ")
                && kind.rsplit(' ').next().unwrap_or_default().split(',').any(|option| option == name)
        }
    })
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
