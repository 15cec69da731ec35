//! Profiles in Docker's JSON form, which contains OCI's.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpSyscall};
use serde::Deserialize;

use super::SeccompError;
use super::guard::Guard;
use super::plan::{Plan, Rule};
use super::profile::{KNOWN, X32};
use crate::spec::CapabilitySet;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    pub default_action: String,
    pub default_errno_ret: Option<u16>,
    #[serde(default)]
    pub architectures: Option<Vec<String>>,
    #[serde(default)]
    pub arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    pub syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchMap {
    pub architecture: String,
    #[serde(default)]
    pub sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Syscall {
    /// The form before 2017.
    pub name: Option<String>,
    #[serde(default)]
    pub names: Vec<String>,
    pub action: String,
    pub errno_ret: Option<u16>,
    #[serde(default)]
    pub args: Option<Vec<Argument>>,
    #[serde(default)]
    pub includes: Option<Filter>,
    #[serde(default)]
    pub excludes: Option<Filter>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub index: u32,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(default)]
    pub caps: Vec<String>,
    #[serde(default)]
    pub arches: Vec<String>,
    pub min_kernel: Option<String>,
}

/// Reads a profile and makes its plan for what a container may do.
pub(super) fn plan(path: &Path, capabilities: CapabilitySet) -> Result<Plan, SeccompError> {
    let text = fs::read(path).map_err(|source| SeccompError::Read { path: path.to_owned(), source })?;
    let profile: Profile =
        serde_json::from_slice(&text).map_err(|source| SeccompError::Parse { path: path.to_owned(), source })?;
    Reader { origin: Origin::File(path), capabilities }.plan(&profile)
}

/// Says where a profile comes from: errors name it, and only a bundle's names an agent that is asked (SCMP_ACT_NOTIFY).
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    File(&'a Path),
    Bundle,
}

pub(super) struct Reader<'a> {
    pub origin: Origin<'a>,
    pub capabilities: CapabilitySet,
}

