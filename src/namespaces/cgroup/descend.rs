//! A cgroup below a container's own, made by somebody inside or outside, that an exec is to join (`exec --cgroup`).

use std::path::{Component, Path, PathBuf};

use super::handle::V2;
use super::{Cgroup, CgroupError};

impl Cgroup {
    /// Goes down to `PATH`, or `CONTROLLER[,CONTROLLER]:PATH` for some of version 1's hierarchies alone, as `exec --cgroup` of runc has
    /// it. In a hierarchy that has no such directory it stays what it was.
    ///
    /// # Errors
    /// [`CgroupError::Path`] for a path that climbs, and where no hierarchy has it.
    pub fn descend(mut self, asked: &str) -> Result<Self, CgroupError> {
        let bad = |reason| CgroupError::Path { path: asked.to_owned(), reason };
        let (controllers, path) = asked.split_once(':').map_or((None, asked), |(names, path)| (Some(names), path));
        let mut below = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => below.push(name),
                Component::ParentDir => return Err(bad("`..` components are not allowed")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if below.as_os_str().is_empty() {
            return Ok(self);
        }
        let mut found = false;
        let is_meant = |had: &[String]| {
            controllers.is_none_or(|names| names.split(',').any(|name| had.iter().any(|one| one == name)))
        };
        for v1 in self.v1.iter_mut().filter(|v1| is_meant(&v1.controllers)) {
            let dir = v1.dir.join(&below);
            if dir.is_dir() {
                (v1.dir, found) = (dir, true);
            }
        }
        if let Some(v2) = self.v2.take_if(|v2| controllers.is_none() && v2.dir.join(&below).is_dir()) {
            (self.v2, found) = (Some(V2::open(v2.dir.join(&below))?), true);
        }
        if found { Ok(self) } else { Err(bad("the container has no such cgroup")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::handle::V1;
    use super::super::{Cgroup, CgroupPath};

    #[test]
    fn the_way_down_is_taken_where_there_is_one() {
        let top = tempfile::tempdir().unwrap();
        let cgroup = || {
            let v1 = |name: &str| V1 { dir: top.path().join(name), controllers: vec![name.to_owned()] };
            Cgroup::new(CgroupPath::new("/c").unwrap(), None, vec![v1("memory"), v1("pids")], Vec::new())
        };
        std::fs::create_dir_all(top.path().join("memory/a/b")).unwrap();
        std::fs::create_dir_all(top.path().join("pids")).unwrap();
        let below = |asked: &str| {
            let dirs = cgroup().descend(asked).map_err(|error| error.to_string())?;
            let shown = dirs.directories().map(|dir| dir.strip_prefix(top.path()).unwrap().display().to_string());
            Ok::<_, String>(shown.collect::<Vec<_>>())
        };
        assert_eq!(below("/").unwrap(), ["memory", "pids"]);
        assert_eq!(below("./a//b/").unwrap(), ["memory/a/b", "pids"]);
        assert_eq!(below("memory,cpu:a").unwrap(), ["memory/a", "pids"]);
        for (bad, reason) in [("pids:a", "no such"), ("x", "no such"), ("../memory", "`..`"), ("a/..", "`..`")] {
            let error = below(bad).unwrap_err();
            assert!(error.contains(bad) && error.contains(reason), "{error}");
        }
    }
}
