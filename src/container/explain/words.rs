//! What would happen without a step, and where to read on about it.

use crate::container::plan::Action;

/// Says both. What a step does, and why it stands where it stands, is [`Action`]'s own to say.
#[expect(clippy::too_many_lines, reason = "one entry a step")]
pub(super) fn of(action: &Action) -> (&'static str, &'static [&'static str]) {
    match action {
        Action::JoinCgroups => (
            "limits of version 1 controllers would not hold, and the container's processes could not be found there",
            &["cgroups(7)"],
        ),
        Action::UnshareCgroupNamespace => {
            ("/proc/self/cgroup would tell the host's paths", &["cgroup_namespaces(7)", "unshare(2)"])
        }
        Action::JoinKeyring(_) => {
            ("the container could use the keys of whoever started it", &["keyctl(2)", "session-keyring(7)"])
        }
        Action::OpenSource { .. } | Action::TakeSource { .. } => {
            ("there would be nothing to bind once the host's tree is out of sight", &["open_tree(2)"])
        }
        Action::SetPropagation(_) => (
            "where / is shared (systemd's way) each of our mounts would appear on the host, too",
            &["mount(2)", "mount_namespaces(7)"],
        ),
        Action::OpenMountpoint(_) => {
            ("the mountpoint could not be reached as the user namespace's root", &["openat(2)"])
        }
        Action::BecomeNamespaceRoot { .. } => (
            "files made for the container would be nobody's in it, and most steps that follow would fail",
            &["user_namespaces(7)", "setresuid(2)", "setgroups(2)"],
        ),
        Action::MountOverlay(_) => (
            "what the container writes would change the image itself",
            &["fsopen(2)", "fsconfig(2)", "fsmount(2)", "move_mount(2)", "kernel: filesystems/overlayfs"],
        ),
        Action::BindRoot { .. } => ("pivot_root(2) would fail with EINVAL", &["open_tree(2)", "pivot_root(2)"]),
        Action::Mount(mount) => {
            (without_mount(&mount.fstype), &["fsopen(2)", "fsconfig(2)", "fsmount(2)", "move_mount(2)"])
        }
        Action::MakeDevice(_) => {
            ("programs that open it would fail, or make an ordinary file of that name", &["mknod(2)", "null(4)"])
        }
        Action::BindDevice(_) | Action::PlaceDevice { .. } => (
            "programs that open it would fail, or make an ordinary file of that name",
            &["open_tree(2)", "move_mount(2)", "user_namespaces(7)"],
        ),
        Action::Symlink { .. } => ("scripts that use /dev/stdin, /dev/fd and the like would fail", &["symlink(2)"]),
        Action::Bind(bind) if bind.copy_up => {
            ("the container would write to its own layer, which goes with it", &["mount_setattr(2)", "move_mount(2)"])
        }
        Action::Bind(_) => ("the container would see what its image has there", &["mount_setattr(2)", "move_mount(2)"]),
        Action::OpenTerminal { .. } => {
            ("there would be no job control, and isatty(3) would say no", &["pty(7)", "ioctl_tty(2)"])
        }
        Action::RunHook(_) | Action::AwaitHooks => (
            "who asked for the hooks would find the container without what they do: networks, for one",
            &["runtime-spec: config.md, POSIX-platform Hooks"],
        ),
        Action::EnterRoot => ("the container would see all of the host's files", &["pivot_root(2)", "umount2(2)"]),
        Action::EnterRootByMove => ("the container would see all of the host's files", &["move_mount(2)", "chroot(2)"]),
        Action::ChangeRoot => ("the container would see all of the host's files", &["chroot(2)"]),
        Action::SetRootPropagation(_) => (
            "mounts made in the container, or for it, would not travel as asked",
            &["mount_setattr(2)", "mount_namespaces(7)"],
        ),
        Action::SetHostname(_) => {
            ("the container would have the host's name", &["sethostname(2)", "uts_namespaces(7)"])
        }
        Action::SetDomainname(_) => {
            ("the container would have the host's NIS domain", &["setdomainname(2)", "uts_namespaces(7)"])
        }
        Action::RaiseLoopback => ("127.0.0.1 would be unreachable inside", &["netdevice(7)", "network_namespaces(7)"]),
        Action::WriteSysctl { .. } => ("the kernel's default would hold", &["proc_sys(5)", "sysctl(8)"]),
        Action::ProtectPath(_) => (
            "root in the container could change settings of the whole host",
            &["open_tree(2)", "mount_setattr(2)", "runtime-spec: config-linux.md, Readonly Paths"],
        ),
        Action::MaskPath(_) => (
            "the container could read the host's memory, keys or timers, or speak to its firmware",
            &["open_tree(2)", "move_mount(2)", "runtime-spec: config-linux.md, Masked Paths"],
        ),
        Action::ProtectMount(_) => ("the container could write where it was asked to read only", &["mount_setattr(2)"]),
        Action::ProtectRoot => ("the container could write to its root", &["mount_setattr(2)"]),
        Action::FindProgram { .. } => ("a missing program would be found out at `start` alone", &["execvp(3)"]),
        Action::SetPersonality(_) => ("the program would see the host's architecture", &["personality(2)"]),
        Action::SetScheduler(_) => {
            ("the program would be scheduled as its parent is", &["sched_setattr(2)", "sched(7)"])
        }
        Action::SetAffinity(_) => ("the program would run on any processor of the cgroup", &["sched_setaffinity(2)"]),
        Action::SetIoPriority { .. } => {
            ("the program's disk access would be as urgent as its parent's", &["ioprio_set(2)"])
        }
        Action::SetMemoryPolicy { .. } => ("memory would come from whatever node is near", &["set_mempolicy(2)"]),
        Action::SetUmask(_) => ("files that the program makes would be writable by everybody", &["umask(2)"]),
        Action::SetLimit(_) => ("the limit of whoever started mydocker would hold", &["setrlimit(2)"]),
        Action::SetLabel(_) => {
            ("the security module would confine the program as it does whoever started it", &["proc_pid_attr(5)"])
        }
        Action::SetOomScore(_) => (
            "the container would be as likely as its parent to be killed when memory runs out",
            &["proc_pid_oom_score_adj(5)"],
        ),
        Action::ResolveUser(_) => {
            ("users could not be named, and HOME would be unknown", &["passwd(5)", "group(5)", "openat2(2)"])
        }
        Action::StartSession => (
            "Ctrl-C at the caller's terminal would reach the program, which could type into that terminal (TIOCSTI)",
            &["setsid(2)", "credentials(7)"],
        ),
        Action::LimitBounding(_) => (
            "a file with capabilities, or a set-user-id program, would give back what is taken away below",
            &["capabilities(7)", "PR_CAPBSET_DROP(2const)"],
        ),
        Action::ForbidNewPrivileges => (
            "a set-user-id program could gain rights, and a filter would need CAP_SYS_ADMIN",
            &["PR_SET_NO_NEW_PRIVS(2const)"],
        ),
        Action::InstallSeccomp(_) | Action::InstallSeccompWith { .. } => (
            "the program could make every system call, those that have led out of containers included",
            &["seccomp(2)"],
        ),
        Action::SetIdentity => {
            ("the program would run as root", &["setgroups(2)", "setresgid(2)", "setresuid(2)", "credentials(7)"])
        }
        Action::SetCapabilities(_) | Action::SetCapabilitySets(_) => {
            ("root in the container would be root on the host in all but name", &["capset(2)", "capabilities(7)"])
        }
        Action::DieWithParent => (
            "a killed mydocker would leave the container behind, with nobody to take its end",
            &["PR_SET_PDEATHSIG(2const)"],
        ),
        Action::OpenDirectory { .. } => ("the program would start in /", &["openat2(2)"]),
        Action::EnterDirectory => ("the program would start in /", &["fchdir(2)"]),
        Action::Execute { init: true, .. } => (
            "there would be no program; without the init nobody would reap orphans, and signals without a handler would do nothing",
            &["execve(2)", "pid_namespaces(7)"],
        ),
        Action::Execute { .. } => ("there would be no program", &["execve(2)"]),
    }
}

fn without_mount(fstype: &str) -> &'static str {
    match fstype {
        "proc" => "ps(1) and all that reads /proc would fail, or would see the host's processes",
        "sysfs" => "programs would see no interfaces and no devices, or the host's",
        "devpts" => "terminals opened inside would be the host's, with the host's numbers",
        "mqueue" => "POSIX message queues could not be listed",
        "cgroup" | "cgroup2" => "programs that size themselves by their limits would see none",
        _ => "programs would find what the image has there, and write into its layer",
    }
}
