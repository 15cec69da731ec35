//! A file system that hangs: whoever looks for a file in it waits in the kernel and cannot be killed, as with a dead NFS server.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::sandbox::Sandbox;
use super::wait::eventually;

// fuse(4): operations, as `linux/fuse.h` numbers them.
const GETATTR: u32 = 3;
const INIT: u32 = 26;

/// The file system, mounted in a sandbox. With it everything that it holds up goes.
pub(crate) struct HangingFs<'a> {
    sandbox: &'a Sandbox,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    server: Option<JoinHandle<()>>,
}

impl<'a> HangingFs<'a> {
    /// Mounts it at `hangs` in the sandbox's directory.
    pub(crate) fn mount(sandbox: &'a Sandbox) -> Self {
        let path = sandbox.dir().join("hangs");
        std::fs::create_dir(&path).expect("a directory of our own");
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("Need::Fuse");
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", device.as_raw_fd());
        sandbox.inside_mounts(|| {
            mount(Some("hangs"), &path, Some("fuse"), MsFlags::empty(), Some(options.as_str())).expect("fuse")
        });
        let (stop, waiting) = (Arc::default(), Arc::default());
        let server = std::thread::spawn({
            let (stop, waiting) = (Arc::clone(&stop), Arc::clone(&waiting));
            move || serve(device, &stop, &waiting)
        });
        Self { sandbox, path, stop, waiting, server: Some(server) }
    }

    /// Where to look for what is never found.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until somebody waits.
    pub(crate) fn wait_for_victims(&self, count: usize) {
        eventually("somebody waits for the file system", || {
            (self.waiting.load(Ordering::Relaxed) >= count).then_some(())
        });
    }
}

impl Drop for HangingFs<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // With its last descriptor the connection ends, and all who wait get an error.
        let _ = self.server.take().map(JoinHandle::join);
        let path = self.path.clone();
        self.sandbox.inside_mounts(|| umount2(&path, MntFlags::MNT_DETACH).expect("it is mounted"));
    }
}

/// Answers the first question, and what the root directory is. Whoever asks for more waits.
fn serve(mut device: File, stop: &AtomicBool, waiting: &AtomicUsize) {
    let mut request = vec![0_u8; 1 << 17];
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(20_u8)) != Ok(1) {
            continue;
        }
        let Ok(length) = device.read(&mut request) else { continue };
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let body = match (length, number(4)) {
            (40.., INIT) => {
                // struct fuse_init_out: version 7.31, readahead, flags, background, largest write, granularity, pages.
                let words = [7, 31, 1 << 17, 0, 9 << 16 | 12, 1 << 12, 1, 1];
                words.into_iter().chain([0; 8]).flat_map(u32::to_ne_bytes).collect::<Vec<_>>()
            }
            (40.., GETATTR) => {
                // struct fuse_attr_out: valid for ever; inode 1, a directory of root's.
                let times = [u32::MAX, 0, 0, 0];
                let attributes = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0];
                times.into_iter().chain(attributes).flat_map(u32::to_ne_bytes).collect()
            }
            _ => {
                waiting.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        };
        let mut answer = Vec::from((16 + body.len() as u32).to_ne_bytes());
        answer.extend([0; 4]);
        answer.extend(&request[8..16]);
        answer.extend(body);
        device.write_all(&answer).expect("an answer of the right size");
    }
}
