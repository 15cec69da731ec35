//! The words of a plan: what each step does, and why it stands where it stands.

use std::fmt;
use std::path::{Path, PathBuf};

use super::plan::{Action, ResourceLimit, SecurityLabel, UserChoice};

impl Action {
    /// Says why this step is made, and why here.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::JoinCgroups => "limits hold from the first step; by itself and single-threaded this is cheap",
            Self::UnshareCgroupNamespace => "after the cgroup is joined: that cgroup becomes the namespace's root",
            Self::JoinKeyring(_) => "the caller's session keyring is nothing for the container",
            Self::SetLabel(label) => label.reason(),
            Self::TakeSource { .. } => "who is inside the user namespace may not map the ids of the host's mounts",
            Self::OpenSource { .. } => "while the host's tree is in sight and its mounts are still what they were",
            Self::SetPropagation(_) => "nothing mounted from here on may reach the host, nor the host's mounts us",
            Self::OpenMountpoint(_) => "the namespace's root may not search the directories that lead to it",
            Self::BecomeNamespaceRoot { .. } => "files made from here on need an owner that the user namespace maps",
            Self::MountOverlay(_) => "only inside the container's mount namespace, so that it dies with it",
            Self::BindRoot { .. } => "pivot_root wants the new root to be a mount",
            Self::Mount(_) => "proc and sysfs may be mounted in a user namespace only while the host's are in sight",
            Self::MakeDevice(_) => "a private /dev with the six that every program may expect, and no others",
            Self::BindDevice(_) => "a user namespace may not make device nodes",
            Self::PlaceDevice { .. } => "a user namespace may not make device nodes; they were made outside",
            Self::Symlink { .. } => "programs expect them below /dev",
            Self::Bind(_) => "by handle: a symbolic link in the image cannot lead out of the root",
            Self::OpenTerminal { .. } => "of the container's own devpts, so that its name means something inside",
            Self::AwaitHooks => "hooks of the runtime find the namespaces made and the old root still there",
            Self::RunHook(hook) if hook.kind == "startContainer" => {
                "last before the program, and with no more rights than it"
            }
            Self::RunHook(_) => "in the container's namespaces, while the host's programs are still in sight",
            Self::EnterRootByMove => "as pivot_root(2) does, where the host's own root cannot be pivoted away from",
            Self::ChangeRoot => "without a mount namespace of its own there is no root to pivot away from",
            Self::SetRootPropagation(_) => {
                "the description asks for it, or the mounts are the host's; it cannot be before the root is a mount of ours"
            }
            Self::EnterRoot => "all mounts are in place; with the old root goes every path to the host",
            Self::SetHostname(_) | Self::SetDomainname(_) => "the UTS namespace is ours",
            Self::RaiseLoopback => "programs expect 127.0.0.1, and a new network namespace has lo down",
            Self::WriteSysctl { .. } => "before /proc/sys becomes read-only",
            Self::ProtectPath(_) => "kernel settings that are not namespaced stay the host's",
            Self::MaskPath(_) => "what tells of the host or speaks to its hardware is not for a container",
            Self::ProtectMount(_) => "after what belongs in it was made",
            Self::FindProgram { .. } => "who asks for a program that is not there learns of it before anything has run",
            Self::SetScheduler(_) | Self::SetIoPriority { .. } => "while CAP_SYS_NICE is still there",
            Self::SetAffinity(_) => "after the cgroup is joined, which may have changed it",
            Self::SetPersonality(_) | Self::SetMemoryPolicy { .. } => "it is inherited over execve(2)",
            Self::ProtectRoot => "after every mountpoint in it was made",
            Self::SetUmask(_) => "ours was 0 while files were made; programs expect 022",
            Self::SetLimit(_) => "while we still may",
            Self::SetOomScore(_) => "while we still may",
            Self::ResolveUser(_) => "names mean what the container's own files say, read inside its root",
            Self::StartSession => "no signal key of a terminal of ours reaches it; its own terminal does",
            Self::LimitBounding(_) => "while CAP_SETPCAP is effective; execve can give back nothing beyond this",
            Self::ForbidNewPrivileges => "before the filter: without privileges the kernel demands it",
            Self::InstallSeccomp(_) | Self::InstallSeccompWith { .. } => {
                "as late as it can be: the filter binds our own steps too"
            }
            Self::SetIdentity => "after everything that root alone may do; groups before user",
            Self::SetCapabilities(_) | Self::SetCapabilitySets(_) => {
                "after the user: changing it clears the effective set"
            }
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
            Self::JoinKeyring(name) => write!(f, "join a new session keyring {name}"),
            Self::SetLabel(label) => label.fmt(f),
            Self::TakeSource { number, .. } => write!(f, "take the id-mapped tree as source {number}"),
            Self::OpenSource { number, source, below, recursive } => {
                source_words(f, *number, source, below, *recursive)
            }
            Self::SetPropagation(propagation) => write!(f, "make every mount {propagation}"),
            Self::OpenMountpoint(path) => write!(f, "open the mountpoint {}", path.display()),
            Self::BecomeNamespaceRoot { .. } => f.write_str("become user 0 and group 0 of the user namespace"),
            Self::MountOverlay(overlay) => write!(f, "mount {overlay}"),
            Self::BindRoot { source } => write!(f, "bind {} over itself", source.display()),
            Self::Mount(mount) => write!(f, "mount {mount}"),
            Self::MakeDevice(device) => write!(f, "make device {device}"),
            Self::BindDevice(device) => write!(f, "bind the host's device {device}"),
            Self::PlaceDevice { device, .. } => write!(f, "attach the device {device}"),
            Self::Symlink { points_to, path } => write!(f, "link {} to {points_to}", path.display()),
            Self::Bind(bind) => write!(f, "bind {bind}"),
            Self::OpenTerminal { console, size } => terminal_words(f, *console, *size),
            Self::RunHook(hook) => write!(f, "run the {} hook {}", hook.kind, hook.path.display()),
            Self::EnterRootByMove => f.write_str("move the new root over / and change root to it"),
            Self::ChangeRoot => f.write_str("change root to the new root"),
            Self::SetRootPropagation(propagation) => write!(f, "make / {propagation}"),
            Self::AwaitHooks => f.write_str("wait for the runtime's hooks"),
            Self::EnterRoot => f.write_str("pivot into the new root and detach the old one"),
            Self::SetHostname(name) => write!(f, "set the host name to {name}"),
            Self::SetDomainname(name) => write!(f, "set the NIS domain name to {name}"),
            Self::RaiseLoopback => f.write_str("raise lo"),
            Self::WriteSysctl { key, value, .. } => write!(f, "set sysctl {key} to `{value}`"),
            Self::ProtectPath(path) => write!(f, "make {} read-only", path.display()),
            Self::MaskPath(path) => write!(f, "mask {}", path.display()),
            Self::ProtectMount(path) => write!(f, "make the mount on {} read-only", path.display()),
            Self::FindProgram { name, .. } => write!(f, "find the program {name}"),
            Self::SetPersonality(persona) => write!(f, "set the personality {persona:#x}"),
            Self::SetScheduler(choice) => write!(f, "set the scheduling policy {}", choice.policy),
            Self::SetAffinity(processors) => affinity_words(f, processors),
            Self::SetIoPriority { class, priority } => write!(f, "set the io class {class}, priority {priority}"),
            Self::SetMemoryPolicy { mode, nodes } => {
                write!(f, "set the memory policy {mode:#x} on the nodes {nodes:?}")
            }
            Self::ProtectRoot => f.write_str("make / read-only"),
            Self::SetUmask(mask) => write!(f, "set the umask to {mask:03o}"),
            Self::SetLimit(limit) => write!(f, "set {limit}"),
            Self::SetOomScore(score) => write!(f, "set oom_score_adj to {score}"),
            Self::ResolveUser(choice) => write!(f, "look up {choice}"),
            Self::StartSession => f.write_str("start a session"),
            Self::LimitBounding(bits) => write!(f, "limit the bounding set to {bits}"),
            Self::ForbidNewPrivileges => f.write_str("set no_new_privs"),
            Self::InstallSeccompWith { program, flags } => write!(f, "install {program:?} with flags {flags:#x}"),
            Self::InstallSeccomp(program) => write!(f, "install {program:?}"),
            Self::SetIdentity => f.write_str("set groups, group and user"),
            Self::SetCapabilities(bits) => write!(f, "set the capabilities {bits}"),
            Self::SetCapabilitySets(sets) => write!(f, "set {sets}"),
            Self::DieWithParent => f.write_str("ask for SIGKILL when the parent dies"),
            Self::OpenDirectory { path, make } => directory_words(f, path, *make),
            Self::EnterDirectory => f.write_str("enter the working directory"),
            Self::Execute { args, init, .. } => execute_words(f, args, *init),
        }
    }
}

