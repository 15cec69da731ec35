//! What making a cgroup will do, found out without making it: for those who want to be told first.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::bundle::ALL;
use super::create::{COUNTED, lineage};
use super::devices::Devices;
use super::hierarchy::Mount;
use super::resources::{self, MissingWeight, Place};
use super::{CgroupError, CgroupPath, Controller, Hierarchies, devices, limits};
use crate::spec::{DeviceRule, ResourceLimits};

/// Is what [`Hierarchies::create`] or [`Hierarchies::create_for_bundle`] will do, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupPlan {
    /// The directories that are made, one in each hierarchy.
    pub directories: Vec<PlannedDirectory>,
    /// Controllers that v2 is given on the way down, where it does not have them: files and values.
    pub controllers: Vec<PlannedWrite>,
    /// The limits; of a bundle also what is told of devices.
    pub writes: Vec<PlannedWrite>,
    /// What v1 is told of devices when there is a process ([`super::Cgroup::confine_devices`]).
    pub device_writes: Vec<PlannedWrite>,
    /// A program in v2 judges the use of devices.
    pub device_program: bool,
}

/// Is a directory of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDirectory {
    /// The directory.
    pub path: PathBuf,
    /// The directories above it, which are made where they are missing.
    pub above: Vec<PathBuf>,
    /// The v1 controllers of its hierarchy; `None` for v2.
    pub controllers: Option<Vec<String>>,
}

/// Is a value for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWrite {
    /// The file.
    pub file: PathBuf,
    /// The value.
    pub value: String,
    /// Whether it is written on every kernel; else where that has the file, and takes the value.
    pub certain: bool,
}

impl CgroupPlan {
    /// Names the v1 hierarchies, as [`super::Cgroup::v1_names`] does.
    pub fn v1_names(&self) -> Vec<String> {
        self.directories.iter().filter_map(|dir| dir.controllers.as_ref()).map(|names| names.join(",")).collect()
    }

    /// Says whether the process is born in it ([`super::Cgroup::clone_into`]).
    pub fn has_v2(&self) -> bool {
        self.v2().is_some()
    }

    /// Names the directories, as [`super::Cgroup::named_directories`] does.
    pub fn named_directories(&self) -> Vec<(String, PathBuf)> {
        let name = |names: &Vec<String>| names.join(",").trim_start_matches("name=").to_owned();
        let v1 = |dir: &PlannedDirectory| Some((name(dir.controllers.as_ref()?), dir.path.clone()));
        let v1: Vec<_> = self.directories.iter().filter_map(v1).collect();
        if v1.is_empty() { self.v2().map(|dir| (String::new(), dir.to_owned())).into_iter().collect() } else { v1 }
    }

    fn v2(&self) -> Option<&Path> {
        self.directories.iter().find(|dir| dir.controllers.is_none()).map(|dir| dir.path.as_path())
    }

    fn v1_with(&self, controller: &str) -> Option<&Path> {
        let is_it = |dir: &&PlannedDirectory| {
            dir.controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == controller))
        };
        self.directories.iter().find(is_it).map(|dir| dir.path.as_path())
    }

    /// Gives v2 these controllers on every level above `leaf`.
    fn enable(&mut self, mount: &Mount, leaf: &Path, controllers: impl Iterator<Item = Controller>) {
        let line = controllers.map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            return;
        }
        let write = |dir: PathBuf| PlannedWrite {
            file: dir.join("cgroup.subtree_control"),
            value: line.clone(),
            certain: false,
        };
        self.controllers.extend(lineage(mount, leaf).into_iter().map(write));
    }

    /// Adds limits and devices to the directories.
    fn limit(
        self,
        hierarchies: &Hierarchies,
        limits: &LinuxResources,
        weight: MissingWeight,
        devices: Devices<'_>,
    ) -> Result<Self, CgroupError> {
        let place = |controller: Controller| match (self.v1_with(controller.v1_name()), self.v2()) {
            (Some(dir), _) => Some(Place { dir: dir.to_owned(), v1: true }),
            (None, Some(dir)) if hierarchies.v2_has(controller) => Some(Place { dir: dir.to_owned(), v1: false }),
            _ => None,
        };
        let mut writes = resources::planned(limits, weight, self.v2(), &place)?;
        let (mut lines, device_program) = devices::planned(self.v1_with("devices"), self.v2(), devices)?;
        if matches!(devices, Devices::Bundle(_)) {
            writes.append(&mut lines);
        }
        Ok(Self { writes, device_writes: lines, device_program, ..self })
    }
}

