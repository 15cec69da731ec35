//! Making a cgroup in the hierarchies that it needs, with its limits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::files::{is_gone, read, write};
use super::handle::{V1, V2};
use super::hierarchy::Mount;
use super::resources::{self, MissingWeight};
use super::{Cgroup, CgroupError, CgroupPath, Controller, Hierarchies, limits};
use crate::spec::{Mark, ResourceLimits};

/// How often a directory is tried again whose parent somebody else is removing at the same moment.
const RACES: usize = 8;

/// Which controllers are used on v2 and which on v1.
pub(super) struct Split {
    pub v2: Vec<Controller>,
    v1: Vec<Controller>,
    warnings: Vec<String>,
}

/// What v2 is to have in any case: without these two it counts nothing, limited or not.
pub(super) const COUNTED: [Controller; 2] = [Controller::Memory, Controller::Pids];

impl Hierarchies {
    /// Makes a cgroup with these limits; one that exists gets them.
    ///
    /// Every limit is looked up before anything is touched: a limit whose controller no hierarchy has is an error, but for
    /// the I/O weight, which is a warning. Where a step fails, the directories made here are removed again.
    pub fn create(&self, path: &CgroupPath, limits: &ResourceLimits) -> Result<Cgroup, CgroupError> {
        limits::check(limits)?;
        let resources = limits::resources(limits, self.v1_with("cpu").is_none());
        let split = self.split(&resources)?;
        let mut made = Vec::new();
        let result = self.build(path, &resources, split, &mut made).map_err(|error| match error {
            // Nobody wrote a bundle's key.
            CgroupError::Resource { source, .. } => *source,
            other => other,
        });
        if result.is_err() {
            for dir in made.iter().rev() {
                let _ = fs::remove_dir(dir);
            }
        }
        result
    }

    /// Finds a hierarchy for each controller that the limits need.
    pub(super) fn split(&self, resources: &LinuxResources) -> Result<Split, CgroupError> {
        let mut split = Split { v2: Vec::new(), v1: Vec::new(), warnings: Vec::new() };
        for controller in resources::needed(resources) {
            if self.v1_with(controller.v1_name()).is_some() {
                split.v1.push(controller);
            } else if self.v2_has(controller) {
                split.v2.push(controller);
            } else if controller == Controller::Io {
                split
                    .warnings
                    .push("the i/o weight has no effect: no cgroup hierarchy has the controller `io`".to_owned());
            } else {
                return Err(CgroupError::MissingController { controller, limit: controller.limits() });
            }
        }
        Ok(split)
    }

    /// Lists the v1 hierarchies in which it gets a directory, each once: those with a limit and, without v2, those by which its
    /// processes are found and kept from devices.
    pub(super) fn v1_places(&self, split: &Split) -> Result<Vec<&Mount>, CgroupError> {
        let mut places: Vec<&Mount> = Vec::new();
        for controller in &split.v1 {
            places.push(self.v1_with(controller.v1_name()).ok_or(CgroupError::NoHierarchy)?);
        }
        if self.v2.is_none() {
            // Somewhere the container's processes have to be found and stopped: the freezer can do both.
            let holder = self.v1_with("freezer").or_else(|| self.v1_with("pids")).or_else(|| self.v1.first());
            places.push(holder.ok_or(CgroupError::NoHierarchy)?);
            places.extend(self.v1_with("devices"));
        }
        let mut once: Vec<&Mount> = Vec::new();
        for mount in places {
            if !once.iter().any(|had| had.point == mount.point) {
                once.push(mount);
            }
        }
        Ok(once)
    }

    fn build(
        &self,
        path: &CgroupPath,
        resources: &LinuxResources,
        split: Split,
        made: &mut Vec<PathBuf>,
    ) -> Result<Cgroup, CgroupError> {
        let mut cgroup = self.watch.time(Mark::MakeCgroup, || self.make_directories(path, split, made))?;
        let set = || resources::set(&cgroup, resources, MissingWeight::Warning);
        let warnings = self.watch.time(Mark::SetLimits, set)?;
        cgroup.warnings.extend(warnings);
        Ok(cgroup)
    }

    fn make_directories(
        &self,
        path: &CgroupPath,
        split: Split,
        made: &mut Vec<PathBuf>,
    ) -> Result<Cgroup, CgroupError> {
        let v2 = match &self.v2 {
            Some(mount) => {
                mount.check()?;
                let v2 = V2::open(make(mount, path, made)?)?;
                self.enable(mount, &v2.dir, &split.v2, &COUNTED)?;
                v2.given(&split.v2);
                Some(v2)
            }
            None => None,
        };
        let mut v1: Vec<V1> = Vec::new();
        for mount in self.v1_places(&split)? {
            mount.check()?;
            let dir = make(mount, path, made)?;
            if split.v1.contains(&Controller::Cpuset) && mount.has(Controller::Cpuset.v1_name()) {
                inherit_cpuset(mount, &dir)?;
            }
            v1.push(V1 { dir, controllers: mount.controllers.clone() });
        }
        Ok(Cgroup::new(path.clone(), v2, v1, split.warnings))
    }

