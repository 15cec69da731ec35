//! Cubes as network namespaces, so that a ping through them is one.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use ipnetwork::Ipv4Network;
use mydocker::namespaces::network::{in_namespace, open_current};

/// Makes a namespace of its own; it lasts as long as the descriptor and what stands in it.
pub(super) fn fresh() -> OwnedFd {
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        run("ip", "link set lo up", "").expect("lo");
        open_current().expect("the namespace")
    };
    std::thread::spawn(make).join().expect("a namespace")
}

fn run(program: &str, words: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes()).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{program} {words}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs `ip` in a namespace.
pub(super) fn ip(netns: &OwnedFd, words: &str) -> Result<String, String> {
    in_namespace(netns.as_fd(), || run("ip", words, "")).map_err(|error| error.to_string())?
}

/// Names a namespace for `ip`.
fn path(netns: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd())
}

/// Makes what a bridge is.
pub(super) fn make_bridge(netns: &OwnedFd) -> Result<(), String> {
    ip(netns, "link add name cube0 type bridge")?;
    ip(netns, "link set dev cube0 up").map(drop)
}

/// Lets a router route.
pub(super) fn make_router(netns: &OwnedFd) -> Result<(), String> {
    let write = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|error| error.to_string());
    in_namespace(netns.as_fd(), write).map_err(|error| error.to_string())?
}

/// Connects two cubes with a cable.
pub(super) fn connect(one: (&OwnedFd, &str), other: (&OwnedFd, &str)) -> Result<(), String> {
    ip(one.0, &format!("link add name {} type veth peer name {} netns {}", one.1, other.1, path(other.0))).map(drop)
}

/// Moves an interface, and returns the addresses that it loses by that.
pub(super) fn move_link(name: &str, from: &OwnedFd, to: &OwnedFd) -> Result<Vec<Ipv4Network>, String> {
    let had = addresses(from, name)?;
    ip(from, &format!("link set dev {name} netns {}", path(to)))?;
    Ok(had)
}

/// Says whether there is an interface of this name.
pub(super) fn exists(netns: &OwnedFd, name: &str) -> bool {
    ip(netns, &format!("link show dev {name}")).is_ok()
}

fn addresses(netns: &OwnedFd, name: &str) -> Result<Vec<Ipv4Network>, String> {
    let text = ip(netns, &format!("-4 -o addr show dev {name}"))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let found = words.windows(2).filter(|pair| pair[0] == "inet");
    Ok(found.filter_map(|pair| pair[1].parse().ok()).collect())
}

/// Raises an interface with its addresses, in a bridge where there is one.
pub(super) fn raise(netns: &OwnedFd, name: &str, addresses: &[Ipv4Network]) -> Result<(), String> {
    if exists(netns, "cube0") {
        ip(netns, &format!("link set dev {name} master cube0"))?;
    }
    for address in addresses {
        ip(netns, &format!("addr replace {address} dev {name}"))?;
    }
    ip(netns, &format!("link set dev {name} up")).map(drop)
}

/// One published port.
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) external: (Ipv4Addr, u16),
    pub(super) protocol: String,
    pub(super) internal: (Ipv4Addr, u16),
}

/// Makes the router's address translation what its nat cube says.
pub(super) fn translate(netns: &OwnedFd, link: &str, masquerade: bool, entries: &[Entry]) -> Result<(), String> {
    let forwarded: String = entries
        .iter()
        .map(|entry| {
            format!(
                "iifname \"{link}\" ip daddr {} {} dport {} dnat to {}:{}\n",
                entry.external.0, entry.protocol, entry.external.1, entry.internal.0, entry.internal.1
            )
        })
        .collect();
    let source = if masquerade { format!("oifname \"{link}\" masquerade\n") } else { String::new() };
    let rules = format!(
        "add table ip cube\ndelete table ip cube\ntable ip cube {{\n\
         chain pre {{ type nat hook prerouting priority dstnat;\n{forwarded}}}\n\
         chain post {{ type nat hook postrouting priority srcnat;\n{source}}}\n}}\n"
    );
    in_namespace(netns.as_fd(), || run("nft", "-f -", &rules)).map_err(|error| error.to_string())?.map(drop)
}
