//! The calls of the steps that change the process itself.

use super::scene::Scene;
use super::strace::{self, Calls, quoted};
use crate::capabilities::CapabilitySets;
use crate::container::plan::{ResourceLimit, Role};
use crate::spec::CapabilitySet;

pub(super) fn join_cgroups(scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::default();
    for role in scene.plan.map_or(&[][..], |plan| &plan.descriptors) {
        if matches!(role, Role::CgroupTasks(_)) {
            calls.add(strace::write("…<…/tasks>", "0"));
        }
    }
    calls
}

pub(super) fn join_keyring(name: &str) -> Calls {
    let mut calls = Calls::default();
    calls.when("the kernel has keys", format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {})", quoted(name)));
    calls
}

pub(super) fn become_namespace_root(keep_groups: bool) -> Calls {
    let mut calls = Calls::default();
    if !keep_groups {
        calls.when("the namespace allows it", "setgroups(0, …)");
    }
    calls.append(Calls::from(["setresgid(0, 0, 0)", "setresuid(0, 0, 0)"]));
    calls
}

pub(super) fn write_oom_score(score: i32) -> Calls {
    let mut calls = Calls::default();
    calls.when("we may", strace::write("…<…/oom_score_adj>", &score.to_string()));
    calls
}

pub(super) fn set_limit(limit: &ResourceLimit) -> Calls {
    let name = limit.name.to_ascii_uppercase();
    let (soft, hard) = (strace::limit(limit.soft), strace::limit(limit.hard));
    let mut calls = Calls::default();
    calls.when("we may", format!("prlimit64(0, RLIMIT_{name}, {{rlim_cur={soft}, rlim_max={hard}}}, NULL)"));
    let less = format!("prlimit64(0, RLIMIT_{name}, {{rlim_cur=…, rlim_max=…}}, NULL)");
    calls.when("we may not: as much as we may", less);
    calls
}

pub(super) fn start_session(scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::one("setsid()");
    if scene.terminal {
        calls.add("ioctl(…, TIOCSCTTY, 0)");
        (0..=2).for_each(|number| calls.add(format!("dup2(…, {number}…)")));
    }
    calls
}

/// One call a capability that is not kept, in the order of their numbers.
pub(super) fn limit_bounding(kept: CapabilitySet) -> Calls {
    let mut calls = Calls::default();
    for name in CapabilitySet::all().difference(kept).names() {
        calls.add(format!("prctl(PR_CAPBSET_DROP, {name})"));
    }
    calls.when("the kernel has more, newer than our list", "prctl(PR_CAPBSET_DROP, 0x…)");
    calls
}

pub(super) fn install_seccomp(program: &[u8], flags: u64) -> Calls {
    const NAMES: [(u64, &str); 6] = [
        (libc::SECCOMP_FILTER_FLAG_TSYNC, "TSYNC"),
        (libc::SECCOMP_FILTER_FLAG_LOG, "LOG"),
        (libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SPEC_ALLOW"),
        (libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, "NEW_LISTENER"),
        (libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH, "TSYNC_ESRCH"),
        (libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "WAIT_KILLABLE_RECV"),
    ];
    let set = NAMES.iter().filter(|(bit, _)| flags & bit != 0);
    let names: Vec<_> = set.map(|(_, name)| format!("SECCOMP_FILTER_FLAG_{name}")).collect();
    let flags = if names.is_empty() { "0".to_owned() } else { names.join("|") };
    Calls::one(format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags}, {{len={}, filter=…}})", program.len() / 8))
}

pub(super) fn set_identity(scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::default();
    if scene.user.is_none_or(|(uid, _)| uid != 0) {
        if scene.terminal {
            calls.when("the user is not root", "fchown(…, …, -1)");
        }
        for fd in 0..=2 {
            calls.when("the user is not root, and it is a pipe", format!("fchown({fd}…, …)"));
        }
    }
    match &scene.user {
        Some((0, _)) => {}
        Some(_) => calls.add("prctl(PR_SET_KEEPCAPS, 1)"),
        None => calls.when("the user is not root", "prctl(PR_SET_KEEPCAPS, 1)"),
    }
    if !scene.keeps_groups {
        let groups = "setgroups(…)";
        if scene.in_user_namespace { calls.when("the namespace allows it", groups) } else { calls.add(groups) }
    }
    match &scene.user {
        Some((uid, gid)) => {
            calls.add(format!("setresgid({gid}, {gid}, {gid})"));
            calls.add(format!("setresuid({uid}, {uid}, {uid})"));
        }
        None => calls.append(Calls::from(["setresgid(…)", "setresuid(…)"])),
    }
    calls
}

const CLEAR_AMBIENT: &str = "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)";

fn capset(effective: &str, permitted: &str, inheritable: &str) -> String {
    format!(
        "capset({{version=_LINUX_CAPABILITY_VERSION_3, pid=0}}, {{effective={effective}, permitted={permitted}, inheritable={inheritable}}})"
    )
}

pub(super) fn set_capabilities(set: CapabilitySet) -> Calls {
    let set = strace::capabilities(set);
    let mut calls = Calls::one(CLEAR_AMBIENT);
    calls.add(capset(&set, &set, "0"));
    calls
}

pub(super) fn set_capability_sets(sets: &CapabilitySets) -> Calls {
    let (effective, permitted) = (strace::capabilities(sets.effective), strace::capabilities(sets.permitted));
    let inheritable = strace::capabilities(sets.inheritable);
    let mut calls = Calls::one(CLEAR_AMBIENT);
    calls.add(capset(&effective, &permitted, &inheritable));
    for name in sets.ambient.names() {
        calls.add(format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {name}, 0, 0)"));
    }
    calls
}

pub(super) fn set_personality(persona: u32) -> Calls {
    Calls::one(match persona {
        0 => "personality(PER_LINUX)".to_owned(),
        8 => "personality(PER_LINUX32)".to_owned(),
        other => format!("personality({other:#x}…)"),
    })
}

pub(super) fn set_io_priority(class: u16, priority: u16) -> Calls {
    let class = match class {
        1 => "IOPRIO_CLASS_RT",
        2 => "IOPRIO_CLASS_BE",
        _ => "IOPRIO_CLASS_IDLE",
    };
    Calls::one(format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE({class}, …{priority}))"))
}

pub(super) fn execute(args: &[String]) -> Calls {
    let name = args.first().map_or("", String::as_str);
    // What PATH says is looked for inside, when the time has come.
    let program = if name.contains('/') { quoted(name) } else { format!("\"…/{}", &quoted(name)[1..]) };
    Calls::one(format!("execve({program}, {}, …)", strace::list(args)))
}

/// It is for the program's process to execute it.
pub(super) fn stay_as_init() -> Calls {
    Calls::from([
        "clone(child_stack=NULL, flags=…SIGCHLD…)",
        "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)",
        "prctl(PR_SET_NAME, \"mydocker-init\")",
    ])
}

/// It reads within the root, without waiting for anybody: a FIFO may stand there.
pub(super) fn resolve_user() -> Calls {
    let mut calls = Calls::default();
    let how = "{flags=…O_NONBLOCK…, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}";
    for file in ["etc/passwd", "etc/group"] {
        calls.when("it has to be asked", format!("openat2(…</>, \"{file}\", {how}, 24)"));
    }
    calls
}
