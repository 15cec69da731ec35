use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Holds the flags of one mount, as opposed to options of its file system (mount_setattr(2)): those to set and those to take
/// away, of the mount itself and of it with every mount below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` bits to set.
    set: u64,
    /// `MOUNT_ATTR_*` bits to clear before that.
    #[serde(skip_serializing_if = "is_none")]
    clear: u64,
    /// Bits to set on the mounts below too.
    #[serde(skip_serializing_if = "is_none")]
    tree_set: u64,
    /// Bits to clear on the mounts below too.
    #[serde(skip_serializing_if = "is_none")]
    tree_clear: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(bits: &u64) -> bool {
    *bits == 0
}

/// The access time is a number of its own among the bits, not a flag.
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NO_SYMLINKS: u64 = 0x20_0000; // MOUNT_ATTR_NOSYMFOLLOW, Linux 5.14

/// Name, bits to clear, bits to set.
const OPTIONS: &[(&str, u64, u64)] = &[
    ("ro", 0, libc::MOUNT_ATTR_RDONLY),
    ("rw", libc::MOUNT_ATTR_RDONLY, 0),
    ("nosuid", 0, libc::MOUNT_ATTR_NOSUID),
    ("suid", libc::MOUNT_ATTR_NOSUID, 0),
    ("nodev", 0, libc::MOUNT_ATTR_NODEV),
    ("dev", libc::MOUNT_ATTR_NODEV, 0),
    ("noexec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("exec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("strictatime", ATIME, libc::MOUNT_ATTR_STRICTATIME),
    ("nostrictatime", ATIME, 0),
    ("relatime", ATIME, 0),
    ("norelatime", ATIME, 0),
    ("noatime", ATIME, libc::MOUNT_ATTR_NOATIME),
    ("atime", ATIME, 0),
    ("nodiratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("nosymfollow", 0, NO_SYMLINKS),
    ("symfollow", NO_SYMLINKS, 0),
];

impl MountAttributes {
    /// Returns these flags, for the mount itself.
    pub const fn of(set: u64) -> Self {
        Self { set, clear: 0, tree_set: 0, tree_clear: 0 }
    }

    /// Returns the `MOUNT_ATTR_*` bits of a mount that is new, and alone.
    pub fn bits(self) -> u64 {
        self.set | self.tree_set
    }

    /// Returns what is cleared and set on the mount itself.
    pub(super) fn of_mount(self) -> (u64, u64) {
        (self.clear, self.set)
    }

    /// Returns what is cleared and set on it and on all below it.
    pub(super) fn of_tree(self) -> (u64, u64) {
        (self.tree_clear, self.tree_set)
    }

    /// Says whether the mount is to be read-only.
    pub fn is_read_only(self) -> bool {
        self.bits() & libc::MOUNT_ATTR_RDONLY != 0
    }

    /// Leaves the mount writable.
    #[must_use]
    pub fn writable(self) -> Self {
        let Self { set, tree_set, .. } = self;
        Self { set: set & !libc::MOUNT_ATTR_RDONLY, tree_set: tree_set & !libc::MOUNT_ATTR_RDONLY, ..self }
    }

    /// Takes an fstab option if it is one of these flags; with an `r` in front it is for the mounts below too (`rro`). The last
    /// of several counts.
    pub fn take(&mut self, option: &str) -> bool {
        let find = |name: &str| OPTIONS.iter().find(|(known, ..)| *known == name);
        if let Some((_, clear, set)) = find(option) {
            (self.clear, self.set) = add((self.clear, self.set), *clear, *set);
        } else if let Some((_, clear, set)) = option.strip_prefix('r').and_then(find) {
            (self.tree_clear, self.tree_set) = add((self.tree_clear, self.tree_set), *clear, *set);
        } else {
            return false;
        }
        true
    }
}

/// Adds one option to bits to clear and bits to set. The kernel wants the access time cleared as a whole where it is set.
fn add((cleared, already): (u64, u64), clear: u64, set: u64) -> (u64, u64) {
    (cleared & !(set & !ATIME) | clear, already & !clear | set)
}

impl fmt::Display for MountAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_read_only() { "ro" } else { "rw" })?;
        let shown = |bits: u64| OPTIONS[2..].iter().filter(move |(_, _, set)| *set != 0 && bits & set == *set);
        for (name, ..) in shown(self.set) {
            write!(f, ",{name}")?;
        }
        for (name, ..) in shown(self.tree_set) {
            write!(f, ",r{name}")?;
        }
        Ok(())
    }
}

