//! Options of `run` about limits, identity and confinement.

use std::collections::BTreeMap;
use std::path::Path;

use super::request::wrong;
use crate::cli::args::{AncestorLimits, RunOptions, UsageError, shown};
use crate::cli::host;
use crate::spec::{
    ByteSize, CapabilityBase, CapabilityRequest, CapabilitySet, CpuList, CpuWeight, IdMap, IdMaps, KernelFiles,
    ResourceLimits, SeccompRequest, SpecError, Ulimit,
};

/// Reads the limits that cgroups enforce.
pub(super) fn resources(options: &RunOptions, ancestor: Option<&AncestorLimits>) -> Result<ResourceLimits, UsageError> {
    let mut limits = ResourceLimits {
        memory: options.memory.map(|size| size.0),
        memory_reservation: options.memory_reservation.map(|size| size.0),
        memory_swap: options.memory_swap.as_deref().map(memory_swap).transpose()?,
        nano_cpus: options.cpus.as_deref().map(nano_cpus).transpose()?,
        cpu_quota: options.cpu_quota,
        cpu_period: options.cpu_period,
        cpu_weight: options.cpu_shares.map(CpuWeight::Shares),
        cpuset: options.cpuset_cpus.clone(),
        memory_nodes: options.cpuset_mems.clone(),
        pids: options.pids_limit,
        io_weight: options.blkio_weight,
    };
    if limits.nano_cpus.is_some() && (limits.cpu_quota.is_some() || limits.cpu_period.is_some()) {
        return Err(wrong("`--cpus` says what `--cpu-quota` and `--cpu-period` say: give one of them"));
    }
    check(&limits)?;
    if let Some(ancestor) = ancestor.filter(|ancestor| ancestor.limited) {
        // What a long option says counts; the short ones and their defaults fill the rest.
        limits.memory = limits.memory.or(Some(ancestor.memory));
        limits.cpu_weight = limits.cpu_weight.or(Some(CpuWeight::Percent(ancestor.cpu_percent)));
        limits.pids = limits.pids.or(Some(ancestor.pids));
        limits.io_weight = limits.io_weight.or(Some(ancestor.io_weight));
    }
    Ok(limits)
}

/// Less than this and nothing starts; Docker's bound.
const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel has no more process ids than this (PID_MAX_LIMIT), and takes no greater limit (pids.max).
const MOST_PROCESSES: i64 = 4_194_304;

/// Refuses what the kernel would, in the words of the command line; 0 bytes of memory are no limit, as Docker has it. The ancestor's own
/// letters have ranges of their own.
fn check(limits: &ResourceLimits) -> Result<(), UsageError> {
    let bad = |option: &str, value: &dyn std::fmt::Display, reason: String| {
        Err(wrong(format!("`{option} {value}`: {reason}")))
    };
    let memory = limits.memory.filter(|bytes| *bytes > 0);
    if let Some(bytes) = memory.filter(|bytes| *bytes < LEAST_MEMORY) {
        return bad(
            "--memory",
            &bytes,
            "nothing starts in so few bytes; the least is 6m (6291456), 0 is no limit".to_owned(),
        );
    }
    if let (Some(bytes), Some(memory)) = (limits.memory_reservation.filter(|bytes| Some(*bytes) > memory), memory) {
        return bad("--memory-reservation", &bytes, format!("more is reserved than `--memory {memory}` allows"));
    }
    if let Some(number) = limits.pids.filter(|number| *number != -1 && !(1..=MOST_PROCESSES).contains(number)) {
        return bad("--pids-limit", &number, format!("expected 1 to {MOST_PROCESSES}, or -1 for no limit"));
    }
    if let Some(quota) = limits.cpu_quota.filter(|quota| (1..1000).contains(quota)) {
        return bad("--cpu-quota", &quota, "the least is 1000 microseconds, 0 and -1 are no limit".to_owned());
    }
    if let Some(period) = limits.cpu_period.filter(|period| *period != 0 && !(1000..=1_000_000).contains(period)) {
        return bad("--cpu-period", &period, "expected 1000 to 1000000 microseconds".to_owned());
    }
    let cpus = host::online_cpus();
    if let Some(message) = limits.nano_cpus.zip(cpus.as_ref()).and_then(|(nano, cpus)| host::too_much_cpu(nano, cpus)) {
        return Err(wrong(format!("`--cpus`: {message}")));
    }
    list("--cpuset-cpus", limits.cpuset.as_deref(), cpus)?;
    list("--cpuset-mems", limits.memory_nodes.as_deref(), host::online_nodes())
}

