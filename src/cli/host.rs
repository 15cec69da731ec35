//! What this host has, of what is asked of it: told before anything is made.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::compose::{Diagnostic, HostWish, HostWishKind, Severity};
use crate::spec::CpuList;

/// File systems that answer without asking anybody else.
const LOCAL: [&str; 13] = [
    "btrfs", "devtmpfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "squashfs", "tmpfs", "vfat",
    "xfs",
];

/// Answers the wishes: what cannot be had, as errors, and what is dangerous, as warnings.
pub fn answer<'w>(wishes: impl Iterator<Item = &'w HostWish>) -> Vec<Diagnostic> {
    let cpus = online_cpus();
    wishes
        .filter_map(|wish| {
            let (message, help) = refusal(&wish.kind, cpus.as_ref())?;
            let severity = match wish.kind {
                HostWishKind::AllCapabilities => Severity::Warning,
                _ => Severity::Error,
            };
            Some(Diagnostic { severity, message, help, ..wish.place.clone() })
        })
        .collect()
}

fn refusal(kind: &HostWishKind, cpus: Option<&CpuList>) -> Option<(String, Option<String>)> {
    match kind {
        HostWishKind::CpuTime(nano) => too_much_cpu(*nano, cpus?).map(|message| (message, None)),
        HostWishKind::Cpus(list) => {
            let message = missing_cpus(list, cpus?)?;
            Some((message, Some("leave the key out to use all of them".to_owned())))
        }
        HostWishKind::Source { path, may_be_made } => unusable_source(path, *may_be_made),
        HostWishKind::Sysctl(name) => {
            let message = format!("this kernel has no setting `{name}`");
            unknown_sysctl(name).then(|| (message, Some("`sysctl -a` lists what there is".to_owned())))
        }
        HostWishKind::AllCapabilities => Some((
            "with all capabilities the container can take over the host".to_owned(),
            Some("name those that the program needs: capabilities(7)".to_owned()),
        )),
    }
}

/// Returns the CPUs that are switched on; `None` where the kernel does not say.
pub fn online_cpus() -> Option<CpuList> {
    fs::read_to_string("/sys/devices/system/cpu/online").ok()?.parse().ok()
}

/// Returns the nodes of memory that there are; `None` where the kernel does not say.
pub fn online_nodes() -> Option<CpuList> {
    fs::read_to_string("/sys/devices/system/node/online").ok()?.parse().ok()
}

/// Says that more CPU time is asked for, in thousand-millionths of a CPU, than there is.
pub fn too_much_cpu(nano: u64, cpus: &CpuList) -> Option<String> {
    let (asked, there) = (nano as f64 / 1e9, cpus.count());
    let word = if there == 1 { "CPU" } else { "CPUs" };
    (asked > there as f64)
        .then(|| format!("{asked} CPUs are more than there are: from 0.01 to {there}, this host has {there} {word}"))
}

/// Says that CPUs, or nodes of memory, are asked for that there are not.
pub fn missing_cpus(asked: &CpuList, there: &CpuList) -> Option<String> {
    let missing = asked.without(there)?;
    Some(format!("{missing} are not there: this host has {there}"))
}