impl SecurityLabel {
    fn reason(&self) -> &'static str {
        match self {
            Self::SelinuxKeys(_) => "the program is to see the keyring that is made next",
            _ => "it holds from execve(2) on; while nothing keeps us from saying it",
        }
    }
}

impl fmt::Display for SecurityLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apparmor(profile) => write!(f, "ask for the AppArmor profile {profile}"),
            Self::Selinux(label) => write!(f, "ask for the SELinux label {label}"),
            Self::SelinuxKeys(label) => write!(f, "label keys `{label}`"),
        }
    }
}

fn source_words(
    f: &mut fmt::Formatter<'_>,
    number: usize,
    source: &Path,
    below: &Option<PathBuf>,
    recursive: bool,
) -> fmt::Result {
    let depth = if recursive { "the tree at" } else { "the mount at" };
    let below = below.as_ref().map(|below| format!(", inside it {},", below.display())).unwrap_or_default();
    write!(f, "open {depth} {}{below} as source {number}", source.display())
}

/// With the mask, as taskset(1) writes it.
fn affinity_words(f: &mut fmt::Formatter<'_>, processors: &[u32]) -> fmt::Result {
    write!(f, "run on the processors {processors:?}")?;
    let mask = processors.iter().try_fold(0, |mask, processor| Some(mask | 1_u128.checked_shl(*processor)?));
    mask.map_or(Ok(()), |mask| write!(f, ", affinity: {mask:#x}"))
}

fn directory_words(f: &mut fmt::Formatter<'_>, path: &Path, make: bool) -> fmt::Result {
    write!(f, "{}open the directory {} for chdir", if make { "make or " } else { "" }, path.display())
}

fn execute_words(f: &mut fmt::Formatter<'_>, args: &[String], init: bool) -> fmt::Result {
    write!(f, "execute {args:?}{}", if init { " under the built-in init" } else { "" })
}

fn terminal_words(f: &mut fmt::Formatter<'_>, console: bool, size: Option<(u16, u16)>) -> fmt::Result {
    f.write_str("open a terminal")?;
    if let Some((rows, columns)) = size {
        write!(f, " of {rows} rows and {columns} columns")?;
    }
    f.write_str(if console { " and bind it over /dev/console" } else { "" })
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
