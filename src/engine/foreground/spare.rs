//! Directories of containers that wrote nothing, kept for the next: making and removing seven directories is the
//! slowest thing about a short run, and on a file system that discards what it frees each removal waits for the disk.
//!
//! A directory goes by rename(2), so it has one owner at any time: `clean` → a container's → `used`, and back to `clean` by the
//! hands of the next run, while that waits for its container anyway.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::engine::ContainerFiles;
use crate::spec::ContainerRequest;
use crate::store::Directories;

/// So many of each kind are kept.
const SLOTS: usize = 4;

/// Is where they are kept. The number is that of the layout of a container's directory.
#[derive(Debug)]
pub(super) struct Spares {
    directory: PathBuf,
}

impl Spares {
    pub(super) fn of(dirs: &Directories) -> Self {
        Self { directory: dirs.data().join("cache/layers-1") }
    }

    fn slots(&self, kind: &'static str) -> impl Iterator<Item = PathBuf> {
        (0..SLOTS).map(move |slot| self.directory.join(format!("{kind}-{slot}")))
    }

    /// Makes a clean one the container's, if there is one and it suits: the root of a container has mode and owner of its
    /// image, and they are those of the upper layer.
    pub(super) fn take(&self, files: &ContainerFiles, rootfs: &Path) {
        if fs::metadata(rootfs).is_ok_and(|found| is_usual(&found)) {
            take_one(self.slots("clean"), files.directory());
        }
    }

    /// Keeps the directory of a container that has ended; says whether it did.
    pub(super) fn keep(&self, files: &ContainerFiles, request: &ContainerRequest) -> bool {
        // Under a user namespace the layers bear other attributes.
        if request.namespaces.user.is_some() || !is_unwritten(&files.upper()).unwrap_or(false) {
            return false;
        }
        if files.remove_generated().is_err() {
            return false;
        }
        match put(files.directory(), self.slots("used")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.directory).is_ok() && put(files.directory(), self.slots("used")).is_ok()
            }
            outcome => outcome.is_ok(),
        }
    }

    /// Cleans one that was used. Meanwhile it lies in the container's own directory, and goes with that if we are killed.
    pub(super) fn clean_one(&self, files: &ContainerFiles) {
        let at = files.directory().join("spare");
        if !take_one(self.slots("used"), &at) {
            return;
        }
        let spare = ContainerFiles::at(at.clone());
        if spare.clear_work().and_then(|()| put(&at, self.slots("clean"))).is_err() {
            // What is still there then goes with the container's directory.
            let _ = fs::remove_dir_all(&at);
        }
    }
}

fn take_one(mut slots: impl Iterator<Item = PathBuf>, to: &Path) -> bool {
    slots.any(|slot| move_to(&slot, to).is_ok())
}

fn put(from: &Path, slots: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    let mut last = io::ErrorKind::AlreadyExists.into();
    for slot in slots {
        match move_to(from, &slot) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            outcome => return outcome,
        }
    }
    Err(last)
}

fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Says whether an upper layer is as it was made: empty, and with no attribute that a container gave it.
fn is_unwritten(upper: &Path) -> io::Result<bool> {
    let directory = File::open(upper)?;
    if !is_usual(&directory.metadata()?) {
        return Ok(false);
    }
    let mut names = [0_u8; 256];
    let length = rustix::fs::flistxattr(&directory, &mut names)?;
    // Those of the overlay itself are hidden from whoever is inside.
    let overlay_s = |name: &[u8]| name.is_empty() || name.starts_with(b"trusted.overlay.");
    Ok(names[..length].split(|byte| *byte == 0).all(overlay_s) && fs::read_dir(upper)?.next().is_none())
}

/// Says whether a root has the mode and owner that nearly all have, and all spare ones.
fn is_usual(root: &Metadata) -> bool {
    root.mode() & 0o7777 == 0o755 && root.uid() == 0 && root.gid() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ContainerId;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn container(dirs: &Directories) -> ContainerFiles {
        let files = ContainerFiles::of(dirs, &ContainerId::generate());
        fs::create_dir_all(files.upper()).unwrap();
        fs::create_dir_all(files.work().join("work/incompat/volatile")).unwrap();
        fs::write(files.work().join("work/incompat/volatile/dirty"), "").unwrap();
        files
    }

    #[test]
    fn a_directory_goes_round() {
        let temporary = tempfile::tempdir().unwrap();
        let dirs = Directories::new(temporary.path().join("run"), temporary.path().join("data"));
        dirs.create().unwrap();
        let spares = Spares::of(&dirs);
        let first = container(&dirs);
        assert!(put(first.directory(), spares.slots("used")).is_err(), "there is no cache yet");
        fs::create_dir_all(&spares.directory).unwrap();
        put(first.directory(), spares.slots("used")).unwrap();
        let second = container(&dirs);
        spares.clean_one(&second);
        let third = ContainerFiles::of(&dirs, &ContainerId::generate());
        let rootfs = temporary.path().join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        fs::set_permissions(&rootfs, fs::Permissions::from_mode(0o700)).unwrap();
        spares.take(&third, &rootfs);
        assert!(!third.directory().exists(), "a root of another mode");
        fs::set_permissions(&rootfs, fs::Permissions::from_mode(0o755)).unwrap();
        spares.take(&third, &rootfs);
        assert!(third.upper().is_dir() && third.work().is_dir() && !third.work().join("work").exists());
        assert!(!first.directory().exists() && !second.directory().join("spare").exists());
        for _ in 0..SLOTS {
            put(container(&dirs).directory(), spares.slots("used")).unwrap();
        }
        assert!(put(second.directory(), spares.slots("used")).is_err(), "all slots are taken");
    }

    #[test]
    fn what_was_written_is_not_kept() {
        let temporary = tempfile::tempdir().unwrap();
        let upper = temporary.path().join("upper");
        fs::create_dir(&upper).unwrap();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_unwritten(&upper).unwrap());
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_unwritten(&upper).unwrap());
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
        symlink("x", upper.join("y")).unwrap();
        assert!(!is_unwritten(&upper).unwrap());
    }
}
