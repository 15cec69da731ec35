use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::filesystem::{Context, attach};
use super::{MountAttributes, MountError};

/// Is an overlay: what the container writes lies in `upper`, and `lower` stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only layers, uppermost first.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// An empty directory beside it that the kernel needs.
    pub work: PathBuf,
    /// Where it is mounted; a directory of the container's own.
    pub mountpoint: PathBuf,
    /// Keeps its marks in `user.` attributes: what a user namespace may write.
    pub user_xattr: bool,
    /// Never syncs the writable layer (Linux 5.10): without it, each unmount syncs the whole file system that the layer
    /// lies on. What has to survive a power cut belongs in a volume.
    pub volatile: bool,
}

/// Holds id-mapped clones of an overlay's layers, made by the parent for a user namespace.
#[derive(Debug)]
pub struct IdMappedLayers<'a> {
    /// The mountpoint, opened (O_PATH) in this mount namespace.
    pub mountpoint: BorrowedFd<'a>,
    /// The lower layer, one.
    pub lower: BorrowedFd<'a>,
    /// The directory that holds `upper` and `work`.
    pub upper: BorrowedFd<'a>,
}

/// fsconfig(2) takes strings up to 255 bytes.
const LONGEST_VALUE: usize = 255;

impl Overlay {
    /// Returns the path of a layer as fsconfig(2) can take it; `None` for one that has to be named by a descriptor.
    pub fn plain_name(path: &Path) -> Option<&str> {
        path.to_str().filter(|text| text.len() <= LONGEST_VALUE && !text.contains([',', ':', '\\', '"']))
    }

    /// Mounts it over its mountpoint and returns the mount: the container's new root.
    ///
    /// # Errors
    /// [`MountError::Open`] for a layer that is missing; [`MountError::Filesystem`] with the kernel's words.
    pub fn mount(&self) -> Result<OwnedFd, MountError> {
        let mut names = Names::default();
        let lower = self.lower.iter().map(|path| names.of(path)).collect::<Result<Vec<_>, _>>()?;
        let (upper, work) = (names.of(&self.upper)?, names.of(&self.work)?);
        let target = open_directory(&self.mountpoint)?;
        self.mount_named(&lower, &upper, &work, target.as_fd())
    }

    /// Mounts it with layers whose ids the parent has mapped. Overlays want their layers attached somewhere in the
    /// mount namespace: they go below the overlay itself, on its mountpoint, and vanish with the old root.
    ///
    /// # Errors
    /// As [`Overlay::mount`].
    pub fn mount_id_mapped(&self, layers: &IdMappedLayers<'_>) -> Result<OwnedFd, MountError> {
        for layer in [layers.lower, layers.upper] {
            attach(layer, layers.mountpoint)
                .map_err(|e| MountError::change("attach a layer on", &self.mountpoint, e))?;
        }
        let lower = format!("/proc/self/fd/{}", layers.lower.as_raw_fd());
        let beside = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("/proc/self/fd/{}/{name}", layers.upper.as_raw_fd())
        };
        self.mount_named(&[lower], &beside(&self.upper), &beside(&self.work), layers.upper)
    }

    fn mount_named(
        &self,
        lower: &[String],
        upper: &str,
        work: &str,
        target: BorrowedFd<'_>,
    ) -> Result<OwnedFd, MountError> {
        let context = Context::open("overlay", &self.mountpoint)?;
        context.set("source", Some("overlay"))?;
        let lower_all = lower.join(":");
        if lower_all.len() <= LONGEST_VALUE {
            context.set("lowerdir", Some(&lower_all))?;
        } else {
            // One at a time (Linux 6.7). An older kernel takes any key here, and refuses the mount.
            lower.iter().try_for_each(|path| context.set("lowerdir+", Some(path)))?;
        }
        context.set("upperdir", Some(upper))?;
        context.set("workdir", Some(work))?;
        if self.user_xattr {
            context.set("userxattr", None)?;
        }
        if self.volatile {
            context.set("volatile", None)?;
        }
        let mount = context.mount(MountAttributes::default())?;
        attach(mount.as_fd(), target).map_err(|e| MountError::change("attach the root on", &self.mountpoint, e))?;
        Ok(mount)
    }
}

/// Gives paths names that fsconfig(2) takes whatever is in them: the path itself, or that of an open descriptor.
#[derive(Default)]
struct Names {
    open: Vec<OwnedFd>,
}

impl Names {
    fn of(&mut self, path: &Path) -> Result<String, MountError> {
        match Overlay::plain_name(path) {
            Some(text) => Ok(text.to_owned()),
            None => {
                let fd = open_directory(path)?;
                let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
                self.open.push(fd);
                Ok(name)
            }
        }
    }
}

/// Opens (O_PATH) a directory of the host.
///
/// # Errors
/// [`MountError::Open`].
pub fn open_directory(path: &Path) -> Result<OwnedFd, MountError> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::Open { path: path.to_owned(), source: errno.into() })
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an overlay of ")?;
        for lower in &self.lower {
            write!(f, "{} under ", lower.display())?;
        }
        write!(f, "{} on {}", self.upper.display(), self.mountpoint.display())?;
        if self.volatile { f.write_str(", never synced") } else { Ok(()) }
    }
}
