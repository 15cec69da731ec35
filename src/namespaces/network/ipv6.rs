use std::path::{Path, PathBuf};

use super::NetnsError;
use super::loopback::write_sysctl;

/// Where the kernel keeps what it does with IPv6 on each link (Documentation/networking/ip-sysctl.rst).
const LINKS: &str = "/proc/sys/net/ipv6/conf";

/// Says whether the kernel has IPv6; booted with `ipv6.disable=1` it has none.
pub fn has_ipv6_here() -> bool {
    Path::new(LINKS).is_dir()
}

/// Switches IPv6 of one link of the calling thread's network namespace on or off.
///
/// Where it is on, the link has the addresses it is given and no others: none from router advertisements, whoever sends them,
/// and its own link-local one at once, without asking for duplicates. Where it is off, it has none at all.
///
/// # Errors
/// [`NetnsError::NoIpv6`] where it is to be on; [`NetnsError::Sysctl`].
pub fn switch_ipv6_here(link: &str, on: bool) -> Result<(), NetnsError> {
    let directory = PathBuf::from(LINKS).join(link);
    if !directory.is_dir() {
        return if on { Err(NetnsError::NoIpv6) } else { Ok(()) };
    }
    let write = |name: &str, value: &str| write_sysctl(&format!("ipv6/conf/{link}/{name}"), value);
    if !on {
        return write("disable_ipv6", "1");
    }
    // What a namespace begins with may be the host's (net.core.devconf_inherit_init_net), and a host may have it off.
    for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
        write(name, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_has_its_address_or_has_none() {
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            super::super::raise_loopback_here().unwrap();
            if !has_ipv6_here() {
                assert!(matches!(switch_ipv6_here("lo", true), Err(NetnsError::NoIpv6)));
                return;
            }
            let binds = || std::net::TcpListener::bind("[::1]:0").is_ok();
            for on in [false, true] {
                switch_ipv6_here("lo", on).unwrap();
                assert_eq!(binds(), on);
            }
            assert!(matches!(switch_ipv6_here("nosuch0", true), Err(NetnsError::NoIpv6)));
            switch_ipv6_here("nosuch0", false).unwrap();
        })
        .join()
        .unwrap();
    }
}
