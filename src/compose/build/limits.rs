use std::collections::BTreeMap;

use super::super::yaml::Node;
use super::reader::Reader;
use crate::spec::{CpuList, CpuWeight, ResourceLimits, Ulimit};

/// Less than this and nothing starts; Docker's bound.
const LEAST_MEMORY: i64 = 6 << 20;
/// The greatest number of CPUs a kernel can be built for (CONFIG_NR_CPUS on x86).
const MOST_CPUS: u32 = 8192;
/// The kernel has no more process ids than this (PID_MAX_LIMIT), and takes no greater limit (pids.max).
const MOST_PROCESSES: i64 = 4_194_304;

/// Builds the limits of a service from its own keys and those of `deploy.resources`.
pub(super) fn limits(reader: &mut Reader<'_>) -> ResourceLimits {
    let memory = either(reader, "mem_limit", "limits", "memory");
    let reservation = either(reader, "mem_reservation", "reservations", "memory");
    let pids = either(reader, "pids_limit", "limits", "pids");
    let limits = ResourceLimits {
        memory: memory.and_then(|node| memory_size(reader, node, "mem_limit")),
        memory_reservation: reservation.and_then(|node| memory_size(reader, node, "mem_reservation")),
        memory_swap: reader.int("memswap_limit").filter(|bytes| *bytes != 0),
        nano_cpus: either(reader, "cpus", "limits", "cpus").and_then(|node| nano_cpus(reader, node)),
        cpu_quota: ranged(reader, "cpu_quota", 1000, i64::MAX, Some(-1)),
        cpu_period: ranged(reader, "cpu_period", 1000, 1_000_000, None).map(|period| period as u64),
        cpu_weight: ranged(reader, "cpu_shares", 2, 262_144, None).map(|shares| CpuWeight::Shares(shares as u64)),
        cpuset: cpuset(reader),
        memory_nodes: None,
        pids: pids.and_then(|node| pids_limit(reader, node)),
        io_weight: io_weight(reader),
    };
    check_together(reader, &limits);
    limits
}

