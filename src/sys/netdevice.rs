//! Raising an interface with the ioctls of netdevice(7), for code that has no netlink connection.

#![expect(unsafe_code, reason = "ioctl(2) has no safe wrapper for these two requests")]

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Raises the interface of this name in the calling thread's network namespace; raising it twice does no harm.
pub fn raise(name: &str) -> io::Result<()> {
    // Any socket will do: it only says which network namespace is meant.
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request =
        libc::ifreq { ifr_name: name_field(name)?, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    // SAFETY: SIOCGIFFLAGS reads and writes one `ifreq`, which `request` is and which lives through the call.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    nix::errno::Errno::result(rc)?;
    // SAFETY: the call above succeeded, so the kernel stored the flags in this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which `request` is and which lives through the call.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    nix::errno::Errno::result(rc)?;
    Ok(())
}

/// Returns the name in the form of `ifr_name`, which has to end with a zero byte.
fn name_field(name: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut field = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= field.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_of_a_fresh_namespace_is_raised() {
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            assert!(
                std::net::TcpListener::bind("127.0.0.1:0")
                    .is_ok_and(|l| { std::net::TcpStream::connect(l.local_addr().unwrap()).is_err() })
            );
            raise("lo").unwrap();
            raise("lo").unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_unknown_or_overlong_name_is_an_error() {
        assert_eq!(raise("no-such-if").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(raise("0123456789abcdef").unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
