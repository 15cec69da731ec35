//! The launch plan: what the new process does to itself, as data.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::capabilities::CapabilitySets;
use crate::namespaces::mount::{BindMount, Device, FilesystemMount, Overlay, Propagation};
use crate::spec::CapabilitySet;
use crate::sys::scheduling::SchedulerAttributes;

/// Is everything that a new process does before it becomes the container's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The container's id.
    pub id: String,
    /// Carried out before the process reports that it is created.
    pub create: Vec<Action>,
    /// Carried out after `Start`.
    pub start: Vec<Action>,
    /// Goes on from create to start without waiting for `Start` (`run`).
    pub start_at_once: bool,
    /// What the descriptors are that travel with the plan, in their order.
    pub descriptors: Vec<Role>,
    /// So many descriptors of the caller's, from 3 on, the program inherits ([`super::SpawnFds::preserved`]).
    #[serde(default)]
    pub preserved: u32,
}

/// Says what a descriptor that travels with the plan is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A v1 cgroup's `tasks` file, open for writing, of the controller named.
    CgroupTasks(String),
    /// The detached id-mapped clone of the lower layer; with a user namespace only.
    LowerLayer,
    /// The detached id-mapped clone of the directory that holds `upper` and `work`; with a user namespace only.
    UpperLayer,
    /// The detached id-mapped clone of the source of a bind mount, for the `Bind` of the same number.
    Source(usize),
    /// The detached mount of a device node, for the `PlaceDevice` of the same number.
    Device(usize),
    /// A file that gets what hooks of the process's own say on standard output, opened for appending.
    HookStdout,
    /// The same of standard error.
    HookStderr,
    /// A listening socket: the process waits there for who says `Start`, whoever made it may be gone by then.
    StartSocket,
}

/// Names a user and groups as written; looked up in the container's own files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChoice {
    /// `user`, `uid`, `user:group`, `uid:gid`; root where empty.
    pub user: String,
    /// Supplementary groups by name or number.
    pub groups: Vec<String>,
    /// Supplementary groups stay as they are: the user namespace denies setgroups(2), or it was asked for.
    pub keep_groups: bool,
    /// Everything is a number, as in the OCI's description: names and memberships in the container's files do not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numeric: bool,
}

/// Is a hook that the new process runs itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCall {
    /// `createContainer` or `startContainer`.
    pub kind: String,
    /// The program, absolute: on the host before the new root is entered, in the container afterwards.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its whole environment; the runtime's where `None`.
    pub env: Option<Vec<String>>,
    /// So many seconds it may take.
    pub timeout: Option<u64>,
    /// Where it runs; where the process is if `None`.
    pub directory: Option<PathBuf>,
    /// The container's state without `pid`, an object of JSON: it is written to the hook's standard input.
    pub state: String,
}

/// Is one rlimit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Its lower-case name without `RLIMIT_`.
    pub name: String,
    /// What the kernel enforces.
    pub soft: u64,
    /// How high the process may raise it.
    pub hard: u64,
}

/// Is what a security module is told of what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityLabel {
    /// AppArmor's profile from execve(2) on.
    Apparmor(String),
    /// SELinux's label from execve(2) on.
    Selinux(String),
    /// SELinux's label of keys; empty for that of the process.
    SelinuxKeys(String),
}

impl SecurityLabel {
    /// Returns the files below /proc/PID/attr that take it; the first that is there counts.
    pub fn attributes(&self) -> &'static [&'static str] {
        match self {
            // Where several modules are at work, each has a directory (Linux 5.8).
            Self::Apparmor(_) => &["apparmor/exec", "exec"],
            Self::Selinux(_) => &["exec"],
            Self::SelinuxKeys(_) => &["keycreate"],
        }
    }

    /// Returns what is written there.
    pub fn text(&self) -> String {
        match self {
            Self::Apparmor(profile) => format!("exec {profile}"),
            Self::Selinux(label) | Self::SelinuxKeys(label) => label.clone(),
        }
    }
}

/// Is a seccomp program, printed as hexadecimal digits in messages.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilterProgram(pub Vec<u8>);

