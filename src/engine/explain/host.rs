//! The steps on the host: a container's files, its cgroup, its places in networks.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Hook;

use crate::container::explain::{Explanation, Process};
use crate::engine::{ContainerFiles, NetworkWish};
use crate::namespaces::cgroup::{CgroupPlan, PlannedDirectory, PlannedWrite};
use crate::spec::{Mark, NetDeviceMove};

pub(super) fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// Explains what is made on the host for mounts.
pub(super) fn sources(paths: &[PathBuf]) -> Option<Explanation> {
    let words: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let step =
        Explanation::new(Process::Parent, "make_sources", &format!("make what is missing of {}", words.join(", ")))
            .marked(Mark::MakeSources);
    let made =
        paths.iter().fold(step, |step, path| step.call(format!("mkdir({}, …)", quoted(path)), Some("it is missing")));
    let (reason, without) =
        ("a volume begins as an empty directory, and Docker makes what a bind names", "there would be nothing to bind");
    (!paths.is_empty()).then(|| made.because(reason, without).read(&["mkdir(2)"]))
}

/// Explains a hook that the parent runs.
pub(super) fn hook(hook: &Hook, number: usize) -> Explanation {
    let words = format!("run the runtime's hook {}, and wait for it", hook.path().display());
    call_of(Explanation::new(Process::Parent, "runtime_hook", &words).marked(Mark::Hook(number)), hook)
        .because(
            "when the namespaces are there and the old root still is: the process waits for it",
            "who asked for the hook would find the container without what it does: networks, for one",
        )
        .read(&["runtime-spec: config.md, POSIX-platform Hooks", "execve(2)"])
}

/// Explains the way of a network device of the host's into a container.
pub(super) fn net_device(device: &NetDeviceMove) -> Explanation {
    let NetDeviceMove { name, becomes } = device;
    let words = format!("move the interface {name} into the container as {becomes}, with its addresses, and raise it");
    Explanation::new(Process::Parent, "move_net_device", &words)
        .marked(Mark::MoveDevices)
        .call("sendto(…, [{…nlmsg_type=RTM_NEWLINK, …}, {…}, […IFLA_NET_NS_FD…]…)", None)
        .call("setns(…, CLONE_NEWNET)", None)
        .because(
            "the configuration gives it to the container; while the process waits for its plan",
            "the container would not have the device, and the host would keep it",
        )
        .read(&["runtime-spec: config-linux.md, Network Devices", "rtnetlink(7)", "network_namespaces(7)"])
}

/// Adds the calls by which a hook runs.
pub(super) fn call_of(step: Explanation, hook: &Hook) -> Explanation {
    step.call("clone…(…)", None).call(format!("execve({}, …)", quoted(hook.path())), Some("in the hook's own process"))
}

/// Explains the directory of a bundle's container.
pub(super) fn state(directory: &Path) -> Explanation {
    let words = format!("make the container's state {}: locked, and on record", directory.display());
    Explanation::new(Process::Parent, "make_state", &words)
        .marked(Mark::MakeState)
        .call(format!("mkdir({}, 0700)", quoted(directory)), None)
        .call(format!("flock(…<{}>, LOCK_EX|LOCK_NB)", directory.join("lock").display()), None)
        .because(
            "each command of a runtime is a process of its own: the next finds the container by this",
            "`state`, `kill` and `delete` would not know the container",
        )
        .read(&["mkdir(2)", "flock(2)", "runtime-spec: runtime.md, State"])
}

/// Explains the file by which a run in the foreground is known to be alive.
pub(super) fn claim(new: &Path, file: &Path) -> Explanation {
    Explanation::new(Process::Parent, "claim", &format!("claim the container: a locked file {}", file.display()))
        .marked(Mark::Claim)
        .call(format!("flock(…<{}>, LOCK_EX)", new.display()), None)
        .call(format!("rename({}, {})", quoted(new), quoted(file)), None)
        .because(
            "the lock goes with its owner, however that ends: a file without one is what a killed run has left",
            "nobody would clear up after a run that was killed",
        )
        .read(&["flock(2)", "rename(2)"])
}

