#![doc = include_str!("README.md")]

use std::io;

/// Sets the host name of this UTS namespace (sethostname(2)).
///
/// # Errors
/// EINVAL for a name over 64 bytes; EPERM without CAP_SYS_ADMIN.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(nix::unistd::sethostname(name)?)
}

/// Sets the NIS domain name of this UTS namespace (setdomainname(2)).
///
/// # Errors
/// EINVAL for a name over 64 bytes; EPERM without CAP_SYS_ADMIN.
pub fn set_domainname(name: &str) -> io::Result<()> {
    Ok(rustix::system::setdomainname(name.as_bytes())?)
}
