//! sd_notify(3) from inside: a service manager that named a socket to whoever calls the runtime hears from the container's program.
//!
//! The program cannot reach that socket, and its messages would not count: a manager listens to the processes of its service. So
//! the container has a socket of its own, and its word that it is ready is passed on.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use rustix::pipe::PipeFlags;

use super::state::file;
use super::{ContainerDirectory, OciError};

/// The variable that names the socket, here and inside.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// Where the container finds its own, as in runc.
const INSIDE: &str = "/run/notify";
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// A longer message is cut off.
const LONGEST: usize = 4096;
/// So long the manager may take to hear what it was told (sd_notify_barrier(3)).
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Gives a container a place for its socket, and a variable that names it. It cannot put anything else there.
pub(super) fn add_to(spec: &mut Spec, directory: &ContainerDirectory) -> Result<(), OciError> {
    let Some(process) = spec.process_mut() else { return Ok(()) };
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| !entry.starts_with(&format!("{VARIABLE}=")));
    env.push(format!("{VARIABLE}={INSIDE}/{SOCKET}"));
    process.set_env(Some(env));
    let path = directory.path().join(DIRECTORY);
    // Whoever the program runs as looks for the socket there.
    let made = DirBuilder::new().mode(0o755).create(&path);
    made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
        .map_err(file("make", &path))?;
    let mut mount = Mount::default();
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
    mount
        .set_destination(PathBuf::from(INSIDE))
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(path))
        .set_options(Some(options.map(str::to_owned).to_vec()));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// Is a container's own socket, and the way to the manager's.
#[derive(Debug)]
pub(super) struct Notify {
    own: OwnedFd,
    manager: OwnedFd,
}

impl Notify {
    /// Makes the container's socket, before its program runs; `None` for a container that has no place for it.
    ///
    /// # Errors
    /// [`OciError::File`] where the manager does not listen: nothing can be passed on.
    pub(super) fn listen(directory: &ContainerDirectory, manager: &OsStr) -> Result<Option<Self>, OciError> {
        let path = directory.path().join(DIRECTORY);
        if !path.is_dir() {
            return Ok(None);
        }
        let own = bind(&path).map_err(file("make the socket in", &path))?;
        let manager_path = Path::new(manager);
        let connected = connect(manager).map_err(io::Error::from);
        let manager = connected.map_err(file("connect to NOTIFY_SOCKET", manager_path))?;
        Ok(Some(Self { own, manager }))
    }

    /// Takes one message. The first that says that the program is ready is passed on, with the process that it is now all about;
    /// the answer is whether it was this one.
    ///
    /// # Errors
    /// The manager cannot be told.
    pub(super) fn hear(&self, main_pid: i32) -> io::Result<bool> {
        let mut message = [0; LONGEST];
        // Descriptors that came with it are not taken: the kernel closes them.
        let length = match rustix::net::recv(&self.own, &mut message, RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let mut lines = message[..length].split(|byte| *byte == b'\n');
        if !lines.any(|line| line == b"READY=1") {
            return Ok(false);
        }
        for text in ["READY=1\n".to_owned(), format!("MAINPID={main_pid}\n")] {
            rustix::net::send(&self.manager, text.as_bytes(), SendFlags::NOSIGNAL)?;
        }
        Ok(true)
    }

    /// Waits until the manager has heard all: who is gone by then is nobody of the service's, and does not count.
    fn wait_until_heard(&self) -> io::Result<()> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let fds = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&self.manager, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL)?;
        drop(theirs);
        let mut fds = [PollFd::new(&ours, PollFlags::empty())];
        match poll(&mut fds, Some(&BARRIER)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until the program is ready, or the container has ended; the manager knows then.
    ///
    /// # Errors
    /// [`OciError::Kernel`] where the manager could not be told. The container runs all the same.
    pub(super) fn wait(self, process: BorrowedFd<'_>, main_pid: i32) -> Result<(), OciError> {
        let failed = || OciError::kernel("tell NOTIFY_SOCKET that the container is ready");
        loop {
            let mut fds = [PollFd::new(&self.own, PollFlags::IN), PollFd::from_borrowed_fd(process, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed()(errno.into())),
            }
            let [heard, ended] = fds.map(|fd| !fd.revents().is_empty());
            // What it said before its end counts.
            if heard && self.hear(main_pid).map_err(failed())? {
                return self.wait_until_heard().map_err(failed());
            }
            if ended && !heard {
                return Ok(());
            }
        }
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

/// Whoever the program runs as may write to the socket.
fn bind(directory: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(directory)?;
    let socket = datagram_socket()?;
    // An address has room for 107 bytes, a path may have more.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", opened.as_fd().as_raw_fd()))?;
    match fs::remove_file(directory.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = rustix::process::umask(Mode::empty());
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    Ok(socket)
}

/// Connects to a path, or to a name that is no file's: one that begins with `@`.
fn connect(manager: &OsStr) -> Result<OwnedFd, Errno> {
    let address = match manager.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    };
    let socket = datagram_socket()?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

fn datagram_socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}
