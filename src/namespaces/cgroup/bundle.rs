//! The cgroup of an OCI bundle: where it lies, made in every hierarchy, and found again from a record.

use std::fs;
use std::io;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::create::{inherit_cpuset, lineage, make};
use super::files::{read, read_if_there};
use super::handle::{V1, V2};
use super::hierarchy::Mount;
use super::resources::{self, MissingWeight};
use super::{Cgroup, CgroupError, CgroupPath, Controller, Hierarchies, devices, real_time};
use crate::spec::Mark;

/// The controllers that a bundle's cgroup has on v2, as far as there are any.
pub(super) const ALL: [Controller; 7] = [
    Controller::Memory,
    Controller::Cpu,
    Controller::Pids,
    Controller::Cpuset,
    Controller::Io,
    Controller::Hugetlb,
    Controller::Rdma,
];

/// Finds and removes a bundle's cgroup later: what a runtime's state file keeps of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// The path below every hierarchy's mount point.
    pub path: CgroupPath,
    /// How many levels above it were made with it, and go with it where nobody else is in them.
    #[serde(default)]
    pub parents: usize,
}

/// Returns where a bundle's cgroup lies: `linux.cgroupsPath`, or the container's id.
///
/// An absolute path counts from each hierarchy's mount point; a relative one, and the id, from `parent`. `..` never climbs
/// out, as in runc.
///
/// # Errors
/// [`CgroupError::Systemd`] for `slice:prefix:name`, [`CgroupError::Path`] for what cannot be a cgroup.
pub fn bundle_path(asked: Option<&str>, parent: &CgroupPath, id: &str) -> Result<CgroupPath, CgroupError> {
    let Some(asked) = asked.filter(|path| !path.is_empty()) else { return parent.join(id) };
    if !asked.starts_with('/') && asked.split(':').count() == 3 {
        return Err(CgroupError::Systemd { path: asked.to_owned() });
    }
    let mut names: Vec<&str> = Vec::new();
    for name in asked.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let clean = names.join("/");
    if asked.starts_with('/') { CgroupPath::new(&clean) } else { CgroupPath::new(&format!("{parent}/{clean}")) }
}

impl Hierarchies {
    /// Makes the cgroup of an OCI bundle, in every hierarchy there is, with the bundle's resources.
    ///
    /// Where an engine looks for the container depends on the engine: any of the v1 controllers, or v2. What exists is taken if
    /// nobody is in it. Where a step fails, the directories made here are removed again. `own` is how many levels above it are ours
    /// ([`CgroupRecord::parents`]).
    ///
    /// # Errors
    /// [`CgroupError::InUse`] and [`CgroupError::Frozen`] for an existing cgroup, [`CgroupError::Resource`] with the key of what
    /// cannot be set.
    pub fn create_for_bundle(
        &self,
        path: &CgroupPath,
        own: usize,
        resources: &LinuxResources,
    ) -> Result<Cgroup, CgroupError> {
        let mut made = Vec::new();
        let result = self.build_bundle(path, own, resources, &mut made);
        if result.is_err() {
            for dir in made.iter().rev() {
                let _ = fs::remove_dir(dir);
            }
        }
        result
    }

    fn build_bundle(
        &self,
        path: &CgroupPath,
        own: usize,
        resources: &LinuxResources,
        made: &mut Vec<PathBuf>,
    ) -> Result<Cgroup, CgroupError> {
        let mut cgroup = self.watch.time(Mark::MakeCgroup, || self.take_directories(path, own, resources, made))?;
        let set = || resources::set(&cgroup, resources, MissingWeight::Error);
        cgroup.warnings = self.watch.time(Mark::SetLimits, set)?;
        cgroup.warnings.extend(self.watch.time(Mark::JudgeDevices, || devices::set(&cgroup, resources))?);
        Ok(cgroup)
    }

    fn take_directories(
        &self,
        path: &CgroupPath,
        own: usize,
        resources: &LinuxResources,
        made: &mut Vec<PathBuf>,
    ) -> Result<Cgroup, CgroupError> {
        let mut v1 = Vec::new();
        for mount in self.v1.iter().chain(&self.v1_others) {
            let dir = self.take(mount, path, made)?;
            if mount.has("cpuset") {
                inherit_cpuset(mount, &dir)?;
            }
            if mount.has("cpu") {
                real_time::lend(&dir, own, resources)?;
            }
            v1.push(V1 { dir, controllers: mount.controllers.clone() });
        }
        let v2 = match &self.v2 {
            Some(mount) => {
                let v2 = V2::open(self.take(mount, path, made)?)?;
                let on_v1 = |controller: &Controller| self.v1_with(controller.v1_name()).is_some();
                let mut needed = resources::needed(resources);
                needed.retain(|controller| !on_v1(controller) && self.v2_has(*controller));
                // A later `update` may ask for any of them.
                self.enable(mount, &v2.dir, &needed, &ALL)?;
                Some(v2)
            }
            None => None,
        };
        if v1.is_empty() && v2.is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        let mut cgroup = Cgroup::new(path.clone(), v2, v1, Vec::new());
        let leaves: Vec<PathBuf> = cgroup.directories().map(ToOwned::to_owned).collect();
        let above = |leaf: &PathBuf| made.iter().filter(|dir| leaf.starts_with(dir) && *dir != leaf).count();
        cgroup.parents = leaves.iter().map(above).max().unwrap_or(0);
        Ok(cgroup)
    }

