//! A cgroup that exists, in all the hierarchies it has a directory in.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

use super::files::{is_gone, keyed, read_if_there};
use super::hierarchy::{Mount, subdirectories};
use super::{CgroupError, CgroupPath, Controller, Hierarchies};
use crate::sys::read_pseudo_file;

/// Is a cgroup: the same path in v2, where that is mounted, and in the v1 hierarchies that limit something.
///
/// Dropping it closes descriptors; only [`remove`](Self::remove) removes directories.
#[derive(Debug)]
pub struct Cgroup {
    path: CgroupPath,
    pub(super) v2: Option<V2>,
    pub(super) v1: Vec<V1>,
    pub(super) warnings: Vec<String>,
    /// How many levels above it were made with it.
    pub(super) parents: usize,
}

/// Is the directory in the v2 hierarchy.
#[derive(Debug)]
pub(super) struct V2 {
    pub dir: PathBuf,
    descriptor: OwnedFd,
    /// The controllers that it was given, read when first asked for.
    controllers: OnceLock<String>,
}

/// Is the directory in one v1 hierarchy.
#[derive(Debug)]
pub(super) struct V1 {
    pub dir: PathBuf,
    pub controllers: Vec<String>,
}

impl V2 {
    pub(super) fn open(dir: PathBuf) -> Result<Self, CgroupError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&dir, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Self { dir, descriptor, controllers: OnceLock::new() }),
            Err(errno) => Err(CgroupError::Open { path: dir, source: errno.into() }),
        }
    }

    /// Answers whether it was given a controller, by its name.
    pub(super) fn has(&self, controller: &str) -> bool {
        // Unreadable is the same as empty: what needs the controller becomes the error.
        let names =
            self.controllers.get_or_init(|| read_pseudo_file(self.dir.join("cgroup.controllers")).unwrap_or_default());
        names.split_whitespace().any(|name| name == controller)
    }

    /// Notes what it was just given: saves the look.
    pub(super) fn given(&self, controllers: &[Controller]) {
        let names: Vec<&str> = controllers.iter().map(|controller| controller.v2_name()).collect();
        let _ = self.controllers.set(names.join(" "));
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Hierarchies {
    /// Opens a cgroup that was made before; `None` where no hierarchy has it.
    pub fn open(&self, path: &CgroupPath) -> Result<Option<Cgroup>, CgroupError> {
        self.open_in(path, self.v1.iter())
    }

    /// Opens a cgroup that was made before, in the v2 hierarchy and in these of v1.
    pub(super) fn open_in<'a>(
        &'a self,
        path: &CgroupPath,
        v1: impl Iterator<Item = &'a Mount>,
    ) -> Result<Option<Cgroup>, CgroupError> {
        let v2 = match self.v2.as_ref().map(|mount| V2::open(path.below(&mount.point))) {
            Some(Err(CgroupError::Open { source, .. })) if is_gone(&source) => None,
            other => other.transpose()?,
        };
        let v1: Vec<V1> = v1
            .map(|mount| V1 { dir: path.below(&mount.point), controllers: mount.controllers.clone() })
            .filter(|v1| v1.dir.is_dir())
            .collect();
        Ok((v2.is_some() || !v1.is_empty()).then(|| Cgroup::new(path.clone(), v2, v1, Vec::new())))
    }
}

impl Cgroup {
    pub(super) fn new(path: CgroupPath, v2: Option<V2>, v1: Vec<V1>, warnings: Vec<String>) -> Self {
        Self { path, v2, v1, warnings, parents: 0 }
    }

    /// Returns where it lies below each hierarchy's mount point.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// Returns what was asked for and has no effect on this host, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the v2 directory, for clone3(2) with CLONE_INTO_CGROUP: the process is born in its cgroup and no limit comes
    /// late. `None` where v2 is not mounted.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(|v2| v2.descriptor.as_fd())
    }

    /// Opens `tasks` of each v1 directory for writing.
    ///
    /// Whoever writes `0` to all of them moves itself: a thread moving only itself takes 0.2 ms, where a parent that moves
    /// its child through `cgroup.procs` waits 5 to 13 ms for a lock that every fork on the machine takes.
    pub fn v1_tasks(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        self.v1.iter().map(|v1| open_for_writing(v1.dir.join("tasks"))).collect()
    }

    /// Opens `cgroup.procs` of the v2 directory for writing, for a process that was not born there and writes `0`.
    pub fn v2_procs(&self) -> Result<Option<OwnedFd>, CgroupError> {
        self.v2.as_ref().map(|v2| open_for_writing(v2.dir.join("cgroup.procs"))).transpose()
    }

    /// Lists the processes in it and in the cgroups below it.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = BTreeSet::new();
        // Between clone and joining one hierarchy may know more than another: a process is born in v2's or joins v1's first.
        for dir in self.v1.first().map(|v1| &v1.dir).into_iter().chain(self.v2.as_ref().map(|v2| &v2.dir)) {
            collect(dir, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Answers whether no process is in it or below it. A zombie does not count.
    pub fn is_empty(&self) -> Result<bool, CgroupError> {
        match &self.v2 {
            Some(v2) => {
                Ok(read_if_there(&v2.dir.join("cgroup.events"))?
                    .is_none_or(|text| keyed(&text, "populated") == Some(0)))
            }
            None => self.processes().map(|pids| pids.is_empty()),
        }
    }

    /// Opens `cgroup.events`: it becomes ready for POLLPRI (epoll: EPOLLPRI) when the cgroup's last process has gone, or
    /// its first has come; [`is_empty`](Self::is_empty) then says which. `None` where v2 is not mounted.
    pub fn events(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(v2) = &self.v2 else { return Ok(None) };
        let path = v2.dir.join("cgroup.events");
        match File::open(&path) {
            Ok(file) => Ok(Some(file.into())),
            Err(source) => Err(CgroupError::Open { path, source }),
        }
    }

    /// Names the v1 hierarchies it has a directory in, by their controllers, in the order of [`v1_tasks`](Self::v1_tasks).
    pub fn v1_names(&self) -> Vec<String> {
        self.v1.iter().map(|v1| v1.controllers.join(",")).collect()
    }

    /// Names its directories as /sys/fs/cgroup does: one for each of version 1's hierarchies, or the one of version 2 by an empty name.
    pub fn named_directories(&self) -> Vec<(String, PathBuf)> {
        let name = |v1: &V1| v1.controllers.join(",").trim_start_matches("name=").to_owned();
        let v1: Vec<_> = self.v1.iter().map(|v1| (name(v1), v1.dir.clone())).collect();
        if v1.is_empty() { self.v2.iter().map(|v2| (String::new(), v2.dir.clone())).collect() } else { v1 }
    }

    /// Iterates over its directories, v2 last.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|v1| v1.dir.as_path()).chain(self.v2.iter().map(|v2| v2.dir.as_path()))
    }

    /// Returns the directory in the v1 hierarchy with a controller.
    pub(super) fn v1_with(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|v1| v1.controllers.iter().any(|name| name == controller)).map(|v1| v1.dir.as_path())
    }
}

/// Adds the processes of a directory and of those below it.
fn collect(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    match read_if_there(&dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse::<i32>().ok())),
        // A threaded cgroup's processes stand in the cgroup above it.
        Err(CgroupError::Read { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    for name in subdirectories(dir)? {
        collect(&dir.join(name), pids)?;
    }
    Ok(())
}

fn open_for_writing(path: PathBuf) -> Result<OwnedFd, CgroupError> {
    let opened: io::Result<File> =
        OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW).open(&path);
    match opened {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(CgroupError::Open { path, source }),
    }
}
