//! Which cgroup hierarchies there are, and where: told by the list of mounts, never by a fixed path.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{CgroupError, CgroupPath, Controller, files};
use crate::spec::Stopwatch;
use crate::sys::read_pseudo_file;

/// `f_type` of the two cgroup file systems (statfs(2)).
const CGROUP2_MAGIC: i64 = 0x6367_7270;
const CGROUP_MAGIC: i64 = 0x0027_e0eb;

/// Is a mounted hierarchy.
#[derive(Debug)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The v1 controllers of it, by name; empty for v2.
    pub controllers: Vec<String>,
    magic: Option<i64>,
    checked: OnceLock<()>,
}

/// Holds the cgroup hierarchies of this host: at most one of v2, and one of v1 for each set of controllers.
#[derive(Debug)]
pub struct Hierarchies {
    pub(super) v2: Option<Mount>,
    pub(super) v1: Vec<Mount>,
    /// v1 hierarchies that our own containers leave alone; a bundle's cgroup is made in them, too.
    pub(super) v1_others: Vec<Mount>,
    /// The controllers that v2 offers, read when first asked for.
    v2_controllers: OnceLock<Vec<String>>,
    /// What the making of a cgroup is noted in.
    pub(super) watch: Stopwatch,
}

impl Hierarchies {
    /// Finds them in /proc/self/mountinfo.
    pub fn discover() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let found = Self::parse(&files::read(path)?, Path::new("/"), true);
        if found.v2.is_none() && found.v1.is_empty() {
            return Err(CgroupError::NoHierarchy);
        }
        Ok(found)
    }

    /// Notes in `watch` how long the making of a cgroup takes.
    #[must_use]
    pub fn measured_by(self, watch: &Stopwatch) -> Self {
        Self { watch: watch.clone(), ..self }
    }

    /// Finds them in a text of mountinfo's form, with every mount point moved below a directory.
    ///
    /// For tests and for looking at another system's tree: the type of the file system is not checked.
    pub fn from_mountinfo(text: &str, below: &Path) -> Self {
        Self::parse(text, below, false)
    }

    /// Answers whether cgroup v2 is mounted, beside v1 hierarchies or alone.
    pub fn has_v2(&self) -> bool {
        self.v2.is_some()
    }

    /// Answers whether some hierarchy has a controller.
    pub fn has(&self, controller: Controller) -> bool {
        self.v1_with(controller.v1_name()).is_some() || self.v2_has(controller)
    }

    /// Says in words what was found, for `doctor` and for people.
    pub fn layout(&self) -> &'static str {
        match (&self.v2, self.v1.is_empty()) {
            (Some(_), true) => "v2",
            (Some(_), false) => "hybrid",
            (None, _) => "v1",
        }
    }

    /// Lists the names of a cgroup's children in any of the hierarchies.
    pub fn children(&self, path: &CgroupPath) -> Result<BTreeSet<String>, CgroupError> {
        let mut names = BTreeSet::new();
        for mount in self.mounts() {
            names.extend(subdirectories(&path.below(&mount.point))?);
        }
        Ok(names)
    }

    /// Iterates over all hierarchies, v2 last.
    pub(super) fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.v1.iter().chain(&self.v2)
    }

    /// Returns the v1 hierarchy with a controller.
    pub(super) fn v1_with(&self, controller: &str) -> Option<&Mount> {
        self.v1.iter().chain(&self.v1_others).find(|mount| mount.has(controller))
    }

    /// Answers whether v2 offers a controller at the root of what we see of it.
    pub(super) fn v2_has(&self, controller: Controller) -> bool {
        let Some(mount) = &self.v2 else { return false };
        let offered = self.v2_controllers.get_or_init(|| {
            // Unreadable is the same as empty: the limit that needs it becomes the error.
            let text = read_pseudo_file(mount.point.join("cgroup.controllers")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        });
        offered.iter().any(|name| name == controller.v2_name())
    }

    fn parse(text: &str, below: &Path, real: bool) -> Self {
        let mut v2: Option<Mount> = None;
        let (mut v1, mut v1_others): (Vec<Mount>, Vec<Mount>) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let Some((point, fstype, options)) = fields(line) else { continue };
            let point = below.join(point.strip_prefix("/").unwrap_or(&point));
            let mount = |controllers, magic| Mount {
                point,
                controllers,
                magic: real.then_some(magic),
                checked: OnceLock::new(),
            };
            // The first mount of a hierarchy counts; later ones are binds of it, such as a container's.
            match fstype {
                "cgroup2" if v2.is_none() => v2 = Some(mount(Vec::new(), CGROUP2_MAGIC)),
                "cgroup" => {
                    let known = |option: &&str| USED.contains(option) || OTHERS.contains(option);
                    let controllers: Vec<String> = options.split(',').filter(known).map(str::to_owned).collect();
                    let used = controllers.iter().any(|name| USED.contains(&name.as_str()));
                    let place = if used { &mut v1 } else { &mut v1_others };
                    if !controllers.is_empty() && !place.iter().any(|had| had.controllers == controllers) {
                        place.push(mount(controllers, CGROUP_MAGIC));
                    }
                }
                _ => {}
            }
        }
        Self { v2, v1, v1_others, v2_controllers: OnceLock::new(), watch: Stopwatch::default() }
    }
}