    /// Makes the cgroup's directory in one hierarchy, or takes one that nobody is in.
    fn take(&self, mount: &Mount, path: &CgroupPath, made: &mut Vec<PathBuf>) -> Result<PathBuf, CgroupError> {
        mount.check()?;
        let leaf = make(mount, path, made)?;
        if made.contains(&leaf) {
            return Ok(leaf);
        }
        let processes = read(&leaf.join("cgroup.procs"))?.lines().count();
        if processes > 0 {
            return Err(CgroupError::InUse { path: leaf, processes });
        }
        let frozen = |file: &str, word: &str| fs::read_to_string(leaf.join(file)).is_ok_and(|text| text.trim() == word);
        if frozen("freezer.state", "FROZEN") || frozen("cgroup.freeze", "1") {
            return Err(CgroupError::Frozen { path: leaf });
        }
        Ok(leaf)
    }

    /// Opens a bundle's cgroup; `None` where no hierarchy has it any more.
    pub fn open_bundle(&self, record: &CgroupRecord) -> Result<Option<Cgroup>, CgroupError> {
        let found = self.open_in(&record.path, self.v1.iter().chain(&self.v1_others))?;
        Ok(found.map(|mut cgroup| {
            cgroup.parents = record.parents;
            cgroup
        }))
    }

    /// Counts the levels above a bundle's cgroup that are not there yet, in the hierarchy that lacks most.
    pub fn missing_parents(&self, path: &CgroupPath) -> usize {
        // From below: what stands above one that is there is there.
        let missing = |mount: &Mount| {
            lineage(mount, &path.below(&mount.point)).iter().skip(1).rev().take_while(|dir| !dir.exists()).count()
        };
        self.v1.iter().chain(&self.v1_others).chain(&self.v2).map(missing).max().unwrap_or(0)
    }

    /// Removes the levels above a bundle's cgroup that were made with it and that nobody else is in, in every hierarchy.
    pub fn remove_parents(&self, record: &CgroupRecord) {
        for mount in self.v1.iter().chain(&self.v1_others).chain(&self.v2) {
            let leaf = record.path.below(&mount.point);
            let above = lineage(mount, &leaf);
            // One that is in use stays, and so do those above it. One that is not there was not made before we were killed.
            let _ = above.iter().skip(1).rev().take(record.parents).try_for_each(|dir| match fs::remove_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            });
        }
    }
}

impl Cgroup {
    /// Returns what finds it again.
    pub fn record(&self) -> CgroupRecord {
        CgroupRecord { path: self.path().clone(), parents: self.parents }
    }

    /// Changes the resources that are given, and leaves the others as they are. Returns what has no effect on this host, a
    /// sentence each.
    ///
    /// # Errors
    /// [`CgroupError::Resource`] with the key of what cannot be set; what was set before it in the same call is set back.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        super::resources::update(self, resources)
    }

    /// Answers whether its processes stand still. In a cgroup that is gone meanwhile none does.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let freezer = self.v1_with("freezer").map(|dir| dir.join("freezer.state"));
        let freezes = self.v2.as_ref().map(|v2| v2.dir.join("cgroup.freeze"));
        let reads = |file: Option<PathBuf>| file.map_or(Ok(None), |file| read_if_there(&file));
        Ok(reads(freezer)?.is_some_and(|state| state.trim() != "THAWED")
            || reads(freezes)?.is_some_and(|freeze| freeze.trim() == "1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_counts_from_our_parent_or_from_the_mount_point() {
        let parent = CgroupPath::new("/mydocker").unwrap();
        let at = |asked| bundle_path(asked, &parent, "c1").map(|path| path.to_string());
        assert_eq!(at(None).unwrap(), "/mydocker/c1");
        assert_eq!(at(Some("")).unwrap(), "/mydocker/c1");
        assert_eq!(at(Some("a/b")).unwrap(), "/mydocker/a/b");
        assert_eq!(at(Some("/a//b/")).unwrap(), "/a/b");
        assert_eq!(at(Some("../../a")).unwrap(), "/mydocker/a");
        assert_eq!(at(Some("/../a/./b/../c")).unwrap(), "/a/c");
        assert!(matches!(at(Some("/")), Err(CgroupError::Path { .. })));
        let systemd = at(Some("system.slice:docker:c1")).unwrap_err();
        assert_eq!(systemd.to_string(), "make the systemd unit `system.slice:docker:c1`: there is no systemd to ask");
    }
}
