use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Controller;

/// Says why a cgroup cannot be found, made, limited, emptied or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel's list of mounts could not be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No cgroup file system is mounted.
    #[error("find a cgroup file system in /proc/self/mountinfo")]
    NoHierarchy,
    /// A path is not one of a cgroup.
    #[error("`{path}` is not a cgroup path: {reason}")]
    Path {
        /// The text.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something else is mounted where the list of mounts says a cgroup file system is.
    #[error("find a cgroup file system on {}, its type is {magic:#x}", .path.display())]
    FileSystem {
        /// The mount point.
        path: PathBuf,
        /// `f_type` of statfs(2).
        magic: i64,
    },
    /// No hierarchy has the controller that a limit needs.
    #[error("limit {limit}: no cgroup hierarchy has the controller `{controller}`")]
    MissingController {
        /// The controller.
        controller: Controller,
        /// What was asked for, in words.
        limit: &'static str,
    },
    /// Two limits contradict each other.
    #[error("limit {limit}: {reason}")]
    Limit {
        /// What was asked for, in words.
        limit: &'static str,
        /// Why it cannot be.
        reason: String,
    },
    /// The path has systemd's form, `slice:prefix:name`.
    #[error("make the systemd unit `{path}`: there is no systemd to ask")]
    Systemd {
        /// The text.
        path: String,
    },
    /// A cgroup that is to be a new container's has processes already.
    #[error("take cgroup {} for a new container: {processes} processes are in it", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// How many.
        processes: usize,
    },
    /// A cgroup that is to be a new container's is frozen: its first process would never run.
    #[error("take cgroup {} for a new container: it is frozen", .path.display())]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// A resource of a bundle could not be set.
    #[error("set linux.resources.{key}")]
    Resource {
        /// Where it stands below `linux.resources`.
        key: String,
        /// Why.
        #[source]
        source: Box<CgroupError>,
    },
    /// The program that judges devices on v2 could not be loaded or attached.
    #[error("attach a device program to {}", .path.display())]
    Devices {
        /// The cgroup's directory.
        path: PathBuf,
        /// What bpf(2) said.
        #[source]
        source: io::Error,
    },
    /// A value is not one that can be set.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A cgroup directory could not be made.
    #[error("make cgroup {}", .path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A cgroup directory or one of its files could not be opened.
    #[error("open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A value could not be written.
    #[error("write `{value}` to {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A process could not be sent SIGKILL.
    #[error("kill process {pid} of cgroup {}", .path.display())]
    Kill {
        /// The cgroup's directory.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing on this host can freeze the cgroup.
    #[error("freeze cgroup {path}: neither cgroup v2 nor the v1 freezer holds it")]
    NoFreezer {
        /// The cgroup.
        path: String,
    },
    /// A cgroup did not reach a state in time.
    #[error("see cgroup {} {state} within {patience:?}", .path.display())]
    Slow {
        /// The cgroup's directory.
        path: PathBuf,
        /// The state: `frozen`, `empty`.
        state: &'static str,
        /// How long was waited.
        patience: Duration,
    },
    /// A cgroup directory could not be removed.
    #[error("remove cgroup {}", .path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl CgroupError {
    /// Returns the kernel's answer, where a write to a cgroup's file is what failed.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Write { source, .. } => source.raw_os_error(),
            Self::Resource { source, .. } => source.errno(),
            _ => None,
        }
    }

    /// Returns what the host lacks and the command that shows it, where the error has a known cause.
    pub fn hint(&self) -> Option<String> {
        let source = match self {
            Self::NoHierarchy => {
                return Some(
                    "mount one: `mount -t cgroup2 none /sys/fs/cgroup`; `grep cgroup /proc/mounts` shows them"
                        .to_owned(),
                );
            }
            Self::MissingController { controller, .. } => {
                return Some(format!(
                    "`cat /sys/fs/cgroup/cgroup.controllers /proc/cgroups` shows what there is; a kernel command line may have \
                     `cgroup_disable={}`",
                    controller.v1_name()
                ));
            }
            Self::Resource { key, source } if key == "cpu.realtimeRuntime" && source.errno() == Some(libc::EINVAL) => {
                return Some(
                    "a cgroup has no more real-time time than the one above it gives: `cat /sys/fs/cgroup/cpu/*/cpu.rt_runtime_us`"
                        .to_owned(),
                );
            }
            Self::Resource { source, .. } => return source.hint(),
            Self::Devices { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
                return Some("bpf(2) takes CAP_SYS_ADMIN, or CAP_BPF, in the first user namespace".to_owned());
            }
            Self::Systemd { .. } => {
                return Some("give a path of the cgroup file system as `linux.cgroupsPath`: `/docker/NAME`".to_owned());
            }
            Self::InUse { path, .. } => {
                return Some(format!("`cat {}/cgroup.procs` shows who is in it", path.display()));
            }
            Self::Slow { path, state: "empty", .. } => {
                return Some(format!("`cat {}/cgroup.procs` shows who is still in it", path.display()));
            }
            Self::Create { source, .. } | Self::Write { source, .. } | Self::Remove { source, .. } => source,
            Self::Open { source, .. } => source,
            _ => return None,
        };
        errno_hint(source.raw_os_error()?)
    }
}

fn errno_hint(errno: i32) -> Option<String> {
    let hint = match errno {
        libc::EROFS => "cgroups are mounted read-only, as in a container: `grep cgroup /proc/mounts`",
        libc::EACCES | libc::EPERM => {
            "only root may, or the user to whom a part of the tree was delegated (systemd: `Delegate=yes`)"
        }
        libc::EBUSY => {
            "cgroup v2 lets processes live only in leaves: a cgroup that has processes cannot give controllers to its children; \
             `--cgroup-parent` names another place"
        }
        libc::ENOENT => "somebody removed the cgroup, or the kernel was built without this file",
        libc::EAGAIN | libc::ENOSPC => {
            "the tree is full: see cgroup.max.descendants and cgroup.max.depth of the parents"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