/// The v1 controllers that every container may have a use for.
const USED: [&str; 7] = ["memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer"];

/// What else a bundle's cgroup is made in: engines look for their containers in any of these.
const OTHERS: [&str; 8] = ["devices", "net_cls", "net_prio", "perf_event", "hugetlb", "rdma", "misc", "name=systemd"];

impl Mount {
    /// Answers whether it is the v1 hierarchy of a controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// Checks, once, that a cgroup file system is mounted here: a directory or a tmpfs in its place would take every write
    /// and limit nothing.
    pub(super) fn check(&self) -> Result<(), CgroupError> {
        let Some(magic) = self.magic.filter(|_| self.checked.get().is_none()) else { return Ok(()) };
        let path = self.point.clone();
        let found = rustix::fs::statfs(&path)
            .map_err(|errno| CgroupError::Open { path: path.clone(), source: errno.into() })?;
        let found = found.f_type as i64;
        if found != magic {
            return Err(CgroupError::FileSystem { path, magic: found });
        }
        self.checked.get_or_init(|| ());
        Ok(())
    }
}

/// Returns mount point, file system type and the file system's options of a line of mountinfo (proc_pid_mountinfo(5)).
fn fields(line: &str) -> Option<(PathBuf, &str, &str)> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let fstype = after.next()?;
    let options = after.nth(1)?;
    Some((PathBuf::from(unescape(point)), fstype, options))
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// Lists the names of a directory's subdirectories; none where it is not there.
pub(super) fn subdirectories(dir: &Path) -> Result<Vec<String>, CgroupError> {
    entries(dir, fs::FileType::is_dir)
}

/// Lists the names of a directory's files; none where it is not there.
pub(super) fn files(dir: &Path) -> Result<Vec<String>, CgroupError> {
    entries(dir, fs::FileType::is_file)
}

fn entries(dir: &Path, wanted: fn(&fs::FileType) -> bool) -> Result<Vec<String>, CgroupError> {
    let failed = |source| CgroupError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if files::is_gone(&error) => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| wanted(&kind)) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 /other /mnt rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_is_read_from_mountinfo() {
        let found = Hierarchies::from_mountinfo(HYBRID, Path::new("/fake"));
        assert_eq!(found.layout(), "hybrid");
        assert_eq!(found.v2.as_ref().unwrap().point, Path::new("/fake/sys/fs/cgroup/uni fied"));
        assert_eq!(found.v1_with("cpuacct").unwrap().point, Path::new("/fake/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found.v1.len(), 2);
        assert!(found.has(Controller::Memory) && found.has(Controller::Cpu) && !found.has(Controller::Pids));
    }

    #[test]
    fn a_directory_in_the_place_of_a_hierarchy_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("1 2 0:1 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        let found = Hierarchies::parse(&line, Path::new("/"), true);
        let error = found.v2.unwrap().check().unwrap_err();
        assert!(matches!(error, CgroupError::FileSystem { .. }), "{error}");
    }
}