/// Explains the directory of a container. `spares` says that one that was used before may serve.
pub(super) fn files(files: &ContainerFiles, spares: bool) -> Explanation {
    let directory = quoted(files.directory());
    let at = files.directory().display();
    let words = format!("make the container's directory {at}: writable layer, hosts, hostname, resolv.conf");
    let mut step = Explanation::new(Process::Parent, "make_files", &words).marked(Mark::MakeFiles);
    let (none, some) = ("none is there", "a directory is there that a container left unused");
    if spares {
        let call = format!("renameat2(AT_FDCWD, \"…\", AT_FDCWD, {directory}, RENAME_NOREPLACE)");
        step = step.call(call, Some(some));
    }
    let made =
        [(files.directory(), "0711"), (&files.overlay(), "0777"), (&files.work(), "0777"), (&files.upper(), "0777")];
    for (path, mode) in made {
        step = step.call(format!("mkdir({}, {mode})", quoted(path)), spares.then_some(none));
    }
    for name in ["hostname", "resolv.conf", "hosts"] {
        step = step.call(format!("write(…<{}>, …)", files.directory().join(name).display()), None);
    }
    step.because(
        "the image stays as it is: what the container writes lies here, and these files are bound over the image's",
        "there would be nothing to mount, and the container would not know its own name and address",
    )
    .read(&["mkdir(2)", "hosts(5)", "resolv.conf(5)"])
}

/// Explains that we execute ourselves anew.
pub(super) fn seal() -> Explanation {
    const MOUNTS: Option<&str> = Some("mounts are allowed");
    Explanation::new(Process::Parent, "seal", "execute ourselves anew, from a file that nobody can write to").marked(Mark::Seal)
        .call("open_tree(AT_FDCWD, \"/proc/self/exe\", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)", MOUNTS)
        .call(
            "mount_setattr(…, \"\", AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY, attr_clr=0, propagation=0, userns_fd=0}, 32)",
            MOUNTS,
        )
        .call("open_tree(…, \"\", OPEN_TREE_CLOEXEC|AT_EMPTY_PATH)", MOUNTS)
        .call("memfd_create(\"mydocker\", …)", Some("they are not: a sealed copy in memory"))
        .call("execveat(…, \"\", …, AT_EMPTY_PATH)", None)
        .call("prctl(PR_SET_NAME, …)", None)
        .because(
            "until execve(2) the container's process is a fork of ours, and /proc/self/exe in it is our program",
            "root in a container could overwrite mydocker on the host (CVE-2019-5736)",
        )
        .read(&["open_tree(2)", "memfd_create(2)", "docs/adr/0020"])
}

/// Explains how a cgroup comes to judge devices, where that is not done with the making of it.
pub(super) fn devices(plan: &CgroupPlan) -> Option<Explanation> {
    if plan.device_program {
        return Some(device_program());
    }
    let words = "tell version 1 which devices may be used";
    let tell = Explanation::new(Process::Parent, "judge_devices", words)
        .marked(Mark::JudgeDevices)
        .because(DEVICES_REASON, DEVICES_WITHOUT);
    let tell = plan.device_writes.iter().fold(tell, |step, write| step.call(written(write), None));
    (!plan.device_writes.is_empty()).then(|| tell.read(&["kernel: admin-guide/cgroup-v1/devices", "mknod(2)"]))
}

const DEVICES_REASON: &str = "before the program runs; the process makes its mounts meanwhile";
const DEVICES_WITHOUT: &str = "root in the container could make the node of a disk of the host and read it";

fn device_program() -> Explanation {
    let allowed = Some("the kernel allows it");
    let words = "attach a program to the cgroup that judges each use of a device";
    Explanation::new(Process::Parent, "judge_devices", words)
        .marked(Mark::JudgeDevices)
        .call("bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, …}, …)", allowed)
        .call("bpf(BPF_PROG_ATTACH, {…attach_type=BPF_CGROUP_DEVICE…}, …)", allowed)
        .because(DEVICES_REASON, DEVICES_WITHOUT)
        .read(&["bpf(2)", "mknod(2)"])
}

/// Explains a cgroup.
pub(super) fn cgroup(plan: &CgroupPlan) -> Vec<Explanation> {
    let mut make = Explanation::new(Process::Parent, "make_cgroup", &cgroup_words(plan)).marked(Mark::MakeCgroup);
    for directory in &plan.directories {
        make = make_directory(make, directory);
        if directory.controllers.is_none() {
            for write in &plan.controllers {
                make = make.call(written(write), Some("a controller is not there yet"));
            }
        }
        make = inherit(make, directory);
    }
    let make = make.because(
        "before there is a process: no limit comes late, and all that the container ever starts is found here",
        "nothing would limit the container, and its processes could not be counted, frozen or ended as one",
    );
    let mut steps = vec![make.read(&["cgroups(7)", "mkdir(2)"])];
    if !plan.writes.is_empty() {
        let shown: Vec<_> = plan.writes.iter().map(|write| format!("{}={}", name(&write.file), write.value)).collect();
        let mut limit = Explanation::new(Process::Parent, "set_limits", &format!("set {}", shown.join(", ")))
            .marked(Mark::SetLimits);
        for write in &plan.writes {
            limit = limit.call(written(write), (!write.certain).then_some("the kernel has it"));
        }
        let (reason, without) = ("the limits that were asked for", "the container could take all that the host has");
        steps.push(limit.because(reason, without).read(&["cgroups(7)", "kernel: admin-guide/cgroup-v2"]));
    }
    steps
}

