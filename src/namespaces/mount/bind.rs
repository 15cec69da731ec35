use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, open};
use rustix::mount::{OpenTreeFlags, open_tree};
use serde::{Deserialize, Serialize};

use super::copy_up::copy_up;
use super::filesystem::attach;
use super::target::{TargetKind, open_at, open_target};
use super::{MountAttributes, MountError, Propagation};
use crate::sys::mount::{MountChange, change_mount};

/// Is a bind mount whose source was opened before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// The number of its source.
    pub source: usize,
    /// Where, inside the root.
    pub target: PathBuf,
    /// How its flags differ from the source's.
    pub attributes: MountAttributes,
    /// How mounts travel between source and target; as at the source where `None`.
    pub propagation: Option<Propagation>,
    /// Fills an empty source from what the image has at the target.
    pub copy_up: bool,
    /// Has mountinfo list it where the description has it, which takes the kernel a grace period of RCU (0.1 ms).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_order: bool,
}

/// Is a detached clone of a tree of the host.
#[derive(Debug)]
pub struct Source {
    tree: OwnedFd,
    kind: TargetKind,
    recursive: bool,
}

impl Source {
    /// Wraps a detached tree that somebody else cloned.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of_tree(tree: OwnedFd, recursive: bool) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&tree)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        Ok(Self { tree, kind: if is_directory { TargetKind::Directory } else { TargetKind::File }, recursive })
    }

    /// Clones it once more. The kernel lists mounts by their age since Linux 6.8: one that is as old as its mounting stands in mountinfo
    /// where the description has it. A kernel before 6.15 clones no detached tree; then the order is another. The one that it replaces is taken
    /// apart at once, and the kernel waits for its readers.
    fn renewed(self) -> Self {
        match clone_tree(self.tree.as_fd(), Path::new(""), self.recursive) {
            Ok(tree) => Self { tree, ..self },
            Err(_) => self,
        }
    }
}

/// Clones the tree at `path` (open_tree(2) with OPEN_TREE_CLONE): from now on it does not matter what happens to the path.
/// With `below`, that part of it: symbolic links are followed as if `path` were `/`, so they do not lead out of it.
///
/// # Errors
/// [`MountError::Open`].
pub fn open_source(path: &Path, below: Option<&Path>, recursive: bool) -> Result<Source, MountError> {
    let shown = || below.map_or_else(|| path.to_owned(), |below| path.join(below));
    let error = |errno: rustix::io::Errno| MountError::Open { path: shown(), source: errno.into() };
    let tree = match below {
        None => clone_tree(CWD, path, recursive),
        Some(below) => {
            let volume = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
            let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let part = open_at(volume.as_fd(), below, OFlags::PATH | OFlags::CLOEXEC, flags).map_err(error)?;
            clone_tree(part.as_fd(), Path::new(""), recursive)
        }
    };
    Source::of_tree(tree.map_err(error)?, recursive).map_err(|source| MountError::Open { path: shown(), source })
}

/// Clones the mount (with `recursive` the mounts below it too) at `path`, detached. An empty path means `at` itself.
pub(super) fn clone_tree(at: BorrowedFd<'_>, path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::from_bits_retain(AtFlags::EMPTY_PATH.bits());
    }
    open_tree(at, path, flags)
}

impl BindMount {
    /// Attaches `source` at the target, which is made where it is missing, and returns the mount.
    ///
    /// # Errors
    /// Those of [`open_target`]; [`MountError::Change`]; [`MountError::CopyUp`].
    pub fn attach(&self, root: BorrowedFd<'_>, source: Source) -> Result<OwnedFd, MountError> {
        let target = open_target(root, &self.target, source.kind)?;
        let stat = rustix::fs::fstat(&target).map_err(|errno| MountError::target(&self.target, errno))?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() != (source.kind == TargetKind::Directory) {
            return Err(MountError::target(&self.target, rustix::io::Errno::NOTDIR));
        }
        if self.copy_up && source.kind == TargetKind::Directory {
            copy_up(target.as_fd(), source.tree.as_fd())
                .map_err(|(path, source)| MountError::CopyUp { path: self.target.join(path), source })?;
        }
        let source = if self.in_order { source.renewed() } else { source };
        for change in self.changes(source.recursive) {
            change_mount(source.tree.as_fd(), &change)
                .map_err(|e| MountError::change("set the flags of", &self.target, e))?;
        }
        attach(source.tree.as_fd(), target.as_fd()).map_err(|e| MountError::change("bind on", &self.target, e))?;
        Ok(source.tree)
    }

    /// Lists what is changed about the source before it is attached, where `recursive` says that it holds mounts below it: one
    /// change where the mount is alone or where everything is for the whole tree.
    pub fn changes(&self, recursive: bool) -> Vec<MountChange<'static>> {
        let (clear, set) = self.attributes.of_mount();
        let (tree_clear, tree_set) = self.attributes.of_tree();
        let propagation = self.propagation.map_or(0, Propagation::bits);
        let one = MountChange { set, clear, propagation, id_map: None, recursive: false };
        let all = if recursive {
            let below = self.propagation.is_some_and(Propagation::recursive);
            let propagation_below = if below { propagation } else { 0 };
            let tree = MountChange { set: tree_set, clear: tree_clear, propagation: propagation_below, ..one };
            vec![
                MountChange { recursive: true, ..tree },
                MountChange { propagation: propagation - propagation_below, ..one },
            ]
        } else {
            vec![MountChange { set: set | tree_set, clear: clear | tree_clear, ..one }]
        };
        all.into_iter().filter(|change| (change.set, change.clear, change.propagation) != (0, 0, 0)).collect()
    }
}

/// Binds what `node` is open on over `target`; `path` names the place in errors.
///
/// # Errors
/// [`MountError::Change`].
pub fn bind_node(node: BorrowedFd<'_>, target: BorrowedFd<'_>, path: &Path) -> Result<(), MountError> {
    let tree = clone_tree(node, Path::new(""), false).map_err(|errno| MountError::change("bind on", path, errno))?;
    attach(tree.as_fd(), target).map_err(|error| MountError::change("bind on", path, error))
}

impl fmt::Display for BindMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, target, attributes, propagation, copy_up, .. } = self;
        write!(f, "source {source} on {} ({attributes}", target.display())?;
        propagation.map_or(Ok(()), |propagation| write!(f, ",{propagation}"))?;
        f.write_str(")")?;
        if *copy_up { f.write_str(", filled from the image where empty") } else { Ok(()) }
    }
}
