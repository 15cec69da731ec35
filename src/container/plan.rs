//! The launch plan: what the new process does to itself, as data. [`Action::reason`] is the one list that says why
//! each step stands where it stands.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::namespaces::mount::{BindMount, Device, FilesystemMount, Overlay, Propagation};
use crate::spec::CapabilitySet;

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
    /// The user namespace denies setgroups(2): supplementary groups stay as they are.
    pub keep_groups: bool,
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
    BecomeNamespaceRoot,
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
    },
    /// Says that the namespaces stand, and waits until the hooks that the runtime runs are done.
    AwaitHooks,
    /// pivot_root(2), and detaches the old root.
    EnterRoot,
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
    /// Makes `/` read-only.
    ProtectRoot,
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
    /// setgroups(2), setresgid(2), setresuid(2), keeping permitted capabilities.
    SetIdentity,
    /// Sets permitted and effective capabilities; inheritable and ambient become empty.
    SetCapabilities(CapabilitySet),
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

impl Action {
    /// Says why this step is made, and why here.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::JoinCgroups => "limits hold from the first step; by itself and single-threaded this is cheap",
            Self::UnshareCgroupNamespace => "after the cgroup is joined: that cgroup becomes the namespace's root",
            Self::OpenSource { .. } => "while the host's tree is in sight and its mounts are still what they were",
            Self::SetPropagation(_) => "nothing mounted from here on may reach the host, nor the host's mounts us",
            Self::OpenMountpoint(_) => "the namespace's root may not search the directories that lead to it",
            Self::BecomeNamespaceRoot => "files made from here on need an owner that the user namespace maps",
            Self::MountOverlay(_) => "only inside the container's mount namespace, so that it dies with it",
            Self::BindRoot { .. } => "pivot_root wants the new root to be a mount",
            Self::Mount(_) => "proc and sysfs may be mounted in a user namespace only while the host's are in sight",
            Self::MakeDevice(_) => "a private /dev with the six that every program may expect, and no others",
            Self::BindDevice(_) => "a user namespace may not make device nodes",
            Self::Symlink { .. } => "programs expect them below /dev",
            Self::Bind(_) => "by handle: a symbolic link in the image cannot lead out of the root",
            Self::OpenTerminal { .. } => "of the container's own devpts, so that its name means something inside",
            Self::AwaitHooks => "hooks of the runtime find the namespaces made and the old root still there",
            Self::EnterRoot => "all mounts are in place; with the old root goes every path to the host",
            Self::SetHostname(_) | Self::SetDomainname(_) => "the UTS namespace is ours",
            Self::RaiseLoopback => "programs expect 127.0.0.1, and a new network namespace has lo down",
            Self::WriteSysctl { .. } => "before /proc/sys becomes read-only",
            Self::ProtectPath(_) => "kernel settings that are not namespaced stay the host's",
            Self::MaskPath(_) => "what tells of the host or speaks to its hardware is not for a container",
            Self::ProtectRoot => "after every mountpoint in it was made",
            Self::SetUmask(_) => "ours was 0 while files were made; programs expect 022",
            Self::SetLimit(_) => "while we still may",
            Self::SetOomScore(_) => "while we still may",
            Self::ResolveUser(_) => "names mean what the container's own files say, read inside its root",
            Self::StartSession => "no signal key of a terminal of ours reaches it; its own terminal does",
            Self::LimitBounding(_) => "while CAP_SETPCAP is effective; execve can give back nothing beyond this",
            Self::ForbidNewPrivileges => "before the filter: without privileges the kernel demands it",
            Self::InstallSeccomp(_) => "as late as it can be: the filter binds our own steps too",
            Self::SetIdentity => "after everything that root alone may do; groups before user",
            Self::SetCapabilities(_) => "after the user: changing it clears the effective set",
            Self::DieWithParent => "after the identity: a change of it clears the request",
            Self::OpenDirectory { .. } => "before / becomes read-only, and never through a link of /proc",
            Self::EnterDirectory => "as the user: what it may not enter it does not get",
            Self::Execute { .. } => "from here on the container's program runs",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinCgroups => f.write_str("join the cgroups"),
            Self::UnshareCgroupNamespace => f.write_str("unshare the cgroup namespace"),
            Self::OpenSource { number, source, below, recursive } => {
                let depth = if *recursive { "the tree at" } else { "the mount at" };
                write!(f, "open {depth} {}", source.display())?;
                if let Some(below) = below {
                    write!(f, ", inside it {},", below.display())?;
                }
                write!(f, " as source {number}")
            }
            Self::SetPropagation(propagation) => write!(f, "make every mount {propagation}"),
            Self::OpenMountpoint(path) => write!(f, "open the mountpoint {}", path.display()),
            Self::BecomeNamespaceRoot => f.write_str("become user 0 and group 0 of the user namespace"),
            Self::MountOverlay(overlay) => write!(f, "mount {overlay}"),
            Self::BindRoot { source } => write!(f, "bind {} over itself", source.display()),
            Self::Mount(mount) => write!(f, "mount {mount}"),
            Self::MakeDevice(device) => write!(f, "make device {device}"),
            Self::BindDevice(device) => write!(f, "bind the host's device {device}"),
            Self::Symlink { points_to, path } => write!(f, "link {} to {points_to}", path.display()),
            Self::Bind(bind) => write!(f, "bind {bind}"),
            Self::OpenTerminal { console: false } => f.write_str("open a terminal"),
            Self::OpenTerminal { console: true } => f.write_str("open a terminal and bind it over /dev/console"),
            Self::AwaitHooks => f.write_str("wait for the runtime's hooks"),
            Self::EnterRoot => f.write_str("pivot into the new root and detach the old one"),
            Self::SetHostname(name) => write!(f, "set the host name to {name}"),
            Self::SetDomainname(name) => write!(f, "set the NIS domain name to {name}"),
            Self::RaiseLoopback => f.write_str("raise lo"),
            Self::WriteSysctl { key, value, .. } => write!(f, "set sysctl {key} to `{value}`"),
            Self::ProtectPath(path) => write!(f, "make {} read-only", path.display()),
            Self::MaskPath(path) => write!(f, "mask {}", path.display()),
            Self::ProtectRoot => f.write_str("make / read-only"),
            Self::SetUmask(mask) => write!(f, "set the umask to {mask:03o}"),
            Self::SetLimit(limit) => write!(f, "set {limit}"),
            Self::SetOomScore(score) => write!(f, "set oom_score_adj to {score}"),
            Self::ResolveUser(choice) => write!(f, "look up {choice}"),
            Self::StartSession => f.write_str("start a session"),
            Self::LimitBounding(bits) => write!(f, "limit the bounding set to {bits}"),
            Self::ForbidNewPrivileges => f.write_str("set no_new_privs"),
            Self::InstallSeccomp(program) => write!(f, "install {program:?}"),
            Self::SetIdentity => f.write_str("set groups, group and user"),
            Self::SetCapabilities(bits) => write!(f, "set the capabilities {bits}"),
            Self::DieWithParent => f.write_str("ask for SIGKILL when the parent dies"),
            Self::OpenDirectory { path, make: false } => write!(f, "open the directory {}", path.display()),
            Self::OpenDirectory { path, make: true } => write!(f, "make or open the directory {}", path.display()),
            Self::EnterDirectory => f.write_str("enter the working directory"),
            Self::Execute { args, init, .. } => {
                write!(f, "execute {args:?}{}", if *init { " under the built-in init" } else { "" })
            }
        }
    }
}

impl fmt::Display for UserChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user `{}`", if self.user.is_empty() { "0" } else { &self.user })?;
        if self.groups.is_empty() { Ok(()) } else { write!(f, " and groups {}", self.groups.join(", ")) }
    }
}

impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
        write!(f, "rlimit {} to {} of {}", self.name, shown(self.soft), shown(self.hard))
    }
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