impl Hierarchies {
    /// Says what [`Hierarchies::create`] will do, and [`super::Cgroup::confine_devices`] with the rules `allowed`; touches nothing.
    ///
    /// # Errors
    /// Those of it that are known before.
    pub fn plan(
        &self,
        path: &CgroupPath,
        limits: &ResourceLimits,
        allowed: &[DeviceRule],
    ) -> Result<CgroupPlan, CgroupError> {
        limits::check(limits)?;
        let resources = limits::resources(limits, self.v1_with("cpu").is_none());
        let split = self.split(&resources)?;
        let mut plan = CgroupPlan::default();
        if let Some(mount) = &self.v2 {
            mount.check()?;
            plan.directories.push(directory(mount, path, true));
            let counted = COUNTED.into_iter().filter(|c| !split.v2.contains(c) && self.v2_has(*c));
            plan.enable(mount, &path.below(&mount.point), split.v2.iter().copied().chain(counted));
        }
        for mount in self.v1_places(&split)? {
            mount.check()?;
            plan.directories.push(directory(mount, path, false));
        }
        plan.limit(self, &resources, MissingWeight::Warning, Devices::Ours(allowed))
    }

    /// Says what [`Hierarchies::create_for_bundle`] will do, and touches nothing.
    ///
    /// # Errors
    /// Those of it that are known before.
    pub fn plan_for_bundle(&self, path: &CgroupPath, resources: &LinuxResources) -> Result<CgroupPlan, CgroupError> {
        let mut plan = CgroupPlan::default();
        for mount in self.v1.iter().chain(&self.v1_others) {
            mount.check()?;
            plan.directories.push(directory(mount, path, false));
        }
        if let Some(mount) = &self.v2 {
            mount.check()?;
            plan.directories.push(directory(mount, path, true));
            let on_v2 =
                |controller: &Controller| self.v2_has(*controller) && self.v1_with(controller.v1_name()).is_none();
            let needed: Vec<Controller> = resources::needed(resources).into_iter().filter(on_v2).collect();
            let more = ALL.into_iter().filter(|c| !needed.contains(c) && self.v2_has(*c));
            plan.enable(mount, &path.below(&mount.point), needed.iter().copied().chain(more));
        }
        if plan.directories.is_empty() {
            return Err(CgroupError::NoHierarchy);
        }
        plan.limit(self, resources, MissingWeight::Error, Devices::Bundle(resources))
    }
}

fn directory(mount: &Mount, path: &CgroupPath, unified: bool) -> PlannedDirectory {
    let leaf = path.below(&mount.point);
    let above = lineage(mount, &leaf).into_iter().skip(1).collect();
    PlannedDirectory { path: leaf, above, controllers: (!unified).then(|| mount.controllers.clone()) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Subtree;
    use super::*;

    /// A plan and what becomes of it.
    fn expect_as_planned(tree: &Subtree, name: &str, limits: &ResourceLimits) {
        let path = tree.path.join(name).unwrap();
        let plan = tree.hierarchies.plan(&path, limits, &[]).unwrap();
        assert!(plan.directories.iter().all(|dir| !dir.path.exists()), "planning makes nothing");
        let cgroup = tree.hierarchies.create(&path, limits).unwrap();
        assert_eq!((plan.v1_names(), plan.has_v2()), (cgroup.v1_names(), cgroup.clone_into().is_some()));
        let mut planned: Vec<_> = plan.directories.iter().map(|dir| dir.path.as_path()).collect();
        let mut made: Vec<_> = cgroup.directories().collect();
        planned.sort();
        made.sort();
        assert_eq!(planned, made);
        for write in plan.writes.iter().filter(|write| write.certain) {
            let held = std::fs::read_to_string(&write.file).unwrap_or_default();
            assert!(held.starts_with(&write.value), "{write:?}: {held}");
        }
    }

    #[test]
    fn a_cgroup_is_made_as_planned() {
        let limits = ResourceLimits { memory: Some(64 << 20), pids: Some(100), ..ResourceLimits::default() };
        for tree in [Subtree::new("plan"), Subtree::without_v2("plan-v1")] {
            if tree.hierarchies.has(Controller::Memory) && tree.hierarchies.has(Controller::Pids) {
                expect_as_planned(&tree, "limited", &limits);
            }
            if tree.hierarchies.has_v2() || !tree.hierarchies.v1.is_empty() {
                expect_as_planned(&tree, "free", &ResourceLimits::default());
            }
        }
    }
}
