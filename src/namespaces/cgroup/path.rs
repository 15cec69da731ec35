//! Where a cgroup lies below the mount point of every hierarchy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CgroupError;

/// Is the path of a cgroup, the same in every hierarchy: absolute, below a hierarchy's mount root, never that root itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CgroupPath(String);

/// The longest name of a directory (NAME_MAX).
const LONGEST_NAME: usize = 255;

impl CgroupPath {
    /// Checks a path: `/mydocker`, `/mydocker/shop/1f…`. A missing first slash is added.
    pub fn new(path: &str) -> Result<Self, CgroupError> {
        let bad = |reason| CgroupError::Path { path: path.to_owned(), reason };
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Err(bad("it names no cgroup below the root"));
        }
        for name in &names {
            check(name).map_err(bad)?;
        }
        Ok(Self(format!("/{}", names.join("/"))))
    }

    /// Returns the path of a child.
    pub fn join(&self, name: &str) -> Result<Self, CgroupError> {
        let bad = |reason| CgroupError::Path { path: format!("{self}/{name}"), reason };
        check(name).map_err(bad)?;
        Ok(Self(format!("{}/{name}", self.0)))
    }

    /// Returns the path of the parent; `None` where that is the hierarchy's root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        (!parent.is_empty()).then(|| Self(parent.to_owned()))
    }

    /// Returns the last name.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory below a mount point.
    pub(super) fn below(&self, mount_point: &Path) -> PathBuf {
        mount_point.join(&self.0[1..])
    }
}

/// Checks one name.
fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.contains('/') {
        return Err("a name in it is empty or has a slash");
    }
    if name == "." || name == ".." {
        return Err("it climbs");
    }
    if name.len() > LONGEST_NAME {
        return Err("a name in it is longer than 255 bytes");
    }
    // /proc/PID/cgroup and mountinfo are lists of lines and fields.
    if name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("it has white space, a backslash or a control character");
    }
    // A directory of this name would stand where the kernel puts its own files.
    if name.starts_with("cgroup.") {
        return Err("names that begin with `cgroup.` are the kernel's");
    }
    Ok(())
}

impl FromStr for CgroupPath {
    type Err = CgroupError;

    fn from_str(path: &str) -> Result<Self, CgroupError> {
        Self::new(path)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = CgroupError;

    fn try_from(path: String) -> Result<Self, CgroupError> {
        Self::new(&path)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_made_of_names() {
        let path = CgroupPath::new("mydocker//shop/").unwrap().join("web-1").unwrap();
        assert_eq!(path.as_str(), "/mydocker/shop/web-1");
        assert_eq!((path.name(), path.parent().unwrap().as_str()), ("web-1", "/mydocker/shop"));
        assert_eq!(CgroupPath::new("/mydocker").unwrap().parent(), None);
    }

    #[test]
    fn what_climbs_or_hides_is_refused() {
        for bad in ["", "/", "/a/../b", "/./a", "/a b", "/a\nb", "/cgroup.procs", "/a\\040b"] {
            assert!(CgroupPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(CgroupPath::new("/a").unwrap().join("b/c").is_err());
    }

    proptest! {
        #[test]
        fn a_path_never_leaves_its_mount_point(text in "[a-z./ -]{0,24}") {
            if let Ok(path) = CgroupPath::new(&text) {
                let below = path.below(Path::new("/sys/fs/cgroup"));
                prop_assert!(below.components().all(|c| c.as_os_str() != ".."));
                prop_assert!(below.starts_with("/sys/fs/cgroup") && below != Path::new("/sys/fs/cgroup"));
                prop_assert_eq!(CgroupPath::new(path.as_str()).unwrap(), path);
            }
        }
    }
}
