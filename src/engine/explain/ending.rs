//! The steps from the container's program to the moment when nothing of it is left.

use std::path::Path;

use oci_spec::runtime::Hook;

use super::Subject;
use super::host::quoted;
use crate::container::explain::{Explanation, Process};
use crate::engine::ContainerFiles;
use crate::engine::oci::RECORD;
use crate::namespaces::cgroup::CgroupPlan;
use crate::spec::Mark;

impl Subject<'_> {
    /// Explains what follows once the program was told to run; nothing where others see to the container's end.
    pub(super) fn ending(&self) -> Vec<Explanation> {
        if !self.ends {
            return Vec::new();
        }
        let in_order = self.hooks_after_start.iter().enumerate().map(|(at, each)| hook(each, Mark::HookAfterStart(at)));
        let mut steps = vec![await_program()];
        steps.extend(in_order);
        steps.push(await_end());
        if !self.networks.is_empty() {
            steps.push(detach_networks());
        }
        steps.extend(self.cgroup.map(|plan| remove_cgroup(plan, self.kills)));
        steps.extend(self.hooks_after_end.iter().enumerate().map(|(at, each)| hook(each, Mark::HookAfterEnd(at))));
        steps.extend(self.state.map(remove_state));
        steps.extend(self.files.map(|(files, _)| remove_files(files)));
        steps.extend(self.claim.as_ref().map(|(_, claim)| give_up(claim)));
        steps
    }
}

fn step(mark: Mark, kind: &str, words: &str) -> Explanation {
    Explanation::new(Process::Parent, kind, words).marked(mark)
}

fn await_program() -> Explanation {
    step(Mark::AwaitProgram, "await_program", "wait until the program runs: execve(2) closes the channel")
        .call("recvmsg(…)", None)
        .because(
            "the channel is close-on-exec: its end is the one proof that no step has failed",
            "a step that fails would pass unseen, and with it a container that lacks something",
        )
        .read(&["execve(2)", "unix(7)"])
}

fn await_end() -> Explanation {
    step(Mark::AwaitEnd, "await_end", "wait for the end of the container's first process, and take its status")
        .call("ppoll(…)", None)
        .call("waitid(P_PIDFD, …)", None)
        .because(
            "the pidfd becomes readable with the end; signals and sizes of terminals are passed on meanwhile",
            "a zombie would stay, and nobody would know how the program ended",
        )
        .read(&["pidfd_open(2)", "poll(2)", "waitid(2)"])
}

fn detach_networks() -> Explanation {
    let words = "take the container off its networks, and away what went with it";
    step(Mark::DetachNetworks, "detach_networks", words)
        .call("write(…)", None)
        .because(
            "the thread of the networks serves them until then; its addresses are free again",
            "addresses, rules and bridges would stay behind",
        )
        .read(&["veth(4)", "rtnetlink(7)"])
}

fn remove_cgroup(plan: &CgroupPlan, kills: bool) -> Explanation {
    let mut remove = step(
        Mark::RemoveCgroup,
        "remove_cgroup",
        "end whoever is left in its cgroup, and remove it, and those above it that are empty",
    );
    let v2 = plan.directories.iter().find(|directory| directory.controllers.is_none());
    if let Some(v2) = v2.filter(|_| kills) {
        remove = remove.call(format!("write(…<{}>, \"1\", 1)", v2.path.join("cgroup.kill").display()), None);
    }
    // Version 2 can tell when the last process has left, and it leaves all hierarchies at once.
    let v1 = plan.directories.iter().filter(|directory| directory.controllers.is_some());
    let all: Vec<_> = v2.into_iter().chain(v1).collect();
    for directory in &all {
        remove = remove.call(format!("rmdir({})", quoted(&directory.path)), None);
    }
    for above in all.iter().flat_map(|directory| directory.above.iter().rev()) {
        remove = remove.call(format!("rmdir({})", quoted(above)), Some("nobody else is in it"));
    }
    remove
        .because(
            "a process namespace ends with its first process, any other container with its cgroup; rmdir(2) shows that it is empty",
            "a cgroup for each container that ever ran would stay in the kernel's memory",
        )
        .read(&["cgroups(7)", "rmdir(2)"])
}

fn remove_files(files: &ContainerFiles) -> Explanation {
    let directory = quoted(files.directory());
    let words = format!("remove the container's directory {}, or keep it for the next", files.directory().display());
    let mut remove = step(Mark::RemoveFiles, "remove_files", &words);
    for name in ["hostname", "resolv.conf", "hosts"] {
        remove = remove.call(format!("unlink({})", quoted(&files.directory().join(name))), Some("it is there"));
    }
    remove
        .call(format!("renameat2(AT_FDCWD, {directory}, AT_FDCWD, …, RENAME_NOREPLACE)"), Some("it wrote nothing"))
        .call(format!("rmdir({directory})"), Some("it wrote something, or enough such directories are kept"))
        .because(
            "the container has ended, and what it wrote into its layer goes with it",
            "the disk would fill with the layers of containers that are no more",
        )
        .read(&["unlink(2)", "renameat2(2)", "rmdir(2)"])
}

fn give_up(claim: &Path) -> Explanation {
    step(Mark::GiveUp, "give_up", &format!("give the container up: remove {}", claim.display()))
        .call(format!("unlink({})", quoted(claim)), None)
        .because(
            "last: as long as it is there the next start clears what we may leave",
            "the next start would look for remains of this container",
        )
        .read(&["unlink(2)"])
}

fn remove_state(directory: &Path) -> Explanation {
    step(Mark::RemoveFiles, "remove_state", &format!("remove the container's state {}", directory.display()))
        .call(format!("unlink({})", quoted(&directory.join(RECORD))), None)
        .because(
            "last: as long as it is there `delete --force` finds the rest",
            "the container's id could not be used again",
        )
        .read(&["unlink(2)", "runtime-spec: runtime.md, Delete"])
}

/// Explains a hook that the parent runs when the program runs, or has ended.
fn hook(hook: &Hook, mark: Mark) -> Explanation {
    let (when, kind) = match mark {
        Mark::HookAfterStart(_) => ("now that the program runs", "poststart_hook"),
        _ => ("now that the container has ended", "poststop_hook"),
    };
    let words = format!("run the hook {}, {when}, and wait for it", hook.path().display());
    super::host::call_of(step(mark, kind, &words), hook)
        .because("who asked for the hook wants to know of this moment", "who asked for the hook would not hear of it")
        .read(&["runtime-spec: config.md, POSIX-platform Hooks", "execve(2)"])
}
