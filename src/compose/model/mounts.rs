use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::ByteSize;

/// Is one named volume of the top-level `volumes:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The volume's own name: `<project>_<key>`, or what `name:` said, or the key where it is external.
    pub name: String,
    /// Was made outside this project: it must be there, and `down -v` leaves it.
    pub external: bool,
    /// What is mounted where it is used (`driver_opts` of the driver `local`).
    pub source: VolumeSource,
    /// Labels, as written.
    pub labels: BTreeMap<String, String>,
}

/// Says what a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A directory of ours.
    Directory,
    /// A path of the host that is there (`o: bind`).
    Bind {
        /// The path, absolute.
        device: PathBuf,
        /// Binds mounts below it too (`o: rbind`).
        recursive: bool,
        /// Refuses writes.
        read_only: bool,
    },
    /// A file system in memory (`type: tmpfs`), which lasts as long as its one container runs.
    Tmpfs {
        /// How it is mounted.
        kind: VolumeMountKind,
        /// Refuses writes.
        read_only: bool,
    },
}

/// Is one entry of a service's `volumes:` or `tmpfs:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Where in the container: absolute and normalised.
    pub target: PathBuf,
    /// Refuses writes through this mount.
    pub read_only: bool,
    /// What is mounted.
    pub kind: VolumeMountKind,
}

/// Is the kind of a mount, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeMountKind {
    /// A path of the host.
    Bind {
        /// The path, absolute.
        source: PathBuf,
        /// `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`.
        propagation: Option<String>,
        /// Makes the source as a directory where it is missing; else a missing source is an error.
        create_host_path: bool,
        /// Binds mounts below the source too.
        recursive: bool,
    },
    /// A volume.
    Volume {
        /// The key in [`Project::volumes`](super::Project::volumes); an anonymous volume where `None`.
        name: Option<String>,
        /// Leaves an empty volume empty: nothing of the image is copied into it.
        nocopy: bool,
        /// Mounts this directory of the volume and not its root.
        subpath: Option<PathBuf>,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its greatest size.
        size: Option<ByteSize>,
        /// Permission bits of its root.
        mode: Option<u32>,
        /// Owner of its root.
        uid: Option<u32>,
        /// Group of its root.
        gid: Option<u32>,
        /// Allows programs to be executed from it.
        exec: bool,
    },
}
