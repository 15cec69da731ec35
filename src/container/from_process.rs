//! From `process` to steps.

use oci_spec::runtime::{
    Capabilities, IOPriorityClass, Linux, LinuxCapabilities, LinuxMemoryPolicy, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler, Spec,
};

use super::ContainerError;
use super::describe::INIT;
use super::plan::{Action, FilterProgram, ResourceLimit};
use super::planner::{Extras, hook_call, note, refused};
use crate::capabilities::CapabilitySets;
use crate::spec::CapabilitySet;
use crate::sys::scheduling::SchedulerAttributes;

/// The last steps: after them the process is what the request allows it to be.
pub(super) fn start_steps(spec: &Spec, process: &Process, extras: &Extras<'_>) -> Result<Vec<Action>, ContainerError> {
    let init = note(spec, INIT) == "true" && extras.bundle.is_none();
    let mut steps = vec![Action::LimitBounding(capability_set(process, LinuxCapabilities::bounding))];
    if !init {
        steps.push(Action::StartSession);
    }
    let identity = [Action::SetIdentity, Action::EnterDirectory, capability_step(process, extras)];
    let filter = extras.confinement.seccomp.clone().map(|bytes| match extras.bundle {
        Some(bundle) if bundle.seccomp_flags != 0 => {
            Action::InstallSeccompWith { program: FilterProgram(bytes), flags: bundle.seccomp_flags }
        }
        _ => Action::InstallSeccomp(FilterProgram(bytes)),
    });
    let die = extras.options.die_with_parent.then_some(Action::DieWithParent);
    if process.no_new_privileges().unwrap_or(false) {
        steps.extend(identity);
        steps.extend(die);
        steps.push(Action::ForbidNewPrivileges);
        steps.extend(hook_steps(spec, extras)?);
        steps.extend(filter);
    } else {
        steps.extend(filter);
        steps.extend(identity);
        steps.extend(die);
        steps.extend(hook_steps(spec, extras)?);
    }
    let args = process.args().clone().filter(|args| !args.is_empty()).ok_or(ContainerError::NoCommand)?;
    steps.push(Action::Execute { args, env: process.env().clone().unwrap_or_default(), init });
    Ok(steps)
}

/// The hooks at `start`. They come from the container's own tree: nothing of ours is theirs.
fn hook_steps(spec: &Spec, extras: &Extras<'_>) -> Result<Vec<Action>, ContainerError> {
    let (Some(hooks), Some(_)) = (spec.hooks(), extras.bundle) else { return Ok(Vec::new()) };
    let environment = spec.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default();
    let step = |hook| {
        let mut call = hook_call("startContainer", hook, spec, extras)?;
        // What the runtime was started with is nothing for a program of the container's.
        call.env.get_or_insert_with(|| environment.clone());
        Ok(Action::RunHook(call))
    };
    hooks.start_container().iter().flatten().map(step).collect()
}

/// Looks for the program while whoever creates the container still listens.
pub(super) fn find_program(process: &Process) -> Result<Action, ContainerError> {
    let name = process.args().iter().flatten().next().cloned().ok_or(ContainerError::NoCommand)?;
    let path = process.env().iter().flatten().rev().find_map(|entry| entry.strip_prefix("PATH=")).map(str::to_owned);
    Ok(Action::FindProgram { name, path })
}

/// The sets of a bundle are cut down to what can be given; a request's are already, and two of them empty.
fn capability_step(process: &Process, extras: &Extras<'_>) -> Action {
    let permitted = capability_set(process, LinuxCapabilities::permitted);
    let Some(bundle) = extras.bundle else { return Action::SetCapabilities(permitted) };
    let given = |pick: Pick| capability_set(process, pick).intersection(bundle.capabilities);
    let sets = CapabilitySets {
        effective: given(LinuxCapabilities::effective),
        permitted: given(LinuxCapabilities::permitted),
        inheritable: given(LinuxCapabilities::inheritable),
        ambient: given(LinuxCapabilities::ambient),
    };
    let sets = sets.consistent();
    let simple = CapabilitySets { effective: sets.permitted, permitted: sets.permitted, ..CapabilitySets::default() };
    if sets == simple { Action::SetCapabilities(sets.permitted) } else { Action::SetCapabilitySets(sets) }
}

