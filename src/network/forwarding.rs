//! The host's forwarding of either family: set when the first network needs it, put back when the last one goes, if it was us.
//!
//! With IPv6 there is more to it: a host that forwards takes itself for a router, and forgets what routers advertised to it, its
//! default route with it, unless a link's `accept_ra` is 2 (Documentation/networking/ip-sysctl.rst).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::state::StateDir;
use crate::store::Record;

/// Below it a link's `accept_ra` says what is done with router advertisements.
const LINKS: &str = "/proc/sys/net/ipv6/conf";

/// Is one of the kernel's two switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarding {
    V4,
    V6,
}

impl Forwarding {
    /// The switch of the network namespace that the calling thread stands in.
    fn switch(self) -> &'static Path {
        Path::new(match self {
            Self::V4 => "/proc/sys/net/ipv4/ip_forward",
            Self::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
        })
    }

    fn record(self) -> &'static str {
        match self {
            Self::V4 => "forwarding.json",
            Self::V6 => "forwarding_v6.json",
        }
    }
}

/// Says that forwarding was off and that we switched it on; there is no file where it was on already.
#[derive(Debug, Serialize, Deserialize)]
struct SwitchedOn {
    /// The boot in which it was; after another boot the record says nothing.
    boot: String,
    /// Links that took router advertisements and go on taking them, which takes another value.
    #[serde(default)]
    accept_ra: Vec<String>,
}

impl Record for SwitchedOn {
    const VERSION: u32 = 1;
}

/// Says whether the host forwards.
pub(super) fn is_on(which: Forwarding) -> Result<bool, NetworkError> {
    Ok(read(which.switch())? == "1")
}

/// Switches forwarding on where it is off. Recorded before it is done.
///
/// Of IPv6, links that listen to routers go on doing so: those of `outward`, which lead out of the host, and those from which
/// a route was learned. A bridge of containers is neither: none of them is to give the host a route.
pub(super) fn enable(state: &StateDir, which: Forwarding, outward: &[String]) -> Result<(), NetworkError> {
    if is_on(which)? {
        return Ok(());
    }
    let mut accept_ra = Vec::new();
    if which == Forwarding::V6 {
        let learned = links_with_learned_routes();
        accept_ra =
            outward.iter().chain(&learned).filter(|link| accepts(link).as_deref() == Some("1")).cloned().collect();
        accept_ra.sort();
        accept_ra.dedup();
    }
    state.write(which.record(), &SwitchedOn { boot: boot(), accept_ra: accept_ra.clone() })?;
    for link in &accept_ra {
        write_accept_ra(link, "1", "2")?;
    }
    write(which.switch(), "1")
}

/// Switches forwarding off again if it was we who switched it on.
pub(super) fn restore(state: &StateDir, which: Forwarding) -> Result<(), NetworkError> {
    let name = which.record();
    let record = match state.read::<SwitchedOn>(name)? {
        Some(record) => record,
        // That it is there says what matters. Whoever keeps a run directory over a reboot and damages it then is alone.
        None if state.was_damaged(name)? => SwitchedOn { boot: boot(), accept_ra: Vec::new() },
        None => return Ok(()),
    };
    if record.boot == boot() {
        write(which.switch(), "0")?;
        for link in &record.accept_ra {
            write_accept_ra(link, "2", "1")?;
        }
    }
    state.remove(name)
}

/// Lists the links from which a router advertisement made a route, by the flag of /proc/net/ipv6_route that says so.
fn links_with_learned_routes() -> Vec<String> {
    const RTF_ADDRCONF: u32 = 0x0004_0000;
    // Not /proc/net: that is the namespace of the thread group leader.
    let table = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let learned = table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(8);
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        fields.next().filter(|link| flags & RTF_ADDRCONF != 0 && *link != "lo").map(str::to_owned)
    });
    learned.collect()
}

/// Returns what a link does with router advertisements; `None` where it is gone.
fn accepts(link: &str) -> Option<String> {
    fs::read_to_string(accept_ra(link)).ok().map(|text| text.trim().to_owned())
}

/// Changes it, if it is still what it was.
fn write_accept_ra(link: &str, from: &str, to: &str) -> Result<(), NetworkError> {
    if accepts(link).as_deref() == Some(from) { write(&accept_ra(link), to) } else { Ok(()) }
}

fn accept_ra(link: &str) -> PathBuf {
    Path::new(LINKS).join(link).join("accept_ra")
}

fn read(path: &Path) -> Result<String, NetworkError> {
    let failed = |source| NetworkError::State { operation: "read", path: path.to_owned(), source };
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(failed)
}

fn write(path: &Path, value: &str) -> Result<(), NetworkError> {
    fs::write(path, value).map_err(|source| NetworkError::Sysctl {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