    /// Gives a v2 cgroup the controllers it needs, from the root of what we see down to its parent, and those it is to have where
    /// that can be.
    pub(super) fn enable(
        &self,
        mount: &Mount,
        leaf: &Path,
        needed: &[Controller],
        wished: &[Controller],
    ) -> Result<(), CgroupError> {
        let more = wished.iter().filter(|c| !needed.contains(c) && self.v2_has(**c));
        let wanted: Vec<Controller> = needed.iter().chain(more).copied().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let has = read(&leaf.join("cgroup.controllers")).unwrap_or_default();
        let missing: Vec<Controller> =
            wanted.into_iter().filter(|c| !has.split_whitespace().any(|name| name == c.v2_name())).collect();
        // One write a level for all of them; the kernel takes all or none.
        let line = missing.iter().map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ");
        if lineage(mount, leaf).iter().try_for_each(|dir| write(&dir.join("cgroup.subtree_control"), &line)).is_ok() {
            return Ok(());
        }
        for controller in missing {
            let line = format!("+{controller}");
            for dir in lineage(mount, leaf) {
                match write(&dir.join("cgroup.subtree_control"), &line) {
                    Err(error) if needed.contains(&controller) => return Err(error),
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    /// Moves the processes of a cgroup to the root of version 2's hierarchy, which takes them whatever controllers it has. Each move
    /// waits some milliseconds for the kernel.
    ///
    /// # Errors
    /// [`CgroupError`]: the root is not ours to write to.
    pub fn move_to_root(&self, cgroup: &Cgroup) -> Result<(), CgroupError> {
        let Some(root) = &self.v2 else { return Ok(()) };
        for pid in cgroup.processes()? {
            write(&root.point.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Removes the ancestors of a cgroup that are empty, deepest first, in every hierarchy.
    ///
    /// One that is in use, by us or by anyone, stays; so does what cannot be removed.
    pub fn remove_empty_parents(&self, path: &CgroupPath) {
        for mount in self.mounts() {
            let leaf = path.below(&mount.point);
            let mut parents = lineage(mount, &leaf);
            parents.remove(0);
            while let Some(dir) = parents.pop() {
                match fs::remove_dir(&dir) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) => {}
                    Err(_) => break,
                }
            }
        }
    }
}

/// Makes a cgroup's directory and those above it, and notes what was not there before.
pub(super) fn make(mount: &Mount, path: &CgroupPath, made: &mut Vec<PathBuf>) -> Result<PathBuf, CgroupError> {
    let leaf = path.below(&mount.point);
    for _ in 0..RACES {
        // The parents are there in all but the first container of a project: one call instead of three.
        match mkdir(&leaf, made) {
            Err(error) if is_gone(&error) => {}
            Err(source) => return Err(CgroupError::Create { path: leaf, source }),
            Ok(()) => return Ok(leaf),
        }
        for dir in lineage(mount, &leaf).into_iter().skip(1) {
            match mkdir(&dir, made) {
                Err(error) if is_gone(&error) && dir.parent() != Some(&mount.point) => break,
                Err(source) => return Err(CgroupError::Create { path: dir, source }),
                Ok(()) => {}
            }
        }
    }
    Err(CgroupError::Create { path: leaf, source: io::ErrorKind::NotFound.into() })
}

fn mkdir(dir: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => {
            made.push(dir.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A file of the kernel's has the name, say `tasks`.
            if fs::symlink_metadata(dir)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
        }
        Err(error) => Err(error),
    }
}

/// Lists the directories from a hierarchy's mount point down to a cgroup's parent.
pub(super) fn lineage(mount: &Mount, leaf: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        leaf.ancestors().skip(1).take_while(|dir| dir.starts_with(&mount.point)).map(Path::to_owned).collect();
    dirs.reverse();
    dirs
}

/// Gives a new v1 cpuset its CPUs and memory nodes, which come from above: it takes no process until it has both.
pub(super) fn inherit_cpuset(mount: &Mount, dir: &Path) -> Result<(), CgroupError> {
    let mut path = lineage(mount, dir);
    path.push(dir.to_owned());
    for pair in path.windows(2) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read(&pair[1].join(file))?.trim().is_empty() {
                write(&pair[1].join(file), read(&pair[0].join(file))?.trim())?;
            }
        }
    }
    Ok(())
}
