//! A filter as data: what libseccomp is told, and what stands before its program.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use sha2::{Digest, Sha256};

use super::guard::Guard;
use super::profile::{ANCESTOR, Architecture, CHECKED, DOCKER, KNOWN, NEW_NUMBERS};
use super::{CompiledFilter, SeccompError};
use crate::spec::CapabilitySet;

/// Is one refusal of a built-in profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deny {
    pub name: &'static str,
    pub errno: i32,
    pub arg: Option<Arg>,
}

/// Is true of an argument that has this value in the bits of the mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arg {
    pub index: u32,
    pub mask: u64,
    pub value: u64,
}

/// Is one rule for libseccomp: an action for a call where all comparisons hold.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub name: String,
    pub action: ScmpAction,
    pub args: Vec<ScmpArgCompare>,
}

/// Is a whole filter before it is compiled.
#[derive(Debug)]
pub(super) struct Plan {
    /// What happens to a call that no rule is for.
    pub default: ScmpAction,
    /// The machine's own architecture first.
    pub arches: Vec<ScmpArch>,
    pub rules: Vec<Rule>,
    /// What is decided before libseccomp's program runs.
    pub guard: Guard,
}

/// Which of the built-in profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    Docker,
    /// Docker's with the ancestor's refusals, with or without `socket`.
    Ancestor {
        socket: bool,
    },
}

impl Plan {
    /// Makes the plan of a built-in profile for what a container may do.
    pub(super) fn built_in(which: BuiltIn, capabilities: CapabilitySet) -> Result<Self, SeccompError> {
        let arch = std::env::consts::ARCH;
        let known = KNOWN.iter().find(|(name, _)| *name == arch).ok_or(SeccompError::Architecture { arch })?.1;
        let mut denials = denials(which, capabilities);
        let mut guard = Guard::default();
        for Architecture { audit, known, arch } in known {
            let block = guard.arch(*audit);
            block.known(known);
            for (name, check) in CHECKED.iter().filter(|(name, _)| !denials.iter().any(|deny| deny.name == *name)) {
                block.check(number(name, *arch), *check);
                if *arch == ScmpArch::X8664 {
                    block.check(number(name, ScmpArch::X32), *check);
                }
            }
        }
        // What this libseccomp cannot name is refused by its number. An argument cannot be told apart there: ENOSYS,
        // which sends a libc to the older call.
        denials.retain(|deny| match unnamed(deny.name) {
            None => true,
            Some(new) => {
                let errno = if deny.arg.is_some() { libc::ENOSYS } else { deny.errno };
                guard.refuse(new, errno);
                false
            }
        });
        let mut arches: Vec<ScmpArch> = known.iter().map(|known| known.arch).collect();
        if arches.contains(&ScmpArch::X8664) {
            arches.push(ScmpArch::X32);
        }
        Ok(Self { default: ScmpAction::Allow, arches, rules: denials.into_iter().map(Rule::from).collect(), guard })
    }

    /// Names the plan and all that its program depends on: the same name, the same program.
    pub(super) fn fingerprint(&self) -> String {
        let text = format!("{} {self:?}", super::compile::surroundings());
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Compiles the plan.
    pub(super) fn compile(&self) -> Result<CompiledFilter, SeccompError> {
        let failed = |step: String| move |source| SeccompError::Library { step, source };
        let mut filter = ScmpFilterContext::new(self.default).map_err(failed("begin".to_owned()))?;
        // A tree instead of a chain: the kernel runs the program for every number when it is installed, 0.12 ms instead of 0.31.
        // libseccomp before 2.5 cannot, and the chain decides the same.
        let _ = filter.set_ctl_optimize(2);
        for arch in &self.arches {
            filter.add_arch(*arch).map_err(failed(format!("add the architecture {arch:?}")))?;
        }
        for rule in &self.rules {
            // libseccomp answers EACCES to a rule that repeats the default.
            let Ok(call) = ScmpSyscall::from_name(&rule.name) else { continue };
            if rule.action == self.default {
                continue;
            }
            filter
                .add_rule_conditional(rule.action, call, &rule.args)
                .map_err(failed(format!("add the rule for `{}`", rule.name)))?;
        }
        let mut program = self.guard.assemble();
        program.extend(export(&filter)?);
        CompiledFilter::new(&program)
    }
}

/// Collects the refusals that apply.
fn denials(which: BuiltIn, capabilities: CapabilitySet) -> Vec<Deny> {
    let lifted = |by: &[&str]| by.iter().any(|capability| capabilities.contains(capability));
    let mut denials: Vec<Deny> = Vec::with_capacity(192);
    let mut add = |deny: Deny| {
        // The lists overlap: a whole call refused makes its other rules idle, and libseccomp refuses some repetitions.
        if !denials.iter().any(|had| had.name == deny.name && (had.arg.is_none() || same(had.arg, deny.arg))) {
            denials.retain(|had| deny.arg.is_some() || had.name != deny.name);
            denials.push(deny);
        }
    };
    for refusal in DOCKER.iter().filter(|refusal| !lifted(refusal.lifted_by)) {
        refusal.calls.iter().copied().for_each(&mut add);
    }
    if let BuiltIn::Ancestor { socket } = which {
        ANCESTOR.iter().copied().for_each(&mut add);
        if socket {
            add(Deny { name: "socket", errno: libc::EPERM, arg: None });
        }
    }
    denials
}

fn same(a: Option<Arg>, b: Option<Arg>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if (a.index, a.mask, a.value) == (b.index, b.mask, b.value))
}

/// Returns the number of a call that libseccomp has no name for.
fn unnamed(name: &str) -> Option<u32> {
    let (_, number) = NEW_NUMBERS.iter().find(|(new, _)| *new == name)?;
    ScmpSyscall::from_name(name).is_err().then_some(*number)
}

/// Returns a call's number on an architecture, where it has one.
fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    // On 32-bit x86 libseccomp's `socket` stands for socketcall too, under a number of its own making.
    if (name, arch) == ("socket", ScmpArch::X86) {
        return Some(359);
    }
    u32::try_from(ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall()).ok()
}

impl From<Deny> for Rule {
    fn from(deny: Deny) -> Self {
        let compare = |arg: Arg| ScmpArgCompare::new(arg.index, ScmpCompareOp::MaskedEqual(arg.mask), arg.value);
        Self {
            name: deny.name.to_owned(),
            action: ScmpAction::Errno(deny.errno),
            args: deny.arg.map(compare).into_iter().collect(),
        }
    }
}

/// Returns a filter's program; libseccomp writes it to a descriptor (2.6 alone can write to memory).
fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    use std::io::{Read, Seek};
    let memory = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|source| SeccompError::Export(source.into()))?;
    let mut file = std::fs::File::from(memory);
    filter
        .export_bpf(&file)
        .map_err(|source| SeccompError::Library { step: "write the program".to_owned(), source })?;
    let mut program = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut program)).map_err(SeccompError::Export)?;
    Ok(program)
}