/// Is what one step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Writes `0` into every `tasks` file that came with the plan.
    JoinCgroups,
    /// unshare(CLONE_NEWCGROUP).
    UnshareCgroupNamespace,
    /// Joins a session keyring of this name that is new (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
    JoinKeyring(String),
    /// Tells a security module what label comes next.
    SetLabel(SecurityLabel),
    /// Takes the id-mapped tree that came with the plan as the source of this number.
    TakeSource {
        /// The number.
        number: usize,
        /// It holds mounts below it.
        recursive: bool,
    },
    /// Clones the tree at the source of a bind mount (open_tree(2)), kept for the `Bind` of the same number.
    OpenSource {
        /// The number.
        number: usize,
        /// The path on the host.
        source: PathBuf,
        /// What of it is meant, resolved inside it: others may have written there.
        below: Option<PathBuf>,
        /// Takes mounts below it along.
        recursive: bool,
    },
    /// Sets the propagation type of every mount.
    SetPropagation(Propagation),
    /// Opens the directory that the root will be mounted on.
    OpenMountpoint(PathBuf),
    /// Becomes user and group 0 of the user namespace.
    BecomeNamespaceRoot {
        /// Leaves the supplementary groups as they are.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep_groups: bool,
    },
    /// Mounts an overlay over its mountpoint; this becomes the new root.
    MountOverlay(Overlay),
    /// Binds a directory over itself; this becomes the new root.
    BindRoot {
        /// The directory.
        source: PathBuf,
    },
    /// Mounts a file system below the new root.
    Mount(FilesystemMount),
    /// Makes a device node.
    MakeDevice(Device),
    /// Binds a device of the host (in a user namespace mknod(2) is refused).
    BindDevice(Device),
    /// Attaches the node that the parent made and sent. Its owner is the host's number.
    PlaceDevice {
        /// The number.
        number: usize,
        /// The device.
        device: Device,
    },
    /// Makes a symbolic link.
    Symlink {
        /// What it points to.
        points_to: String,
        /// Where it stands.
        path: PathBuf,
    },
    /// Attaches the tree of the `OpenSource` of the same number.
    Bind(BindMount),
    /// Opens a pty of the container's own devpts.
    OpenTerminal {
        /// Binds its other side over /dev/console.
        console: bool,
        /// Rows and columns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<(u16, u16)>,
    },
    /// Runs a hook and waits for it; it fails where the hook fails.
    RunHook(HookCall),
    /// Says that the namespaces stand, and waits until the hooks that the runtime runs are done.
    AwaitHooks,
    /// pivot_root(2), and detaches the old root.
    EnterRoot,
    /// Moves the new root over the old one, and chroot(2).
    EnterRootByMove,
    /// chroot(2): the mounts are the host's, and stay in its tree.
    ChangeRoot,
    /// Sets the propagation type of the new root.
    SetRootPropagation(Propagation),
    /// sethostname(2).
    SetHostname(String),
    /// setdomainname(2).
    SetDomainname(String),
    /// Raises `lo`.
    RaiseLoopback,
    /// Writes a file of /proc/sys.
    WriteSysctl {
        /// The dotted name.
        key: String,
        /// The value.
        value: String,
        /// Goes on where the kernel has no such file.
        optional: bool,
    },
    /// Makes a path read-only by binding it over itself.
    ProtectPath(PathBuf),
    /// Hides a path: /dev/null over a file, an empty read-only tmpfs over a directory.
    MaskPath(PathBuf),
    /// Makes one mount read-only that had to be filled first.
    ProtectMount(PathBuf),
    /// Makes `/` read-only.
    ProtectRoot,
    /// Looks whether there is such a program, which may be executed.
    FindProgram {
        /// Its name or path.
        name: String,
        /// Where it is looked for.
        path: Option<String>,
    },
    /// personality(2).
    SetPersonality(u32),
    /// sched_setattr(2).
    SetScheduler(SchedulerAttributes),
    /// sched_setaffinity(2): the processors by number.
    SetAffinity(Vec<u32>),
    /// ioprio_set(2).
    SetIoPriority {
        /// `IOPRIO_CLASS_*`.
        class: u16,
        /// 0 to 7, the highest first.
        priority: u16,
    },
    /// set_mempolicy(2).
    SetMemoryPolicy {
        /// `MPOL_*` with `MPOL_F_*`.
        mode: u32,
        /// NUMA nodes by number.
        nodes: Vec<u32>,
    },
    /// umask(2), octal.
    SetUmask(u32),
    /// setrlimit(2).
    SetLimit(ResourceLimit),
    /// Writes /proc/self/oom_score_adj.
    SetOomScore(i32),
    /// Looks the user up in /etc/passwd and /etc/group of the container.
    ResolveUser(UserChoice),
    /// Becomes session leader; the terminal, where there is one, becomes its controlling terminal.
    StartSession,
    /// Takes all other capabilities out of the bounding set.
    LimitBounding(CapabilitySet),
    /// Sets no_new_privs.
    ForbidNewPrivileges,
    /// Installs the seccomp filter.
    InstallSeccomp(FilterProgram),
    /// Installs the seccomp filter with flags of seccomp(2); a listener goes to whoever said `Start`.
    InstallSeccompWith {
        /// The filter.
        program: FilterProgram,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u64,
    },
    /// setgroups(2), setresgid(2), setresuid(2), keeping permitted capabilities.
    SetIdentity,
    /// Sets permitted and effective capabilities; inheritable and ambient become empty.
    SetCapabilities(CapabilitySet),
    /// Sets all four sets of the thread.
    SetCapabilitySets(CapabilitySets),
    /// Asks for SIGKILL when the parent dies (PR_SET_PDEATHSIG).
    DieWithParent,
    /// Opens the working directory.
    OpenDirectory {
        /// Its path.
        path: PathBuf,
        /// Makes it where it is missing.
        make: bool,
    },
    /// Goes into the working directory.
    EnterDirectory,
    /// execve(2), in PID 1 or, with `init`, in a child of the built-in init.
    Execute {
        /// The program and its arguments.
        args: Vec<String>,
        /// The environment, `NAME=value`.
        env: Vec<String>,
        /// Keeps the built-in init as PID 1.
        init: bool,
    },
}

impl fmt::Debug for FilterProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a seccomp filter of {} instructions", self.0.len() / 8)
    }
}

impl From<FilterProgram> for String {
    fn from(program: FilterProgram) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        program.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl TryFrom<String> for FilterProgram {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit =
            |c: u8| char::from(c).to_digit(16).map(|d| d as u8).ok_or("a seccomp program in hexadecimal digits");
        text.as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
                _ => Err("an even number of hexadecimal digits"),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_programs_pass_through_a_message() {
        let program = FilterProgram((0..=255).collect());
        let text = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<FilterProgram>(&text).unwrap(), program);
        assert!(serde_json::from_str::<FilterProgram>("\"0g\"").is_err());
        assert!(serde_json::from_str::<FilterProgram>("\"000\"").is_err());
    }
}
