use std::io;
use std::path::{Path, PathBuf};

/// Says which mount operation failed, and on what.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The source of a bind mount could not be opened.
    #[error("open {}", .path.display())]
    Open {
        /// The source.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount's target could not be opened or made inside the root.
    #[error("open {} inside the root file system", .path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A target that is refused for what it is.
    #[error("{}: {reason}", .path.display())]
    Refused {
        /// The target.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file system could not be made or configured.
    #[error("mount {fstype} on {}{}", .target.display(), .kernel.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Filesystem {
        /// Its type.
        fstype: String,
        /// Where.
        target: PathBuf,
        /// The kernel's own words (fsopen(2) keeps them), where there are some.
        kernel: Option<String>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount could not be changed or attached.
    #[error("{operation} {}", .path.display())]
    Change {
        /// What was tried.
        operation: &'static str,
        /// The mount.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A volume could not be filled from the image.
    #[error("copy {} of the image into the volume", .path.display())]
    CopyUp {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A root file system could not be copied.
    #[error("copy {}", .path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Returns the kernel's error, where the kernel refused.
    pub fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::Open { source, .. }
            | Self::Target { source, .. }
            | Self::Filesystem { source, .. }
            | Self::Change { source, .. }
            | Self::CopyUp { source, .. }
            | Self::Copy { source, .. } => Some(source),
            Self::Refused { .. } => None,
        }
    }

    /// Says what may be the cause, or what to do.
    pub fn hint(&self) -> Option<String> {
        let errno = self.cause()?.raw_os_error()?;
        Some(match (self, errno) {
            (Self::Open { path, .. }, libc::ENOENT) => format!("create it first: `mkdir -p {}`", path.display()),
            (Self::Target { .. }, libc::ENOTDIR) => {
                "a directory cannot be mounted on a file, nor a file on a directory".to_owned()
            }
            (Self::Filesystem { fstype, .. }, libc::ENODEV) => {
                format!("this kernel has no {fstype}: `grep {fstype} /proc/filesystems`")
            }
            (Self::Filesystem { fstype, .. }, libc::EPERM) if fstype == "proc" || fstype == "sysfs" => {
                format!(
                    "a user namespace may mount {fstype} only where the host's is whole, without mounts over parts of it"
                )
            }
            (Self::Filesystem { fstype, .. }, libc::EINVAL) if fstype == "overlay" => {
                "the data directory must not itself be an overlay or a network file system; `dmesg | tail` tells more"
                    .to_owned()
            }
            (Self::Change { operation: "pivot into", .. }, libc::EINVAL) => {
                "pivot_root(2) does not work from an initial ramdisk: start from a root on a disk or tmpfs".to_owned()
            }
            (Self::Change { operation: "id-map", path, .. }, libc::EINVAL) => format!(
                "the file system of {} cannot be id-mapped (ext4, xfs, btrfs and, from Linux 6.3, tmpfs can): use another data directory or leave out -U",
                path.display()
            ),
            _ => return None,
        })
    }

    pub(super) fn change(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Change { operation, path: path.to_owned(), source: source.into() }
    }

    pub(super) fn target(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Target { path: path.to_owned(), source: source.into() }
    }
}
