use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Holds the flags of one mount, as opposed to options of its file system (mount_setattr(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountAttributes {
    /// `ro`
    pub read_only: bool,
    /// `nosuid`
    pub nosuid: bool,
    /// `nodev`
    pub nodev: bool,
    /// `noexec`
    pub noexec: bool,
    /// `strictatime`; `relatime` otherwise.
    pub strictatime: bool,
    /// `noatime`
    pub noatime: bool,
}

impl MountAttributes {
    /// Returns the `MOUNT_ATTR_*` bits.
    pub fn bits(self) -> u64 {
        [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.nosuid, libc::MOUNT_ATTR_NOSUID),
            (self.nodev, libc::MOUNT_ATTR_NODEV),
            (self.noexec, libc::MOUNT_ATTR_NOEXEC),
            (self.strictatime, libc::MOUNT_ATTR_STRICTATIME),
            (self.noatime, libc::MOUNT_ATTR_NOATIME),
        ]
        .into_iter()
        .fold(0, |bits, (set, bit)| if set { bits | bit } else { bits })
    }

    /// Takes an fstab option if it is one of these flags.
    pub fn take(&mut self, option: &str) -> bool {
        let (flag, value) = match option {
            "ro" => (&mut self.read_only, true),
            "rw" => (&mut self.read_only, false),
            "nosuid" => (&mut self.nosuid, true),
            "suid" => (&mut self.nosuid, false),
            "nodev" => (&mut self.nodev, true),
            "dev" => (&mut self.nodev, false),
            "noexec" => (&mut self.noexec, true),
            "exec" => (&mut self.noexec, false),
            "strictatime" => (&mut self.strictatime, true),
            "relatime" => (&mut self.strictatime, false),
            "noatime" => (&mut self.noatime, true),
            "atime" => (&mut self.noatime, false),
            _ => return false,
        };
        *flag = value;
        true
    }
}

impl fmt::Display for MountAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.read_only { "ro" } else { "rw" })?;
        for (set, name) in [
            (self.nosuid, "nosuid"),
            (self.nodev, "nodev"),
            (self.noexec, "noexec"),
            (self.strictatime, "strictatime"),
            (self.noatime, "noatime"),
        ] {
            if set {
                write!(f, ",{name}")?;
            }
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
}

impl Propagation {
    /// Returns the `MS_*` bit.
    pub fn bits(self) -> u64 {
        match self {
            Self::Private | Self::RecursivePrivate => libc::MS_PRIVATE,
            Self::Shared | Self::RecursiveShared => libc::MS_SHARED,
            Self::Slave | Self::RecursiveSlave => libc::MS_SLAVE,
        }
    }

    /// Says whether mounts below are meant too.
    pub fn recursive(self) -> bool {
        matches!(self, Self::RecursivePrivate | Self::RecursiveShared | Self::RecursiveSlave)
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
        })
    }
}
