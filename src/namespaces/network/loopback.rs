use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::{NetnsError, in_namespace};
use crate::sys::netdevice;

/// What Docker sets in each network namespace of a container's own: ping without CAP_NET_RAW, low ports without
/// CAP_NET_BIND_SERVICE. Both only open what the namespace holds by itself.
const SYSCTLS: &[(&str, &str)] = &[("ipv4/ping_group_range", "0 2147483647"), ("ipv4/ip_unprivileged_port_start", "0")];

/// Raises `lo` inside the namespace; the kernel then gives it 127.0.0.1/8 by itself.
pub fn bring_up_loopback(netns: BorrowedFd<'_>) -> Result<(), NetnsError> {
    in_namespace(netns, raise_loopback_here)?
}

/// Raises `lo` and opens ping and low ports to every user inside, as Docker does.
pub fn prepare(netns: BorrowedFd<'_>) -> Result<(), NetnsError> {
    in_namespace(netns, prepare_here)?
}

/// Raises `lo` of the calling thread's network namespace.
pub fn raise_loopback_here() -> Result<(), NetnsError> {
    netdevice::raise("lo").map_err(NetnsError::Loopback)
}

/// Does what [`prepare`] does for the calling thread's network namespace.
pub fn prepare_here() -> Result<(), NetnsError> {
    raise_loopback_here()?;
    SYSCTLS.iter().try_for_each(|(name, value)| write_sysctl(name, value))
}

/// Has the kernel tell the neighbours, by ARP and neighbour discovery, when the Ethernet address of an interface of the calling
/// thread's network namespace is set.
pub fn announce_new_addresses(interface: &str) -> Result<(), NetnsError> {
    write_sysctl(&format!("ipv4/conf/{interface}/arp_notify"), "1")?;
    // Where IPv6 is off there is nothing to tell.
    let _ = write_sysctl(&format!("ipv6/conf/{interface}/ndisc_notify"), "1");
    Ok(())
}

/// Writes one sysctl of the calling thread's network namespace: what is seen below /proc/sys/net depends on who looks.
pub(super) fn write_sysctl(name: &str, value: &str) -> Result<(), NetnsError> {
    let path: PathBuf = Path::new("/proc/sys/net").join(name);
    fs::write(&path, value).map_err(|source| NetnsError::Sysctl { path, value: value.to_owned(), source })
}
