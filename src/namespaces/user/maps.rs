use std::io;
use std::path::PathBuf;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::spec::{IdMap, IdMaps};

/// Says whether the namespace's processes may change their supplementary groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetGroups {
    /// setgroups(2) works, as programs that change their user expect.
    Allow,
    /// setgroups(2) gives EPERM, as in the ancestor's namespaces.
    Deny,
}

/// Says what about a user namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// A file of /proc/PID could not be written or opened.
    #[error("write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be opened.
    #[error("open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A process that begins a namespace could not be made.
    #[error("make a user namespace for an id-mapped mount")]
    Helper(#[from] crate::sys::CloneError),
    /// A layer could not be id-mapped.
    #[error(transparent)]
    Mount(#[from] crate::namespaces::mount::MountError),
}

impl UserNamespaceError {
    /// Says what may be the cause, or what to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
                Some("only root may map ids that are not its own".to_owned())
            }
            Self::Write { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => Some(
                "ranges must not overlap, and the outside ids must be mapped where mydocker itself runs".to_owned(),
            ),
            Self::Mount(error) => error.hint(),
            _ => None,
        }
    }
}

/// Writes the id maps of the user namespace that `pid` has just been cloned into.
///
/// # Errors
/// [`UserNamespaceError::Write`].
pub fn write_maps(pid: Pid, maps: &IdMaps, groups: SetGroups) -> Result<(), UserNamespaceError> {
    let file = |name: &str| PathBuf::from(format!("/proc/{}/{name}", pid.as_raw_nonzero()));
    let write = |name: &str, text: String| {
        std::fs::write(file(name), text).map_err(|source| UserNamespaceError::Write { path: file(name), source })
    };
    if groups == SetGroups::Deny {
        // Before gid_map: afterwards the kernel does not take it back (user_namespaces(7)).
        write("setgroups", "deny".to_owned())?;
    }
    write("uid_map", lines(&maps.uid))?;
    write("gid_map", lines(&maps.gid))
}

/// The whole map goes in one write: a second is refused.
fn lines(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_one_line_a_range() {
        let second = IdMap { inside: 70_000, outside: 5, count: 1 };
        let first = IdMaps::ancestor().uid[0];
        assert_eq!(lines(&[first, second]), "0 100000 65536\n70000 5 1\n");
    }
}