type Pick = fn(&LinuxCapabilities) -> &Option<Capabilities>;

fn capability_set(process: &Process, pick: Pick) -> CapabilitySet {
    let Some(set) = process.capabilities().as_ref().and_then(|all| pick(all).as_ref()) else {
        return CapabilitySet::EMPTY;
    };
    let names: Vec<String> = set.iter().filter_map(serde_name).collect();
    CapabilitySet::try_from(names).unwrap_or(CapabilitySet::EMPTY)
}

/// Returns everything that the description gives in any of its five sets.
pub(super) fn all_capabilities(process: &Process) -> CapabilitySet {
    let picks: [Pick; 5] = [
        LinuxCapabilities::bounding,
        LinuxCapabilities::effective,
        LinuxCapabilities::permitted,
        LinuxCapabilities::inheritable,
        LinuxCapabilities::ambient,
    ];
    picks.into_iter().fold(CapabilitySet::EMPTY, |all, pick| all.union(capability_set(process, pick)))
}

/// The crate's names are the specification's, by way of serde.
fn serde_name(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// Lists the rlimits.
pub(super) fn limits(process: &Process) -> Result<Vec<ResourceLimit>, ContainerError> {
    let mut limits: Vec<ResourceLimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let name = serde_name(&limit.typ());
        let name = name.as_deref().and_then(|name| name.strip_prefix("RLIMIT_")).map(str::to_ascii_lowercase);
        let name = name.ok_or_else(|| refused("process.rlimits.type", "there is no such limit"))?;
        if limits.iter().any(|other| other.name == name) {
            return Err(refused("process.rlimits", format!("`{}` is there twice", name.to_ascii_uppercase())));
        }
        limits.push(ResourceLimit { name, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(limits)
}

/// Returns rows and columns.
pub(super) fn console_size(size: oci_spec::runtime::Box) -> Option<(u16, u16)> {
    let number = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    (size.height() > 0 || size.width() > 0).then(|| (number(size.height()), number(size.width())))
}

/// Processors by number; `None` for no change.
type Processors = Option<Vec<u32>>;

/// Returns the processors of an exec before and after it joins the cgroup; `None` where they stay.
pub(super) fn affinity(process: &Process) -> Result<(Processors, Processors), ContainerError> {
    let Some(asked) = process.exec_cpu_affinity() else { return Ok((None, None)) };
    let list = |text: &Option<String>, key: &str| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => numbers(text).map(Some).ok_or_else(|| {
            refused(&format!("process.execCPUAffinity.{key}"), format!("`{text}` is no list like `0-3,7`"))
        }),
    };
    Ok((list(asked.initial(), "initial")?, list(asked.cpu_affinity_final(), "final")?))
}

/// Lists the steps that say when and where the process runs.
pub(super) fn scheduling_steps(process: &Process, linux: &Linux) -> Result<Vec<Action>, ContainerError> {
    let mut steps = Vec::new();
    if let Some(personality) = linux.personality() {
        if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(refused("linux.personality.flags", "there are no flags yet"));
        }
        steps.push(Action::SetPersonality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    steps.extend(linux.memory_policy().as_ref().map(memory_policy).transpose()?);
    steps.extend(process.scheduler().as_ref().map(scheduler).transpose()?.map(Action::SetScheduler));
    if let Some(choice) = process.io_priority() {
        let class = match choice.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let priority = u16::try_from(choice.priority()).ok().filter(|priority| *priority < 8);
        let priority = priority.ok_or_else(|| refused("process.ioPriority.priority", "it is a number from 0 to 7"))?;
        steps.push(Action::SetIoPriority { class, priority });
    }
    Ok(steps)
}

fn scheduler(asked: &Scheduler) -> Result<SchedulerAttributes, ContainerError> {
    let policy = match asked.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIso => return Err(refused("process.scheduler.policy", "Linux has no SCHED_ISO")),
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    if policy == libc::SCHED_DEADLINE {
        check_deadline(asked)?;
    }
    let priority = u32::try_from(asked.priority().unwrap_or(0));
    Ok(SchedulerAttributes {
        policy: policy as u32,
        flags: asked.flags().iter().flatten().map(flag).fold(0, |bits, bit| bits | bit),
        nice: asked.nice().unwrap_or(0),
        priority: priority.map_err(|_| refused("process.scheduler.priority", "it is less than zero"))?,
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
    })
}

/// Checks what sched_setattr(2) says of SCHED_DEADLINE's three times: the kernel has one word for all that can be wrong.
fn check_deadline(asked: &Scheduler) -> Result<(), ContainerError> {
    let wrong = |what: String| Err(refused("process.scheduler", format!("sched_setattr: `SCHED_DEADLINE` {what}")));
    let (Some(runtime), Some(deadline)) = (*asked.runtime(), *asked.deadline()) else {
        return wrong(format!("requires `{}`", if asked.runtime().is_none() { "runtime" } else { "deadline" }));
    };
    // Where none is given the deadline is the period.
    let period = asked.period().filter(|period| *period != 0);
    if runtime == 0 {
        wrong("runtime must be greater than 0".to_owned())
    } else if !DEADLINE_TIMES.contains(&runtime) {
        let (least, most) = (DEADLINE_TIMES.start(), DEADLINE_TIMES.end());
        wrong(format!("runtime {runtime} must be between {least} and {most} ns"))
    } else if runtime > deadline {
        wrong(format!("runtime {runtime} must be <= deadline {deadline}"))
    } else if let Some(period) = period.filter(|period| deadline > *period) {
        wrong(format!("deadline {deadline} must be <= period {period}"))
    } else {
        Ok(())
    }
}

/// In nanoseconds: the kernel counts in 1,024 of them, and the highest bit is its own.
const DEADLINE_TIMES: std::ops::RangeInclusive<u64> = 1024..=(1 << 63) - 1;

fn memory_policy(asked: &LinuxMemoryPolicy) -> Result<Action, ContainerError> {
    let mode = match asked.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    };
    let flags: u32 = asked.flags().iter().flatten().map(flag).fold(0, |bits, bit| bits | bit);
    let text = asked.nodes().as_deref().unwrap_or_default();
    let nodes = numbers(text).ok_or_else(|| refused("linux.memoryPolicy.nodes", "it is a list like `0-1,3`"))?;
    Ok(Action::SetMemoryPolicy { mode: mode | flags, nodes })
}

/// More processors, or memory nodes, than the kernel can have.
const GREATEST: u32 = 1 << 16;

/// Reads a list of numbers and ranges: `0-3,7`.
pub(super) fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= GREATEST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_deadline_fit_each_other() {
        let check = |times: &str| {
            let text = format!("{{\"policy\":\"SCHED_DEADLINE\"{times}}}");
            scheduler(&serde_json::from_str(&text).unwrap()).map(drop).map_err(|error| error.to_string())
        };
        let ms = |runtime, deadline, period| {
            let [runtime, deadline, period] = [runtime, deadline, period].map(|ms: u64| ms * 1_000_000);
            format!(",\"runtime\":{runtime},\"deadline\":{deadline},\"period\":{period}")
        };
        for good in [ms(1, 2, 3), ms(1, 1, 1), ms(1, 2, 0), ",\"runtime\":1024,\"deadline\":1024".to_owned()] {
            assert_eq!(check(&good), Ok(()), "{good}");
        }
        for (bad, words) in [
            (",\"deadline\":5000".to_owned(), "requires `runtime`"),
            (",\"runtime\":5000".to_owned(), "requires `deadline`"),
            (ms(0, 2, 3), "runtime must be greater than 0"),
            (ms(3, 2, 4), "runtime 3000000 must be <= deadline 2000000"),
            (ms(1, 3, 2), "deadline 3000000 must be <= period 2000000"),
            (",\"runtime\":1023,\"deadline\":5000".to_owned(), "runtime 1023 must be between 1024 and"),
            (format!(",\"runtime\":{0},\"deadline\":{0}", 1_u64 << 63), "must be between 1024 and"),
        ] {
            let error = check(&bad).unwrap_err();
            assert!(error.contains("process.scheduler") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-2, 7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(numbers(""), Some(Vec::new()));
        for wrong in ["a", "3-1", "-1", "1-", "0-4294967295"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