/// Refuses a list that is none, or names what this host does not have.
fn list(option: &str, text: Option<&str>, there: Option<CpuList>) -> Result<(), UsageError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
    let asked: CpuList =
        text.parse().map_err(|error: SpecError| wrong(format!("`{option} {}`: {error}", shown(text))))?;
    match there.and_then(|there| host::missing_cpus(&asked, &there)) {
        Some(message) => Err(wrong(format!("`{option}`: {message}"))),
        None => Ok(()),
    }
}

fn memory_swap(text: &str) -> Result<i64, UsageError> {
    let bytes = || i64::try_from(text.parse::<ByteSize>().ok()?.0).ok();
    if text == "-1" { Some(-1) } else { bytes() }
        .ok_or_else(|| wrong(format!("`--memory-swap {}` is neither a size nor -1", shown(text))))
}

/// `0.5` in thousand-millionths of a CPU.
fn nano_cpus(text: &str) -> Result<u64, UsageError> {
    let number = text.parse::<f64>().ok().filter(|cpus| (0.01..=8192.0).contains(cpus));
    let nano = number.map(|cpus| (cpus * 1e9).round() as u64);
    nano.ok_or_else(|| {
        wrong(format!("`--cpus {}` is not a number of CPUs; the least is 0.01, for example 0.5", shown(text)))
    })
}

/// Reads `NAME=SOFT[:HARD]`.
pub(super) fn ulimits(list: &[String]) -> Result<BTreeMap<String, Ulimit>, UsageError> {
    list.iter()
        .map(|text| {
            let bad = || {
                wrong(format!("`--ulimit {}` is not NAME=SOFT[:HARD]", shown(text)))
                    .hint("--ulimit nofile=1024:2048; -1 is unlimited")
            };
            let (name, values) = text.split_once('=').ok_or_else(bad)?;
            let (soft, hard) = values.split_once(':').unwrap_or((values, values));
            let value = |text: &str| if text == "-1" { Some(u64::MAX) } else { text.parse().ok() };
            let limit = Ulimit { soft: value(soft).ok_or_else(bad)?, hard: value(hard).ok_or_else(bad)? };
            Ok((name.to_ascii_lowercase(), limit))
        })
        .collect()
}

/// Reads the maps of a user namespace; one that is given alone holds for users and groups.
pub(super) fn id_maps(options: &RunOptions, ancestor: Option<&AncestorLimits>) -> Result<Option<IdMaps>, UsageError> {
    let (uid, gid) = (id_map("--uid-map", &options.uid_map)?, id_map("--gid-map", &options.gid_map)?);
    Ok(match (uid.is_empty(), gid.is_empty()) {
        (true, true) => ancestor.filter(|ancestor| ancestor.user_namespace).map(|_| IdMaps::ancestor()),
        (false, true) => Some(IdMaps { uid: uid.clone(), gid: uid }),
        (true, false) => Some(IdMaps { uid: gid.clone(), gid }),
        (false, false) => Some(IdMaps { uid, gid }),
    })
}

fn id_map(option: &str, list: &[String]) -> Result<Vec<IdMap>, UsageError> {
    list.iter()
        .flat_map(|text| text.split(','))
        .map(|text| {
            let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
            match numbers.as_deref() {
                Some(&[inside, outside, count]) if count > 0 => Ok(IdMap { inside, outside, count }),
                _ => Err(wrong(format!("`{option} {}` is not INSIDE:OUTSIDE:COUNT", shown(text)))
                    .hint(format!("{option} 0:100000:65536"))),
            }
        })
        .collect()
}

/// Reads which capabilities are asked for, and refuses names that there are not.
pub(super) fn capabilities(options: &RunOptions, is_ancestor: bool) -> Result<CapabilityRequest, UsageError> {
    let split = |list: &[String]| list.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
    let request = CapabilityRequest {
        base: match (options.privileged, is_ancestor) {
            (true, _) => CapabilityBase::All,
            (false, true) => CapabilityBase::Ancestor,
            (false, false) => CapabilityBase::Docker,
        },
        add: split(&options.cap_add),
        drop: split(&options.cap_drop),
    };
    CapabilitySet::resolve(&request).map_err(|error| wrong(error.to_string()))?;
    Ok(request)
}

/// Is what `--security-opt` and `--seccomp` say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: SeccompRequest,
    pub(super) kernel_files: KernelFiles,
    pub(super) apparmor: Option<String>,
}