/// A value may stand in two places; then both must say the same.
fn either<'a>(reader: &mut Reader<'a>, own: &str, group: &str, key: &str) -> Option<&'a Node> {
    let deployed = reader.get("deploy").and_then(|node| node.get("resources")?.get(group)?.get(key));
    let deployed = deployed.filter(|node| !node.is_null());
    match (reader.get(own), deployed) {
        (Some(one), Some(other)) if one != other => {
            let message = format!("can't set distinct values on `{own}` and `deploy.resources.{group}.{key}`");
            reader.fault(other, &format!("deploy.resources.{group}.{key}"), message, Some("take one of the two away"));
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

fn whole(node: &Node) -> Option<i64> {
    node.value.scalar_text()?.parse().ok()
}

fn memory_size(reader: &mut Reader<'_>, node: &Node, key: &str) -> Option<u64> {
    let bytes = whole(node)?;
    if bytes < LEAST_MEMORY {
        let message = format!("{bytes} bytes of memory are too few for a process; the least is 6 MiB");
        reader.fault(node, key, message, Some("write `6m` or more, or leave the key out for no limit"));
        return None;
    }
    u64::try_from(bytes).ok()
}

fn nano_cpus(reader: &mut Reader<'_>, node: &Node) -> Option<u64> {
    let cpus: f64 = node.value.scalar_text()?.parse().ok()?;
    if cpus < 0.001 || cpus > f64::from(MOST_CPUS) {
        let message = format!("{cpus} is not a number of CPUs: from 0.001 to {MOST_CPUS}");
        reader.fault(node, "cpus", message, Some("for example `cpus: 0.5`; leave the key out for no limit"));
        return None;
    }
    Some((cpus * 1e9).round() as u64)
}

fn pids_limit(reader: &mut Reader<'_>, node: &Node) -> Option<i64> {
    match whole(node)? {
        -1 => Some(-1),
        number if (1..=MOST_PROCESSES).contains(&number) => Some(number),
        number => {
            let (word, help) = if number < 1 {
                ("few", "write 1 or more, -1 for no limit")
            } else {
                ("many", "the kernel counts to 4194304; -1 is no limit")
            };
            reader.fault(node, "pids_limit", format!("{number} processes are too {word}"), Some(help));
            None
        }
    }
}

fn ranged(reader: &mut Reader<'_>, key: &str, least: i64, most: i64, also: Option<i64>) -> Option<i64> {
    let number = reader.int(key)?;
    if number == 0 || Some(number) == also || (least..=most).contains(&number) {
        return Some(number).filter(|number| *number != 0);
    }
    let node = reader.get(key)?;
    let message = match most {
        i64::MAX => format!("`{key}` must be {least} or more, not {number}"),
        most => format!("`{key}` must be from {least} to {most}, not {number}"),
    };
    reader.fault(node, key, message, None);
    None
}

fn io_weight(reader: &mut Reader<'_>) -> Option<u16> {
    let mut below = reader.below("blkio_config")?;
    ranged(&mut below, "weight", 10, 1000, None).map(|weight| weight as u16)
}

fn cpuset(reader: &mut Reader<'_>) -> Option<String> {
    let node = reader.get("cpuset")?;
    let text = node.as_str().filter(|text| !text.is_empty())?;
    if text.parse::<CpuList>().is_ok() {
        return Some(text.to_owned());
    }
    reader.fault(node, "cpuset", format!("`{text}` is not a set of CPUs"), Some("write `0-3`, `1` or `0,2`"));
    None
}

fn check_together(reader: &mut Reader<'_>, limits: &ResourceLimits) {
    if let (Some(swap), Some(node)) = (limits.memory_swap, reader.get("memswap_limit")) {
        match limits.memory {
            None if swap > 0 => {
                let help = "add `mem_limit`: memswap_limit counts memory and swap together";
                reader.fault(node, "memswap_limit", "a limit for swap needs one for memory".into(), Some(help));
            }
            Some(memory) if swap > 0 && (swap as u64) < memory => {
                let message = "memswap_limit counts memory and swap together and cannot be less than mem_limit".into();
                reader.fault(node, "memswap_limit", message, None);
            }
            _ => {}
        }
    }
    if let (Some(memory), Some(reserved), Some(node)) =
        (limits.memory, limits.memory_reservation, reader.get("mem_reservation"))
        && reserved > memory
    {
        reader.fault(node, "mem_reservation", "more memory is reserved than mem_limit allows".into(), None);
    }
    if let (Some(_), Some(_), Some(node)) = (limits.nano_cpus, limits.cpu_quota, reader.get("cpu_quota")) {
        reader.fault(
            node,
            "cpu_quota",
            "`cpus` and `cpu_quota` say the same thing twice".into(),
            Some("take one away"),
        );
    }
}

/// The names that prlimit(1) and Docker know.
const ULIMIT_NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Builds `ulimits`.
pub(super) fn ulimits(reader: &mut Reader<'_>) -> BTreeMap<String, Ulimit> {
    let mut out = BTreeMap::new();
    for (name, entry) in reader.get("ulimits").and_then(Node::as_map).into_iter().flatten() {
        let node = &entry.node;
        if !ULIMIT_NAMES.contains(&name.as_str()) {
            let help = super::super::diagnostic::suggest(name, ULIMIT_NAMES);
            reader.fault(node, &format!("ulimits.{name}"), format!("unknown ulimit `{name}`"), help.as_deref());
            continue;
        }
        let part = |key: &str| node.get(key).unwrap_or(node);
        let (Some(soft), Some(hard)) = (rlimit(part("soft")), rlimit(part("hard"))) else {
            let message = format!("`ulimits.{name}` must be a number from 0, or -1 for no limit");
            reader.fault(node, &format!("ulimits.{name}"), message, None);
            continue;
        };
        if soft > hard {
            let message = format!("the soft limit of `{name}` is above the hard one");
            reader.fault(node, &format!("ulimits.{name}"), message, None);
        }
        out.insert(name.clone(), Ulimit { soft, hard });
    }
    out
}

fn rlimit(node: &Node) -> Option<u64> {
    match whole(node)? {
        -1 => Some(u64::MAX),
        number => u64::try_from(number).ok(),
    }
}
