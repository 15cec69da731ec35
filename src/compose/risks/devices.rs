//! Devices and rules of the device cgroup.

use std::path::Path;

use super::places::Judged;
use super::risk::RiskLevel::{High, Low, Medium};

const DISK: Judged = Some((High, "reads and writes a disk of this host past its file system"));

/// Beginnings of names below /dev; the first that fits counts.
const DEVICES: &[(&str, Judged)] = &[
    ("mem", Some((High, "reads and writes the memory of this host"))),
    ("kmem", Some((High, "reads and writes the memory of the kernel"))),
    ("port", Some((High, "reaches the hardware past the kernel"))),
    ("sd", DISK),
    ("hd", DISK),
    ("vd", DISK),
    ("xvd", DISK),
    ("nvme", DISK),
    ("mmcblk", DISK),
    ("md", DISK),
    ("dm-", DISK),
    ("mapper", DISK),
    ("disk", DISK),
    ("block", DISK),
    ("zd", DISK),
    ("nbd", DISK),
    ("loop", DISK),
    ("zero", None),
    ("null", None),
    ("full", None),
    ("random", None),
    ("urandom", None),
    ("fuse", Some((Low, "can offer file systems to itself"))),
    ("net/tun", Some((Low, "can make network interfaces of its own"))),
    ("kvm", Some((Low, "can run virtual machines"))),
    ("dri", Some((Low, "uses the graphics card, with its driver's faults"))),
    ("snd", Some((Low, "plays and records sound"))),
    ("ttyUSB", Some((Low, "talks to a serial line"))),
    ("ttyACM", Some((Low, "talks to a serial line"))),
    ("ttyS", Some((Low, "talks to a serial line"))),
    ("video", Some((Low, "sees through a camera"))),
    ("input", Some((Medium, "reads what is typed on this host"))),
    ("uinput", Some((Medium, "can type on this host"))),
    ("hidraw", Some((Medium, "talks to keyboards and the like"))),
];

/// Says what a device of the host gives, by its path with links followed.
pub(super) fn judge(path: &Path) -> Judged {
    let Ok(name) = path.strip_prefix("/dev") else {
        // Elsewhere: a node that somebody made, or a name of the Container Device Interface.
        return Some((Low, "has a device of this host"));
    };
    let name = name.to_string_lossy();
    if name.is_empty() {
        return Some((High, "has every device of this host, disks and memory among them"));
    }
    match DEVICES.iter().find(|(begin, _)| name.starts_with(begin)) {
        Some((_, judged)) => *judged,
        None => Some((Medium, "does to a device of this host whatever its driver lets")),
    }
}

/// Says what a rule such as `c 10:200 rwm` gives: MKNOD is among the default capabilities, so a rule is all that is missing.
pub(super) fn judge_rule(rule: &str) -> Judged {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let numbers = words.get(1).copied().unwrap_or("*:*");
    match (words.first().copied().unwrap_or("a"), numbers) {
        ("a", _) => Some((High, "can make and open every device of this host, disks and memory among them")),
        ("b", _) => Some((High, "can make and open the nodes of disks of this host")),
        ("c", "*:*" | "1:*" | "1:1" | "1:2" | "1:4" | "*:1" | "*:2" | "*:4") => {
            Some((High, "can make and open the node of this host's memory"))
        }
        ("c", numbers) if numbers.starts_with("*:") || numbers.ends_with(":*") => {
            Some((Medium, "can make and open many devices of this host"))
        }
        _ => Some((Low, "can make and open a device of this host")),
    }
}