fn cgroup_words(plan: &CgroupPlan) -> String {
    let hierarchies: Vec<_> = plan
        .directories
        .iter()
        .map(|dir| dir.controllers.as_ref().map_or_else(|| "version 2".to_owned(), |names| names.join(",")))
        .collect();
    format!("make its cgroup, in {}", hierarchies.join(" and "))
}

fn make_directory(mut step: Explanation, directory: &PlannedDirectory) -> Explanation {
    for above in &directory.above {
        step = step.call(format!("mkdir({}, 0777)", quoted(above)), Some("it is missing"));
    }
    step.call(format!("mkdir({}, 0777)", quoted(&directory.path)), None)
}

/// A cpuset of version 1 takes no process until it has processors and nodes; they come from above.
fn inherit(mut step: Explanation, directory: &PlannedDirectory) -> Explanation {
    if !directory.controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == "cpuset")) {
        return step;
    }
    for level in directory.above.iter().chain([&directory.path]) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            step = step.call(format!("write(…<{}>, …)", level.join(file).display()), Some("it is empty"));
        }
    }
    step
}

fn written(write: &PlannedWrite) -> String {
    format!("write(…<{}>, {:?}, {})", write.file.display(), write.value, write.value.len())
}

fn name(file: &Path) -> String {
    file.components().next_back().map(Component::as_os_str).unwrap_or_default().to_string_lossy().into_owned()
}

/// Explains the making of networks that go with their last container.
pub(super) fn make_networks() -> Explanation {
    let missing = Some("it is missing");
    Explanation::new(
        Process::Networks,
        "make_networks",
        "make the networks that are not there: a bridge each, with its address",
    )
    .marked(Mark::MakeNetworks)
    .call("sendto(…RTM_NEWLINK…\"bridge\"…)", missing)
    .call("sendto(…RTM_NEWADDR…)", missing)
    .because(
        "the first container that needs such a network makes it, and the last that leaves removes it",
        "there would be nothing to attach the container to",
    )
    .read(&["bridge(8)", "rtnetlink(7)"])
}

/// Explains the place in a network.
pub(super) fn network(wish: &NetworkWish, number: usize) -> Explanation {
    let NetworkWish { network, ifname, ipv4, ipv6, mac, default_route, ports, .. } = wish;
    let mut words = format!("attach the container to the network {network} as {}", ifname.as_str());
    let address = ipv4.map(|address| address.to_string()).into_iter();
    let addresses: Vec<_> = address.chain(ipv6.map(|address| address.to_string())).collect();
    if !addresses.is_empty() {
        words += &format!(", with {}", addresses.join(" and "));
    }
    words += &mac.map(|mac| format!(", Ethernet address {mac}")).unwrap_or_default();
    words += if *default_route { ", its way out" } else { "" };
    if !ports.is_empty() {
        words += &format!(", and publish {} of its ports", ports.len());
    }
    let bridge = Some("the network is a bridge");
    let mut step = Explanation::new(Process::Networks, "attach_network", &words).marked(Mark::AttachNetwork(number));
    for port in ports.iter().filter_map(|port| port.host_port) {
        step = step.call(format!("bind(…, {{…htons({port})…}}, …)"), Some("nobody listens there yet"));
    }
    step.call("sendto(…, [{…nlmsg_type=RTM_NEWLINK, …}, {…}, […\"veth…\"…\"veth\"…]…)", bridge)
        .call("setns(…, CLONE_NEWNET)", bridge)
        .call("bind(…, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr(\"127.0.0.11\")}, 16)", bridge)
        .call("execve(\"…\", …)", Some("it is made by CNI plugins, or rules of the firewall change"))
        .because(
            "while the process mounts; its program does not run before it can be reached",
            "the container would have nothing but lo",
        )
        .read(&["veth(4)", "network_namespaces(7)", "rtnetlink(7)"])
}