/// Says whether mounts made on one side appear on the other (mount_namespaces(7), "Shared subtrees").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither way, for this mount.
    Private,
    /// Neither way, for this mount and all below it.
    #[default]
    RecursivePrivate,
    /// Both ways.
    Shared,
    /// Both ways, below it too.
    RecursiveShared,
    /// From the host to the container.
    Slave,
    /// From the host to the container, below it too.
    RecursiveSlave,
    /// Neither way, and it cannot be bound anywhere else.
    Unbindable,
    /// Neither way, nor bound, below it too.
    RecursiveUnbindable,
}

impl Propagation {
    /// Returns the `MS_*` bit.
    pub fn bits(self) -> u64 {
        match self {
            Self::Private | Self::RecursivePrivate => libc::MS_PRIVATE,
            Self::Shared | Self::RecursiveShared => libc::MS_SHARED,
            Self::Slave | Self::RecursiveSlave => libc::MS_SLAVE,
            Self::Unbindable | Self::RecursiveUnbindable => libc::MS_UNBINDABLE,
        }
    }

    /// Says whether mounts below are meant too.
    pub fn recursive(self) -> bool {
        matches!(
            self,
            Self::RecursivePrivate | Self::RecursiveShared | Self::RecursiveSlave | Self::RecursiveUnbindable
        )
    }
}

impl FromStr for Propagation {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "private" => Self::Private,
            "rprivate" => Self::RecursivePrivate,
            "shared" => Self::Shared,
            "rshared" => Self::RecursiveShared,
            "slave" => Self::Slave,
            "rslave" => Self::RecursiveSlave,
            "unbindable" => Self::Unbindable,
            "runbindable" => Self::RecursiveUnbindable,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::RecursivePrivate => "rprivate",
            Self::Shared => "shared",
            Self::RecursiveShared => "rshared",
            Self::Slave => "slave",
            Self::RecursiveSlave => "rslave",
            Self::Unbindable => "unbindable",
            Self::RecursiveUnbindable => "runbindable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(options: &str) -> MountAttributes {
        let mut attributes = MountAttributes::default();
        assert!(options.split(',').all(|option| attributes.take(option)), "{options}");
        attributes
    }

    #[test]
    fn the_last_of_several_counts() {
        assert_eq!(taken("ro,rw").of_mount(), (libc::MOUNT_ATTR_RDONLY, 0));
        assert_eq!(taken("rw,ro").of_mount(), (0, libc::MOUNT_ATTR_RDONLY));
        assert_eq!(taken("noatime,relatime").of_mount(), (ATIME, 0));
        assert_eq!(taken("relatime,noatime").of_mount(), (ATIME, libc::MOUNT_ATTR_NOATIME));
    }

    #[test]
    fn an_r_in_front_is_for_the_whole_tree() {
        assert_eq!(taken("rro,rnosuid").of_tree(), (0, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID));
        assert_eq!(taken("rrelatime").of_tree(), (ATIME, 0));
        assert_eq!(taken("relatime").of_tree(), (0, 0));
        assert!(!MountAttributes::default().take("rprivate"));
    }

    #[test]
    fn they_read_as_in_fstab() {
        assert_eq!(taken("ro,nodev,noexec,strictatime").to_string(), "ro,nodev,noexec,strictatime");
        assert_eq!(taken("rro,nosymfollow").to_string(), "ro,nosymfollow");
        assert_eq!(taken("suid").to_string(), "rw");
    }
}