/// Reads `--security-opt`, `--seccomp` and `--privileged`; the last one counts, and a filter that is named holds for a privileged
/// container, too.
pub(super) fn security(options: &RunOptions, is_ancestor: bool) -> Result<Security, UsageError> {
    let mut found = Security {
        no_new_privileges: is_ancestor,
        seccomp: match (options.privileged, is_ancestor) {
            (true, _) => SeccompRequest::Unconfined,
            (false, true) => SeccompRequest::AncestorDefault,
            (false, false) => SeccompRequest::Default,
        },
        kernel_files: if options.privileged { KernelFiles::Open } else { KernelFiles::Protected },
        apparmor: None,
    };
    for text in &options.security_opt {
        let (key, value) = text.split_once(['=', ':']).map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => found.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => found.no_new_privileges = false,
            ("seccomp", Some(profile)) if !profile.is_empty() => found.seccomp = seccomp(profile)?,
            ("systempaths", Some("unconfined")) if options.privileged => {}
            ("systempaths", Some("unconfined")) => found.kernel_files = KernelFiles::Unmasked,
            // The host may have no such module, and then there is nothing to switch off.
            ("apparmor", Some(profile)) if !profile.is_empty() => found.apparmor = Some(profile.to_owned()),
            // No label of SELinux is given here, so there is nothing to switch off.
            ("label", Some("disable")) => {}
            _ => {
                let hint = "no-new-privileges, seccomp=default|ancestor|unconfined|FILE, systempaths=unconfined, apparmor=unconfined|PROFILE, label=disable";
                return Err(wrong(format!("`--security-opt {}` is not supported", shown(text))).hint(hint));
            }
        }
    }
    if let Some(profile) = &options.seccomp {
        found.seccomp = seccomp(profile)?;
    }
    Ok(found)
}

fn seccomp(profile: &str) -> Result<SeccompRequest, UsageError> {
    Ok(match profile {
        "default" | "builtin" => SeccompRequest::Default,
        "ancestor" => SeccompRequest::Ancestor,
        "unconfined" => SeccompRequest::Unconfined,
        file => SeccompRequest::File(super::request::absolute(Path::new(file))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn ulimits_have_one_or_two_values() {
        let limits = ulimits(&strings(&["nofile=64", "CORE=0:-1"])).unwrap();
        assert_eq!(limits["nofile"], Ulimit { soft: 64, hard: 64 });
        assert_eq!(limits["core"], Ulimit { soft: 0, hard: u64::MAX });
        for bad in ["nofile", "nofile=", "nofile=x", "nofile=1:2:3", "nofile=-2"] {
            assert!(ulimits(&strings(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn maps_are_lists_and_one_holds_for_both() {
        let options = RunOptions { uid_map: strings(&["0:5000:10,10:0:1"]), ..RunOptions::default() };
        let maps = id_maps(&options, None).unwrap().unwrap();
        assert_eq!(maps.uid, maps.gid);
        assert_eq!(maps.uid[1], IdMap { inside: 10, outside: 0, count: 1 });
        let ancestor = AncestorLimits { user_namespace: true, ..AncestorLimits::default() };
        assert_eq!(id_maps(&RunOptions::default(), Some(&ancestor)).unwrap(), Some(IdMaps::ancestor()));
        for bad in ["0:1", "0:1:0", "a:1:1", "0:-1:1", ""] {
            assert!(id_map("--uid-map", &strings(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_ancestor_s_limits_fill_what_long_options_leave() {
        let ancestor = AncestorLimits {
            limited: true,
            memory: 5,
            cpu_percent: 50,
            pids: 333,
            io_weight: 20,
            ..Default::default()
        };
        let options = RunOptions { memory: Some(ByteSize(7 << 20)), ..RunOptions::default() };
        let limits = resources(&options, Some(&ancestor)).unwrap();
        assert_eq!((limits.memory, limits.pids, limits.io_weight), (Some(7 << 20), Some(333), Some(20)));
        assert_eq!(limits.cpu_weight, Some(CpuWeight::Percent(50)));
        assert_eq!(nano_cpus("0.5").unwrap(), 500_000_000);
        assert!(nano_cpus("0").is_err() && nano_cpus("x").is_err() && nano_cpus("nan").is_err());
        assert_eq!(memory_swap("-1").unwrap(), -1);
        assert!(memory_swap("-2").is_err());
    }

    #[test]
    fn security_options_are_docker_s() {
        let options =
            RunOptions { security_opt: strings(&["no-new-privileges", "seccomp=unconfined"]), ..Default::default() };
        let found = security(&options, false).unwrap();
        assert_eq!(
            found,
            Security {
                no_new_privileges: true,
                seccomp: SeccompRequest::Unconfined,
                kernel_files: KernelFiles::Protected,
                apparmor: None,
            }
        );
        let found = security(&RunOptions::default(), true).unwrap();
        assert_eq!(
            found,
            Security {
                no_new_privileges: true,
                seccomp: SeccompRequest::AncestorDefault,
                kernel_files: KernelFiles::Protected,
                apparmor: None,
            }
        );
        assert!(security(&RunOptions { security_opt: strings(&["x=y"]), ..Default::default() }, false).is_err());
    }
}
