//! A mount of another mount namespace: open_tree(2) clones only what lies in the caller's, so a process enters the other one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::MountError;
use crate::sys::process::join_namespaces;
use crate::sys::{Channel, CloneRequest, clone_process, exit_now, parse_message, send_message};

/// Clones the mount at `path`, as it is found in the mount namespace `namespace` and below that one's root, detached. The caller
/// must have one thread.
///
/// # Errors
/// [`MountError::Open`].
pub fn clone_from(namespace: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, MountError> {
    let failed = |source| MountError::Open { path: path.to_owned(), source };
    let (mut ours, theirs) = Channel::pair().map_err(failed)?;
    let child = clone_process(&CloneRequest::default(), |_| {
        let sent = match take(namespace, path) {
            Ok(tree) => send_message(&theirs, &0, &[tree.as_fd()]),
            Err(error) => send_message(&theirs, &error.raw_os_error().unwrap_or(libc::EIO), &[]),
        };
        exit_now(i32::from(sent.is_err()))
    })
    .map_err(|error| failed(io::Error::other(error)))?;
    drop(theirs);
    let frame = ours.recv().map_err(failed)?;
    let id = rustix::process::WaitId::PidFd(child.pidfd.as_fd());
    let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
    let mut frame = frame.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
    let errno: i32 = parse_message(&frame).map_err(failed)?;
    frame.fds.pop().ok_or_else(|| failed(io::Error::from_raw_os_error(errno)))
}

fn take(namespace: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    join_namespaces(namespace, libc::CLONE_NEWNS as u64)?;
    // What stands there is the other container's to choose: a link is not followed.
    let no_link = OpenTreeFlags::from_bits_retain(AtFlags::SYMLINK_NOFOLLOW.bits());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | no_link;
    Ok(open_tree(CWD, path, flags)?)
}