impl Reader<'_> {
    /// Makes the plan of a profile.
    pub fn plan(&self, profile: &Profile) -> Result<Plan, SeccompError> {
        let default = self.action(&profile.default_action, profile.default_errno_ret)?;
        let arches = self.arches(profile)?;
        let mut rules = Vec::new();
        for syscall in profile.syscalls.iter().flatten() {
            if self.applies(syscall)? {
                self.rules(syscall, &mut rules)?;
            }
        }
        let named: Vec<&str> = profile
            .syscalls
            .iter()
            .flatten()
            .flat_map(|syscall| syscall.names.iter().chain(&syscall.name))
            .map(String::as_str)
            .collect();
        let guard = guard(default, &arches, &named);
        Ok(Plan { default, arches, rules, guard })
    }

    /// Returns the architectures: named one by one, or by the machine's own with those it runs too.
    fn arches(&self, profile: &Profile) -> Result<Vec<ScmpArch>, SeccompError> {
        let parse = |name: &String| ScmpArch::from_str(name).map_err(|_| self.bad("an architecture", name));
        let named = profile.architectures.iter().flatten().map(parse).collect::<Result<Vec<_>, _>>()?;
        let native = ScmpArch::native();
        let mut arches = vec![native];
        arches.extend(named.into_iter().filter(|arch| !matches!(*arch, ScmpArch::Native) && *arch != native));
        for entry in profile.arch_map.iter().flatten() {
            // The map lists machines of every kind, some perhaps newer than libseccomp: only ours matters.
            if ScmpArch::from_str(&entry.architecture).is_ok_and(|arch| arch == native) {
                let subs = entry.sub_architectures.iter().flatten().map(parse).collect::<Result<Vec<_>, _>>()?;
                arches.extend(subs);
            }
        }
        Ok(arches)
    }

    /// Answers whether an entry is for this machine and these capabilities.
    fn applies(&self, syscall: &Syscall) -> Result<bool, SeccompError> {
        let has = |capability: &String| self.capabilities.contains(capability);
        let here = |arch: &String| arch == go_arch();
        if let Some(only) = &syscall.includes {
            let old = match &only.min_kernel {
                Some(version) => self.kernel_is_older(version)?,
                None => false,
            };
            if old || !only.caps.iter().all(has) || !(only.arches.is_empty() || only.arches.iter().any(here)) {
                return Ok(false);
            }
        }
        if let Some(not) = &syscall.excludes {
            let new = match &not.min_kernel {
                Some(version) => !self.kernel_is_older(version)?,
                None => false,
            };
            if new || not.caps.iter().any(has) || not.arches.iter().any(here) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn kernel_is_older(&self, than: &str) -> Result<bool, SeccompError> {
        let wanted = version(than).ok_or_else(|| self.bad("a kernel version", than))?;
        let running = rustix::system::uname();
        Ok(version(&running.release().to_string_lossy()).is_some_and(|running| running < wanted))
    }

    fn rules(&self, syscall: &Syscall, rules: &mut Vec<Rule>) -> Result<(), SeccompError> {
        let action = self.action(&syscall.action, syscall.errno_ret)?;
        let args: Vec<(u32, ScmpArgCompare)> =
            syscall.args.iter().flatten().map(|arg| Ok((arg.index, self.compare(arg)?))).collect::<Result<_, _>>()?;
        // libseccomp takes one comparison an argument in a rule; as in runc, a repeated argument means "or".
        let repeated = args.iter().enumerate().any(|(at, (index, _))| args[..at].iter().any(|(had, _)| had == index));
        for name in syscall.names.iter().chain(&syscall.name) {
            if repeated {
                rules.extend(args.iter().map(|(_, arg)| Rule { name: name.clone(), action, args: vec![*arg] }));
            } else {
                rules.push(Rule { name: name.clone(), action, args: args.iter().map(|(_, arg)| *arg).collect() });
            }
        }
        Ok(())
    }

    fn action(&self, name: &str, errno: Option<u16>) -> Result<ScmpAction, SeccompError> {
        let errno = errno.unwrap_or(1);
        match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(ScmpAction::KillThread),
            "SCMP_ACT_KILL_PROCESS" => Ok(ScmpAction::KillProcess),
            "SCMP_ACT_TRAP" => Ok(ScmpAction::Trap),
            "SCMP_ACT_ERRNO" => Ok(ScmpAction::Errno(i32::from(errno))),
            "SCMP_ACT_TRACE" => Ok(ScmpAction::Trace(errno)),
            "SCMP_ACT_ALLOW" => Ok(ScmpAction::Allow),
            "SCMP_ACT_LOG" => Ok(ScmpAction::Log),
            // A file has nobody to ask.
            "SCMP_ACT_NOTIFY" if matches!(self.origin, Origin::Bundle) => Ok(ScmpAction::Notify),
            _ => Err(self.bad("an action", name)),
        }
    }

    fn compare(&self, arg: &Argument) -> Result<ScmpArgCompare, SeccompError> {
        if arg.index > 5 {
            return Err(self.bad("an argument's index, 0 to 5,", &arg.index.to_string()));
        }
        let (op, value) = match arg.op.as_str() {
            "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
            "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
            "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
            "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
            "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
            "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
            // The mask comes first, then what must be left.
            "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
            other => return Err(self.bad("a comparison", other)),
        };
        Ok(ScmpArgCompare::new(arg.index, op, value))
    }

    fn bad(&self, what: &'static str, value: &str) -> SeccompError {
        match self.origin {
            Origin::File(path) => SeccompError::Value { path: path.to_owned(), what, value: value.to_owned() },
            Origin::Bundle => SeccompError::Config { reason: format!("`{value}` is not {what}") },
        }
    }
}

/// Returns the guard of a profile that refuses by default: what is numbered above everything it names is newer than the
/// profile, and is answered as an older kernel would, so that programs fall back instead of giving up.
fn guard(default: ScmpAction, arches: &[ScmpArch], named: &[&str]) -> Guard {
    let mut guard = Guard::default();
    let refuses = matches!(default, ScmpAction::Errno(errno) if errno != libc::ENOSYS);
    let known = KNOWN.iter().find(|(name, _)| *name == std::env::consts::ARCH).map_or(&[][..], |(_, known)| known);
    for arch in known.iter().filter(|known| refuses && arches.contains(&known.arch)) {
        let newest = named
            .iter()
            .filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch.arch).ok())
            .filter_map(|call| u32::try_from(call.as_raw_syscall()).ok())
            .filter(|number| *number < 0x1_0000)
            .max();
        let Some(newest) = newest else { continue };
        let mut ranges = vec![0..=newest];
        if arches.contains(&ScmpArch::X32) {
            ranges.push(X32..=X32 + newest.max(547));
        } else if arch.arch == ScmpArch::Arm {
            ranges.push(0xf_0000..=0xf_ffff);
        }
        guard.arch(arch.audit).known(&ranges);
    }
    guard
}

/// Returns this machine's architecture as Go names it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Reads the first two numbers of a kernel version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}
