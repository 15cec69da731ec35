//! Device nodes for a container in a user namespace, where mknod(2) is refused: made outside, each as a mount of its own.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::bind::clone_tree;
use super::filesystem::{Context, attach};
use super::root::set_propagation;
use super::{Device, MountAttributes, MountError, Parents, Propagation};
use crate::sys::mount::{MountChange, change_mount};
use crate::sys::{Channel, CloneRequest, clone_process, exit_now, parse_message, send_message};

/// A device is opened, and that is all: what a mount of one alone must not be good for.
const FLAGS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;

/// Is what the process that makes the nodes says; their mounts ride on the frame.
#[derive(Serialize, Deserialize)]
enum Report {
    Made,
    Failed { at: usize, errno: i32 },
}

/// Makes device nodes and returns a detached mount of each, in their order. Where no node can be made the host's own are taken.
/// Only for a process with one thread.
///
/// Nodes work where the file system they stand on belongs to the initial user namespace: one of ours, which nobody sees, in the mount
/// namespace of a process that ends at once. A mount that is detached already can be cloned since Linux 6.15 only.
///
/// # Errors
/// [`MountError::Change`] with the device; [`MountError::Open`] where the host has no such node either.
pub fn make_detached(devices: &[Device]) -> Result<Vec<OwnedFd>, MountError> {
    let failed = |source| MountError::change("make device nodes in", Path::new("/"), source);
    let (mut ours, theirs) = Channel::pair().map_err(failed)?;
    let request = CloneRequest { namespaces: libc::CLONE_NEWNS as u64, ..CloneRequest::default() };
    let child = clone_process(&request, |_| {
        let sent = match make_nodes(devices) {
            Ok(mounts) => {
                let mounts: Vec<BorrowedFd<'_>> = mounts.iter().map(AsFd::as_fd).collect();
                send_message(&theirs, &Report::Made, &mounts)
            }
            Err((at, errno)) => send_message(&theirs, &Report::Failed { at, errno }, &[]),
        };
        exit_now(i32::from(sent.is_err()))
    })
    .map_err(|error| failed(io::Error::other(error)))?;
    drop(theirs);
    let frame = ours.recv();
    let id = rustix::process::WaitId::PidFd(child.pidfd.as_fd());
    let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
    let frame = frame.map_err(failed)?.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
    match parse_message(&frame).map_err(failed)? {
        Report::Made => Ok(frame.fds),
        // Inside another container, say.
        Report::Failed { errno: libc::EPERM, .. } => devices.iter().map(of_host).collect(),
        Report::Failed { at, errno } => {
            let path = devices.get(at).map_or(Path::new("/"), |device| device.path.as_path());
            Err(MountError::change("make device", path, io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Runs in the process of its own. An error comes with the number of the device.
fn make_nodes(devices: &[Device]) -> Result<Vec<OwnedFd>, (usize, i32)> {
    rustix::process::umask(Mode::empty());
    let tmpfs = hidden_tmpfs().map_err(|error| (0, errno(&error)))?;
    let make = |(at, device): (usize, &Device)| {
        let name = at.to_string();
        let node = Device { path: Path::new("/").join(&name), ..device.clone() };
        node.make(tmpfs.as_fd(), &mut Parents::default()).map_err(|error| (at, errno(&error)))?;
        clone_tree(tmpfs.as_fd(), Path::new(&name), false).map_err(|errno| (at, errno.raw_os_error()))
    };
    devices.iter().enumerate().map(make).collect()
}

/// Mounts a tmpfs over the root, by which this process still finds its way.
fn hidden_tmpfs() -> Result<OwnedFd, MountError> {
    set_propagation(Propagation::RecursivePrivate)?;
    let here = Path::new("/");
    let tmpfs = Context::open("tmpfs", here)?.mount(MountAttributes::of(FLAGS))?;
    let root = open(here, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| MountError::target(here, e))?;
    attach(tmpfs.as_fd(), root.as_fd()).map_err(|error| MountError::change("attach", here, error))?;
    Ok(tmpfs)
}

fn errno(error: &MountError) -> i32 {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.and_then(io::Error::raw_os_error).unwrap_or(libc::EIO)
}

fn of_host(device: &Device) -> Result<OwnedFd, MountError> {
    let failed = |source| MountError::Open { path: device.path.clone(), source };
    let tree = clone_tree(CWD, &device.path, false).map_err(|errno: Errno| failed(errno.into()))?;
    change_mount(tree.as_fd(), &MountChange { set: FLAGS, ..MountChange::default() }).map_err(failed)?;
    Ok(tree)
}
