//! What is done around the plan: the process is made, its ids are mapped, and it is told what to do.

use super::strace::{self, Calls, map_ids, path, quoted};
use super::{Explanation, Process};
use crate::container::{Prepared, SpawnRequest};
use crate::namespaces::user::SetGroups;
use crate::namespaces::{Namespace, NamespaceSet};
use crate::spec::{IdMap, Mark};
use crate::sys::mount::MountChange;

/// The order in which strace(1) writes the flags of clone3(2).
const ORDER: [Namespace; 6] =
    [Namespace::Mount, Namespace::Uts, Namespace::Ipc, Namespace::User, Namespace::Pid, Namespace::Network];

fn clone3(namespaces: NamespaceSet, into_cgroup: bool, sibling: bool) -> String {
    let mut flags = vec!["CLONE_PIDFD"];
    flags.extend(sibling.then_some("CLONE_PARENT"));
    flags.extend(ORDER.into_iter().filter(|kind| namespaces.contains(*kind)).map(Namespace::flag));
    flags.push("CLONE_CLEAR_SIGHAND");
    flags.extend(into_cgroup.then_some("CLONE_INTO_CGROUP"));
    let (signal, cgroup) = (if sibling { "0" } else { "SIGCHLD" }, if into_cgroup { ", cgroup=…" } else { "" });
    format!(
        "clone3({{flags={}, pidfd=…, exit_signal={signal}, stack=NULL, stack_size=0{cgroup}}}…, 88)",
        flags.join("|")
    )
}

fn namespaces_in_words(set: NamespaceSet) -> String {
    if set.bits() == 0 { "no new namespaces".to_owned() } else { format!("new namespaces: {set}") }
}

/// Explains how the process is made: by one call, or by a process in between.
pub(super) fn clone(spawn: &SpawnRequest, into_cgroup: bool) -> Vec<Explanation> {
    let made = spawn.create.without(Namespace::Cgroup).without(Namespace::Time);
    let words = namespaces_in_words(made);
    let container = Explanation {
        process: Process::Parent,
        kind: "clone".to_owned(),
        step: format!("clone the container's first process, with {words}"),
        calls: Vec::new(),
        reason: "one call makes the process, its namespaces and a descriptor of it (pidfd), in its cgroup from its first instruction".to_owned(),
        without: "the program would be a process of the host like any other".to_owned(),
        manual: ["clone3(2)", "namespaces(7)", "pidfd_open(2)"].map(str::to_owned).to_vec(),
        mark: Some(Mark::Clone),
        becomes_program: false,
    };
    if !spawn.needs_one_between() {
        return vec![Explanation { calls: Calls::one(clone3(made, into_cgroup, false)).0, ..container }];
    }
    let mut joined = Calls::one("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)");
    joined.append(joins(&spawn.join));
    if spawn.create.contains(Namespace::Time) {
        joined.add("unshare(CLONE_NEWTIME)");
        joined.append(spawn.time_offsets.iter().fold(Calls::default(), |mut calls, offsets| {
            calls.add(strace::write("…<…/timens_offsets>", offsets));
            calls
        }));
    }
    vec![
        Explanation {
            kind: "clone_between".to_owned(),
            step: "clone a process that stands in between".to_owned(),
            calls: Calls::one(clone3(NamespaceSet::default(), false, false)).0,
            reason: "some namespaces hold for children alone, or have to own what is made after them".to_owned(),
            without: "mydocker itself would have to leave its namespaces".to_owned(),
            mark: Some(Mark::CloneBetween),
            ..container.clone()
        },
        Explanation {
            process: Process::Between,
            kind: "join_namespaces".to_owned(),
            step: format!("join and make what holds for children alone: {}", spawn.namespaces().difference(made)),
            calls: joined.0,
            reason: "in an order in which each may still be joined".to_owned(),
            without: "the container would not share what it is to share".to_owned(),
            mark: Some(Mark::Join),
            manual: ["setns(2)", "unshare(2)", "time_namespaces(7)"].map(str::to_owned).to_vec(),
            ..container.clone()
        },
        Explanation {
            process: Process::Between,
            calls: Calls::one(clone3(made, into_cgroup, true)).0,
            step: format!("clone the container's first process as a sibling, with {words}"),
            ..container
        },
    ]
}

fn joins(kinds: &[Namespace]) -> Calls {
    let call = |kind: &Namespace| format!("setns(…, {})", kind.flag());
    let with_user = kinds.contains(&Namespace::User);
    let others = || kinds.iter().filter(|kind| **kind != Namespace::User);
    let mut calls = Calls::default();
    if !with_user {
        others().for_each(|kind| calls.add(call(kind)));
        return calls;
    }
    others().for_each(|kind| calls.when("we may from outside the user namespace", call(kind)));
    calls.add(call(&Namespace::User));
    others().for_each(|kind| calls.when("we may from inside alone", call(kind)));
    calls
}

