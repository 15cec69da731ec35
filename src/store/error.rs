use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Says which operation on which file of ours failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written; what was there before is still there.
    #[error("write {}", .path.display())]
    Write {
        /// The file that was to be replaced.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A value has no JSON form.
    #[error("encode {}", .path.display())]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// What the encoder said.
        #[source]
        source: serde_json::Error,
    },
    /// A file is empty, cut off or not what was written: see [`set_aside`](super::set_aside).
    #[error("{} is damaged", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: serde_json::Error,
    },
    /// A file was written by a later version of this program, which may rely on what we do not know.
    #[error("{} has format {version}, made by {made_by}; this version knows formats up to {known} and refuses to touch it", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
        /// The program that wrote it.
        made_by: String,
        /// The newest format known here.
        known: u32,
    },
    /// A file could not be renamed.
    #[error("rename {}", .path.display())]
    Rename {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be removed.
    #[error("remove {}", .path.display())]
    Remove {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory could not be made or opened.
    #[error("make the directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory is one that somebody else could change under us.
    #[error("{} is not safe to use: {reason}", .path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that is not one component of a path.
    #[error("`{0}` is not a name of a project, container or volume")]
    Name(String),
    /// A lock could not be taken for a reason other than that somebody holds it.
    #[error("lock {}", .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A lock is held by another process.
    #[error("{} is locked by {}", .path.display(), describe_holder(*.holder))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that wrote itself into the file, if it did.
        holder: Option<i32>,
    },
    /// What the kernel knows about a process could not be read.
    #[error("look at process {pid}")]
    Process {
        /// The process.
        pid: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn describe_holder(holder: Option<i32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl StoreError {
    /// Returns what probably is the cause and the command that shows it, where the error has a known one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Write { path, source }
            | Self::Rename { path, source }
            | Self::Remove { path, source }
            | Self::Directory { path, source }
            | Self::Lock { path, source }
            | Self::Read { path, source } => errno_hint(path, source),
            Self::Newer { made_by, .. } => Some(format!("use {made_by}, or stop its containers with it first")),
            Self::Untrusted { path, .. } => Some(format!(
                "see `ls -ld {0}`; remove it, or choose another with --run-dir or --data-dir",
                path.display()
            )),
            Self::Locked { holder: Some(pid), .. } => Some(format!("`ps -fp {pid}` shows who that is")),
            _ => None,
        }
    }
}

fn errno_hint(path: &Path, source: &io::Error) -> Option<String> {
    let shown = path.parent().unwrap_or(path).display();
    let elsewhere = "choose another place with --run-dir or --data-dir";
    match Errno::from_io_error(source)? {
        Errno::ROFS => Some(format!(
            "the file system is mounted read-only: `findmnt -T {shown}` shows it; remount it or {elsewhere}"
        )),
        Errno::NOSPC | Errno::DQUOT => {
            Some(format!("the file system is full: see `df -h {shown}` and `df -i {shown}`; make room or {elsewhere}"))
        }
        Errno::ACCESS | Errno::PERM => Some(format!("see `namei -l {shown}`; run as its owner or {elsewhere}")),
        Errno::NOTDIR | Errno::EXIST => Some(format!("a file is in the way: see `namei -l {shown}`")),
        Errno::NAMETOOLONG => Some("choose a shorter project or volume name".to_owned()),
        _ => None,
    }
}
