use std::io;
use std::path::PathBuf;

use crate::sys::CloneError;

/// Says what about a request cannot be turned into a launch plan.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No program to run.
    #[error("a container without a command")]
    NoCommand,
    /// A mount's target that is refused.
    #[error("mount target `{}`: {reason}", .target.display())]
    Target {
        /// The target as asked for.
        target: PathBuf,
        /// Why it is refused.
        reason: &'static str,
    },
    /// Two mounts on one target.
    #[error("two mounts on `{}`", .0.display())]
    DuplicateTarget(PathBuf),
    /// A propagation type that the kernel does not know.
    #[error("propagation `{0}` (private, rprivate, shared, rshared, slave or rslave)")]
    Propagation(String),
    /// A working directory that is refused.
    #[error("working directory `{}`: {reason}", .path.display())]
    WorkingDirectory {
        /// The path as asked for.
        path: PathBuf,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A user that cannot be one.
    #[error("user `{user}`: {reason}")]
    User {
        /// The text as asked for.
        user: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A supplementary group that cannot be one.
    #[error("group `{group}`: {reason}")]
    Group {
        /// The text as asked for.
        group: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A sysctl that would change the host.
    #[error("sysctl `{key}`: {reason}")]
    Sysctl {
        /// The dotted name.
        key: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A namespace of the host's that a container in a user namespace cannot use.
    #[error(
        "the host's {namespace} namespace for a container in a user namespace of its own: the kernel lets it mount nothing of it"
    )]
    HostNamespace {
        /// Which one.
        namespace: &'static str,
    },
    /// An rlimit that is none, or whose soft limit is over the hard one.
    #[error("ulimit `{name}`: {reason}")]
    Limit {
        /// The name as asked for.
        name: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// An environment entry or argument that the kernel cannot take.
    #[error("{what} `{text}`: {reason}")]
    Text {
        /// What it is.
        what: &'static str,
        /// Its text, never a value that may be secret.
        text: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A path that is not UTF-8.
    #[error("path `{}` is not UTF-8", .0.display())]
    PathText(PathBuf),
    /// The root file system cannot be used.
    #[error("root file system {}", .path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory of the container could not be made.
    #[error("make directory {}", .path.display())]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A namespace that is to be joined.
    #[error("join the {kind} namespace {}", .path.display())]
    Namespace {
        /// Its kind.
        kind: crate::namespaces::Namespace,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Our own capabilities could not be read.
    #[error(transparent)]
    Capabilities(#[from] crate::capabilities::CapabilityError),
    /// The OCI's description could not be built.
    #[error("describe the container as the OCI does")]
    Describe(#[source] oci_spec::OciSpecError),
    /// The OCI `Spec` holds something this engine does not do.
    #[error("config.json: {field}: {reason}")]
    Spec {
        /// The field's path.
        field: String,
        /// Why not.
        reason: String,
    },
    /// The OCI's description is no JSON, or not of its form.
    #[error("{what}: {}{reason}", if .key == "." { String::new() } else { format!("{key}: ") })]
    Parse {
        /// What was read.
        what: &'static str,
        /// The path of the key.
        key: String,
        /// Why not.
        reason: String,
    },
}

impl ContainerError {
    /// Says what may be the cause, or what to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Root { path, source } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("`root_fs/build {}` makes one from busybox; `--rootfs DIR` names another", path.display()))
            }
            Self::NoCommand => Some("name a program after the options: `mydocker run --rootfs DIR /bin/sh`".to_owned()),
            _ => None,
        }
    }
}

/// Says why a process could not be spawned.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The clone itself.
    #[error("make the container's process")]
    Clone(#[from] CloneError),
    /// The number of descriptors is not what the request says.
    #[error("{got} namespace descriptors for a request that names {wanted}")]
    Joins {
        /// How many came.
        got: usize,
        /// How many were named.
        wanted: usize,
    },
    /// The number of descriptors is not what the plan says.
    #[error("{got} descriptors for a plan that names {wanted}")]
    PlanDescriptors {
        /// How many came.
        got: usize,
        /// How many were named.
        wanted: usize,
    },
    /// A pipe or socket for the process's report.
    #[error("make a channel for the new process")]
    Channel(#[source] io::Error),
    /// The intermediate process of an exec failed.
    #[error("enter the container: {step}")]
    Enter {
        /// What it was doing.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The intermediate process of an exec was killed.
    #[error("enter the container: the process that enters it died")]
    EnterDied,
    /// It could not be seen what this process runs from.
    #[error("look at the file that this process runs from")]
    Executable(#[source] io::Error),
    /// The container could overwrite this program on the host.
    #[error("this process runs from a file that a container could write to")]
    NotSealed,
}

impl SpawnError {
    /// Says what may be the cause, or what to do.
    pub fn hint(&self) -> Option<String> {
        if matches!(self, Self::NotSealed) {
            let hint = "neither a read-only clone of it (open_tree(2), mount_setattr(2)) nor a sealed copy in memory (memfd_create(2)) \
                        could be executed: the host has to allow one of them";
            return Some(hint.to_owned());
        }
        let Self::Clone(CloneError::Clone { source, .. }) = self else { return None };
        match source.raw_os_error()? {
            libc::EPERM => Some("namespaces need root, or a user namespace that this host allows (`sysctl user.max_user_namespaces`)".to_owned()),
            libc::ENOSPC | libc::EUSERS => Some("the limit of namespaces is reached: `sysctl -a | grep 'user.max_.*_namespaces'`".to_owned()),
            libc::EAGAIN => Some("the limit of processes is reached: `ulimit -u`, pids.max of the cgroup".to_owned()),
            libc::EBUSY => Some("the cgroup has children with controllers: a process cannot live beside them (cgroups(7), \"no internal processes\")".to_owned()),
            _ => None,
        }
    }
}
