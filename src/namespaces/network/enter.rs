use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// Says which step inside a network namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// setns(2) refused the descriptor.
    #[error("enter the network namespace")]
    Enter(#[source] Errno),
    /// The short-lived thread could not be started, or its work panicked.
    #[error("start a thread for the network namespace")]
    Thread(#[source] io::Error),
    /// A namespace file could not be opened.
    #[error("open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `lo` could not be raised.
    #[error("raise the interface lo")]
    Loopback(#[source] io::Error),
    /// IPv6 is wanted, and the kernel has none.
    #[error("use IPv6: this kernel has none")]
    NoIpv6,
    /// A sysctl of the namespace could not be written.
    #[error("write {} to {}", .value, .path.display())]
    Sysctl {
        /// The file below /proc/sys/net.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl NetnsError {
    /// Names the known cause of the errno, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Enter(Errno::EPERM) => Some(
                "setns(2) needs CAP_SYS_ADMIN in our own user namespace and in the one that owns the network namespace; \
                 `grep CapEff /proc/self/status` shows ours"
                    .to_owned(),
            ),
            Self::NoIpv6 => Some(
                "`ls /proc/sys/net/ipv6` shows whether it has; with `ipv6.disable=1` on its command line it has not".to_owned(),
            ),
            Self::Enter(Errno::EINVAL) => Some("the descriptor is not of a network namespace".to_owned()),
            _ => None,
        }
    }
}

/// Opens the network namespace of the calling thread.
///
/// It asks for the thread's own, because `/proc/self` is the thread group leader, which may stand in another namespace.
pub fn open_current() -> Result<OwnedFd, NetnsError> {
    let path = PathBuf::from("/proc/thread-self/ns/net");
    File::open(&path).map(OwnedFd::from).map_err(|source| NetnsError::Open { path, source })
}

/// Runs `work` on a short-lived thread inside the network namespace and waits for its result.
///
/// A thread of its own, because setns(2) moves the calling thread alone and nothing must ever have to move back: a
/// thread that failed to return would do its later work in a container. Sockets opened inside stay there for ever.
pub fn in_namespace<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, move || enter(netns).map(|()| work()))
            .map_err(NetnsError::Thread)?;
        thread.join().unwrap_or_else(|_| Err(NetnsError::Thread(io::Error::other("the work panicked"))))
    })
}

/// Starts `work` on a short-lived thread inside the network namespace and does not wait; `work` is told if entering failed.
///
/// This is for callers that must not block; they let `work` answer through a channel of theirs.
pub fn spawn_in_namespace(
    netns: OwnedFd,
    work: impl FnOnce(Result<(), NetnsError>) + Send + 'static,
) -> Result<(), NetnsError> {
    thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            let entered = enter(netns.as_fd());
            drop(netns);
            work(entered);
        })
        .map(drop)
        .map_err(NetnsError::Thread)
}

fn enter(netns: BorrowedFd<'_>) -> Result<(), NetnsError> {
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(NetnsError::Enter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn own_inode() -> u64 {
        std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
    }

    fn fresh_namespace() -> OwnedFd {
        thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            open_current().unwrap()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let before = own_inode();
        let netns = fresh_namespace();
        let inside = in_namespace(netns.as_fd(), own_inode).unwrap();
        assert_ne!(inside, before);
        assert_eq!(own_inode(), before);
    }

    #[test]
    fn spawned_work_answers_through_a_channel() {
        let (sender, receiver) = std::sync::mpsc::channel();
        spawn_in_namespace(fresh_namespace(), move |entered| sender.send(entered.map(|()| own_inode())).unwrap())
            .unwrap();
        assert_ne!(receiver.recv().unwrap().unwrap(), own_inode());
    }

    #[test]
    fn a_descriptor_of_something_else_is_refused_with_a_hint() {
        let file = File::open("/dev/null").unwrap();
        let error = in_namespace(file.as_fd(), || ()).unwrap_err();
        assert!(error.hint().unwrap().contains("not of a network namespace"), "{error:?}");
    }
}