/// Explains what the parent does for a user namespace and for id-mapped mounts.
pub(super) fn set_up(prepared: &Prepared) -> Vec<Explanation> {
    let mut steps = Vec::new();
    if let Some(namespace) = &prepared.user_namespace {
        let mut calls = Calls::default();
        if namespace.groups == SetGroups::Deny {
            calls.add(strace::write("…<…/setgroups>", "deny"));
        }
        calls.add(strace::write("…<…/uid_map>", &lines(&namespace.maps.uid)));
        calls.add(strace::write("…<…/gid_map>", &lines(&namespace.maps.gid)));
        let manual = &["user_namespaces(7)"];
        steps.push(
            step(Mark::WriteIdMaps, "write_id_maps", "write the id maps of its user namespace", calls, manual).because(
                "nobody inside may map ids that are not its own",
                "all ids in the container would be nobody's, and it could not change to any",
            ),
        );
        for (number, layer) in namespace.layers().into_iter().enumerate() {
            let mut calls = Calls::one(strace::open_tree("AT_FDCWD", &path(layer), false));
            calls.add(map_ids(&MountChange { propagation: libc::MS_PRIVATE, ..MountChange::default() }));
            let words = format!("clone the layer {} with its ids mapped", layer.display());
            steps.push(step(Mark::MapLayer(number), "map_layer", &words, calls, &["mount_setattr(2)"]).because(
                "the image belongs to ids that the namespace does not have; the mount shows them as those that it has",
                "root in the container could neither own nor change the files of its image",
            ));
        }
    }
    for (number, source) in prepared.mapped_sources.iter().enumerate() {
        let recursive = source.recursive && source.map_recursive;
        let mut calls = Calls::default();
        if source.maps.is_some() {
            let user = NamespaceSet::default().with(Namespace::User);
            calls.add(clone3(user, false, false));
            calls.append(Calls::from(["write(…<…/uid_map>, …)", "write(…<…/gid_map>, …)"]));
        }
        calls.add(strace::open_tree("AT_FDCWD", &path(&source.path), source.recursive));
        calls.add(map_ids(&MountChange { recursive, ..MountChange::default() }));
        let words = format!("clone the source {} with its ids mapped", source.path.display());
        steps.push(step(Mark::MapSource(number), "map_source", &words, calls, &["mount_setattr(2)"]).because(
            "who is inside the user namespace may not map the ids of the host's mounts",
            "its files would show with the owners they have on the host",
        ));
    }
    if !prepared.devices.is_empty() {
        let calls = Calls::one(clone3(NamespaceSet::default().with(Namespace::Mount), false, false));
        let words = format!("have a process make {} device nodes, each a mount of its own", prepared.devices.len());
        steps.push(
            step(Mark::MakeNodes, "make_nodes", &words, calls, &["mknod(2)", "user_namespaces(7)"])
                .because("a user namespace may not make device nodes", "the container would have no devices"),
        );
    }
    steps
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count)).collect()
}

/// Begins a step of the parent.
fn step(mark: Mark, kind: &str, words: &str, calls: Calls, manual: &[&str]) -> Explanation {
    Explanation::new(Process::Parent, kind, words).marked(mark).with(calls, manual)
}

/// Explains what the new process does before its plan.
pub(super) fn begin(spawn: &SpawnRequest) -> Explanation {
    let mut calls = Calls::one("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)");
    if !spawn.needs_one_between() {
        calls.append(joins(&spawn.join));
    }
    calls.append(Calls::from(["close_range(…, 4294967295, 0)", "umask(000)"]));
    let joined = spawn.join.iter().copied().collect::<NamespaceSet>();
    let words = match joined.bits() == 0 || spawn.needs_one_between() {
        true => "begin: hide our memory, close every descriptor of the parent's".to_owned(),
        false => {
            format!("begin: hide our memory, join the namespaces {joined}, close every descriptor of the parent's")
        }
    };
    let manual = &["PR_SET_DUMPABLE(2const)", "setns(2)", "close_range(2)", "umask(2)"];
    Explanation::new(Process::Child, "begin", &words).marked(Mark::Begin).with(calls, manual).because(
        "until execve(2) this process has a copy of its parent's memory and descriptors, which are nothing for others in the container",
        "who is in the container already could read secrets of the parent's through /proc",
    )
}

/// Explains the moment between the two parts of a plan.
pub(super) fn created(start_at_once: bool) -> Explanation {
    let words = if start_at_once {
        "tell the parent that the container is created, and go on"
    } else {
        "tell the parent that the container is created, and wait for its `start`"
    };
    let mut calls = Calls::one(format!("sendmsg(…{}…, MSG_NOSIGNAL)", created_message()));
    if !start_at_once {
        calls.add("recvmsg(…)");
    }
    calls.add("close_range(…, 4294967295, CLOSE_RANGE_CLOEXEC)");
    let manual = &["unix(7)", "close_range(2)", "runtime-spec: runtime.md, Lifecycle"];
    Explanation::new(Process::Child, "created", words).marked(Mark::Created).with(calls, manual).because(
        "everything but the program is in place; networks and hooks come before its first instruction",
        "nobody would know that it may be started, or when it cannot be",
    )
}

/// The message as it stands within a string of strace(1)'s.
fn created_message() -> String {
    let text = quoted("{\"created\":");
    text[1..text.len() - 1].to_owned()
}

/// Explains what the parent says to the process.
pub(super) fn say_start() -> Explanation {
    let calls = Calls::one(r#"sendmsg(…{iov_base="\"start\"", iov_len=7}…, MSG_NOSIGNAL)"#);
    step(Mark::SendStart, "send_start", "tell the process to go on to its program", calls, &["unix(7)"]).because(
        "its networks are there, and whoever carries its streams is ready",
        "the program would run before it can be reached, or heard",
    )
}

/// Explains how the plan comes to the process, where it does not have it from its parent's memory.
pub(super) fn send_plan(steps: usize) -> Explanation {
    let words = format!("send the plan, {steps} steps, with the descriptors that it needs");
    step(
        Mark::SendPlan,
        "send_plan",
        &words,
        Calls::one("sendmsg(…{\\\"plan\\\":…, MSG_NOSIGNAL)"),
        &["unix(7)", "cmsg(3)"],
    )
    .because(
        "what the process needs of the host's was opened by who may; it closed all else",
        "the process would wait for its plan",
    )
}