/// Says that a name below /proc/sys leads nowhere. Those of the network that follow from an interface or a module may still come.
fn unknown_sysctl(name: &str) -> bool {
    let path = name.replace('.', "/");
    let comes_later = ["/conf/", "/neigh/", "net/netfilter/", "net/bridge/"].iter().any(|part| path.contains(part));
    let there = fs::symlink_metadata(Path::new("/proc/sys").join(&path));
    !comes_later && !name.contains('/') && there.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Says why a path cannot be bound, and what to do. Of a path on a file system that others may hold up nothing is said: looking there could
/// take for ever.
pub fn unusable_source(path: &Path, may_be_made: bool) -> Option<(String, Option<String>)> {
    let (shown, error) = (path.display(), open(path)?.err()?);
    let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match error.kind() {
        ErrorKind::NotFound if is_link() => Some((
            format!("the bind source {shown} is a symbolic link to what is not there"),
            Some(format!("`readlink {shown}` shows what it names")),
        )),
        ErrorKind::NotFound if may_be_made => None,
        ErrorKind::NotFound => {
            Some((format!("the bind source {shown} does not exist"), Some(format!("make it: `mkdir -p {shown}`"))))
        }
        _ if error.raw_os_error() == Some(libc::ELOOP) => Some((
            format!("the bind source {shown} is a loop of symbolic links"),
            Some(format!("`namei -l {shown}` shows where it goes round")),
        )),
        ErrorKind::NotADirectory => Some((
            format!("the bind source {shown} lies below a file"),
            Some(format!("`namei -l {shown}` shows which part is none")),
        )),
        _ => Some((format!("the bind source {shown} cannot be looked at: {error}"), None)),
    }
}

/// Opens what a path leads to, no file or device itself; `None` where it leads over a file system that is not [`LOCAL`].
fn open(path: &Path) -> Option<io::Result<OwnedFd>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let over = mounts.lines().filter_map(mount).filter(|(point, _)| path.starts_with(point));
    let over: Vec<(PathBuf, &str)> = over.collect();
    if over.iter().any(|(_, fstype)| !LOCAL.contains(fstype)) {
        return None;
    }
    let point = over.iter().map(|(point, _)| point).max_by_key(|point| point.components().count())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat2(CWD, point, flags, Mode::empty(), ResolveFlags::empty()).ok()?;
    let below = path.strip_prefix(point).ok().filter(|below| !below.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match openat2(&root, below, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS) {
        // A link leads to another file system, or out of this one and back.
        Err(rustix::io::Errno::XDEV | rustix::io::Errno::NOSYS) => None,
        opened => Some(opened.map_err(io::Error::from)),
    }
}

/// Returns mount point and type of a line of mountinfo (proc_pid_mountinfo(5)). Points with escapes in them are none of ours to look below.
fn mount(line: &str) -> Option<(PathBuf, &str)> {
    let (before, after) = line.split_once(" - ")?;
    Some((PathBuf::from(before.split(' ').nth(4)?), after.split(' ').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn cpus_are_counted_and_named() {
        let two = list("0-1");
        assert_eq!(too_much_cpu(2_000_000_000, &two), None);
        assert!(too_much_cpu(2_500_000_000, &two).unwrap().starts_with("2.5 CPUs are more than there are"));
        assert_eq!(missing_cpus(&list("1"), &two), None);
        assert_eq!(missing_cpus(&list("0-3"), &two).unwrap(), "2-3 are not there: this host has 0-1");
    }

    #[test]
    fn sources_that_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("two", path("one")).unwrap();
        std::os::unix::fs::symlink("one", path("two")).unwrap();
        std::os::unix::fs::symlink("nothing", path("dangling")).unwrap();
        fs::write(path("file"), "").unwrap();
        let said = |name: &str, may: bool| unusable_source(&path(name), may).map(|(message, _)| message);
        for may in [true, false] {
            assert!(said("one", may).unwrap().contains("a loop of symbolic links"));
            assert!(said("dangling", may).unwrap().contains("to what is not there"));
            assert!(said("file/x", may).unwrap().contains("below a file"));
            assert_eq!(said("file", may), None);
            assert_eq!(said(".", may), None);
        }
        assert_eq!(said("nothing", true), None);
        assert!(said("nothing", false).unwrap().contains("does not exist"));
        assert_eq!(unusable_source(Path::new("/proc/self/fd/7"), false), None, "a file system that is not local");
    }

    #[test]
    fn sysctls_that_may_come_are_not_unknown() {
        assert!(unknown_sysctl("net.ipv4.nosuch"));
        for name in ["net.ipv4.ip_forward", "net.ipv4.conf.eth7.forwarding", "net.netfilter.nf_conntrack_max"] {
            assert!(!unknown_sysctl(name), "{name}");
        }
    }
}
