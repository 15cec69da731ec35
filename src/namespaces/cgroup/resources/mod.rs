#![doc = include_str!("README.md")]

mod common;
mod convert;
mod step;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxPids, LinuxResources};

use super::files::read_if_there;
use super::plan::PlannedWrite;
use super::{Cgroup, CgroupError, Controller};
use step::{Setting, Step, Writer};

/// Holds what a cgroup has already and a change is completed with.
#[derive(Debug)]
struct Facts {
    /// The limit of memory, as the specification writes it; -1 is none.
    memory_limit: Option<i64>,
    /// The first word of `cpu.max`.
    cpu_quota: Cow<'static, str>,
}

/// What holds for a cgroup that was just made.
const NEW: Facts = Facts { memory_limit: None, cpu_quota: Cow::Borrowed("max") };

/// The one resource that a container can do without.
const WEIGHT: &str = "blockIO.weight";

/// Says what a weight of block I/O is where no scheduler of the kernel's takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissingWeight {
    /// A warning: `run` and `compose`, as Docker has it.
    Warning,
    /// An error: a bundle, as runc has it.
    Error,
}

/// Lists the controllers that enforce what is given.
pub(super) fn needed(resources: &LinuxResources) -> Vec<Controller> {
    let cpu = resources.cpu().as_ref();
    let unified = |name: &str| {
        resources.unified().iter().flatten().any(|(file, _)| file.split('.').next().is_some_and(|word| word == name))
    };
    let time = cpu.is_some_and(|cpu| {
        [cpu.shares(), cpu.period(), cpu.realtime_period()].into_iter().flatten().any(|value| value != 0)
            || [cpu.quota(), cpu.realtime_runtime()].into_iter().flatten().any(|value| value != 0)
            || cpu.burst().is_some()
            || cpu.idle().is_some()
    });
    let listed = |list: &Option<String>| list.as_ref().is_some_and(|list| !list.is_empty());
    let set = cpu.is_some_and(|cpu| listed(cpu.cpus()) || listed(cpu.mems()));
    let memory = resources.memory().as_ref().is_some_and(|memory| {
        let sizes = [memory.limit(), memory.swap(), memory.reservation(), memory.kernel(), memory.kernel_tcp()];
        sizes.into_iter().flatten().any(|bytes| bytes != 0)
            || memory.swap().is_some()
            || memory.swappiness().is_some_and(|percent| percent != u64::MAX)
            || memory.disable_oom_killer().unwrap_or(false)
    });
    let block = resources.block_io().as_ref().is_some_and(|block| {
        block.weight().is_some_and(|weight| weight != 0)
            || block.leaf_weight().is_some_and(|weight| weight != 0)
            || block.weight_device().as_ref().is_some_and(|list| !list.is_empty())
            || [block.throttle_read_bps_device(), block.throttle_write_bps_device()]
                .into_iter()
                .chain([block.throttle_read_iops_device(), block.throttle_write_iops_device()])
                .flatten()
                .any(|list| !list.is_empty())
    });
    let network = resources.network().as_ref();
    [
        (Controller::Memory, memory || unified("memory")),
        (Controller::Cpu, time || unified("cpu")),
        (
            Controller::Pids,
            resources.pids().as_ref().is_some_and(|pids| LinuxPids::limit(pids) != 0) || unified("pids"),
        ),
        (Controller::Cpuset, set || unified("cpuset")),
        (Controller::Io, block || unified("io")),
        (Controller::Hugetlb, resources.hugepage_limits().as_ref().is_some_and(|list| !list.is_empty())),
        (Controller::Rdma, resources.rdma().as_ref().is_some_and(|map| !map.is_empty())),
        (Controller::NetCls, network.is_some_and(|net| net.class_id().is_some_and(|class| class != 0))),
        (Controller::NetPrio, network.is_some_and(|net| net.priorities().iter().flatten().next().is_some())),
    ]
    .into_iter()
    .filter_map(|(controller, wanted)| wanted.then_some(controller))
    .collect()
}

/// Sets the resources of a cgroup that was just made. Returns what has no effect.
pub(super) fn set(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    weight: MissingWeight,
) -> Result<Vec<String>, CgroupError> {
    let mut writer = Writer::default();
    carry_out(cgroup, resources, &NEW, weight, &mut writer)?;
    Ok(writer.warnings)
}

/// Changes what is given. Returns what has no effect; where a step fails, those before it are undone.
pub(super) fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
    let mut writer = Writer::with_undo();
    let done = facts(cgroup).and_then(|facts| {
        check_usage(cgroup, resources)?;
        carry_out(cgroup, resources, &facts, MissingWeight::Error, &mut writer)?;
        super::devices::update(cgroup, resources)
    });
    match done {
        Ok(()) => Ok(writer.warnings),
        Err(error) => {
            writer.roll_back();
            Err(error)
        }
    }
}

fn carry_out(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    facts: &Facts,
    weight: MissingWeight,
    writer: &mut Writer,
) -> Result<(), CgroupError> {
    // Everything is looked up before the first write.
    let place = |controller: Controller| match (cgroup.v1_with(controller.v1_name()), &cgroup.v2) {
        (Some(dir), _) => Some(Place { dir: dir.to_owned(), v1: true }),
        (None, Some(v2)) if v2.has(controller.v2_name()) => Some(Place { dir: v2.dir.clone(), v1: false }),
        _ => None,
    };
    let all = look_up(resources, facts, weight, &place)?;
    let unified = unified(cgroup, resources)?;
    for (Place { dir, v1 }, steps) in all {
        for step in steps {
            match writer.apply(&dir, v1, &step) {
                Err(CgroupError::Resource { key, source }) if weight == MissingWeight::Warning && key == WEIGHT => {
                    writer.warnings.push(format!("the i/o weight has no effect: {}", chain(&source)));
                }
                done => done?,
            }
        }
    }
    if let Some(v2) = &cgroup.v2 {
        for setting in unified {
            writer.apply(&v2.dir, false, &Step::Write(setting))?;
        }
    }
    Ok(())
}

/// Is the directory that holds the files of a controller.
pub(super) struct Place {
    pub dir: PathBuf,
    pub v1: bool,
}

type Places<'a> = &'a dyn Fn(Controller) -> Option<Place>;

/// Lists what is to be done for each controller that is needed.
fn look_up(
    resources: &LinuxResources,
    facts: &Facts,
    weight: MissingWeight,
    place: Places<'_>,
) -> Result<Vec<(Place, Vec<Step>)>, CgroupError> {
    let mut all = Vec::new();
    for controller in needed(resources) {
        let Some(place) = place(controller) else {
            if controller == Controller::Io && weight == MissingWeight::Warning {
                continue;
            }
            let source = CgroupError::MissingController { controller, limit: controller.limits() };
            return Err(CgroupError::Resource { key: controller.key().to_owned(), source: Box::new(source) });
        };
        let steps = if place.v1 { v1::steps(controller, resources)? } else { v2::steps(controller, resources, facts)? };
        all.push((place, steps));
    }
    Ok(all)
}

/// Lists what [`set`] writes.
pub(super) fn planned(
    resources: &LinuxResources,
    weight: MissingWeight,
    v2: Option<&Path>,
    place: Places<'_>,
) -> Result<Vec<PlannedWrite>, CgroupError> {
    let mut writes = Vec::new();
    for (place, steps) in look_up(resources, &NEW, weight, place)? {
        for step in steps {
            let (settings, one_of) = match step {
                Step::Write(setting) => (vec![setting], false),
                Step::Together(settings) => (settings, false),
                Step::First(settings) => (settings, true),
                Step::Note(_) => continue,
            };
            writes.extend(settings.into_iter().map(|setting| PlannedWrite {
                file: place.dir.join(setting.file.as_ref()),
                value: setting.value,
                certain: !one_of && setting.without.is_none() && setting.key != WEIGHT,
            }));
        }
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    let write = |dir: &Path, (file, value): (&String, &String)| PlannedWrite {
        file: dir.join(file),
        value: value.clone(),
        certain: true,
    };
    writes.extend(v2.iter().flat_map(|dir| unified.iter().map(|setting| write(dir, *setting))));
    Ok(writes)
}

/// Lists the files of v2 that a bundle names itself.
fn unified(cgroup: &Cgroup, resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    let mut named: Vec<_> = resources.unified().iter().flatten().collect();
    named.sort();
    let mut settings = Vec::with_capacity(named.len());
    for (file, value) in named {
        let bad = |reason| Err(refused(&format!("unified.{file}"), reason));
        let controller = match file.split_once('.') {
            Some((controller, _)) if !file.contains('/') && !controller.is_empty() => controller,
            _ => return bad(format!("the specified key has not the form CONTROLLER.VALUE `{file}`")),
        };
        let Some(v2) = &cgroup.v2 else { return bad("cgroup v2 is not mounted".to_owned()) };
        if controller != "cgroup" && !v2.has(controller) {
            return bad(format!("the requested cgroup controller `{controller}` is not available"));
        }
        settings.push(Setting {
            key: format!("unified.{file}").into(),
            file: file.clone().into(),
            ..Setting::new("", "", value)
        });
    }
    Ok(settings)
}

/// Reads what a change is completed with.
fn facts(cgroup: &Cgroup) -> Result<Facts, CgroupError> {
    let word = |file: &str| -> Result<Option<String>, CgroupError> {
        let Some(v2) = &cgroup.v2 else { return Ok(None) };
        let text = read_if_there(&v2.dir.join(file))?;
        Ok(text.and_then(|text| text.split_whitespace().next().map(str::to_owned)))
    };
    let memory_limit = word("memory.max")?.map(|text| text.parse().unwrap_or(-1));
    Ok(Facts { memory_limit, cpu_quota: word("cpu.max")?.map_or(NEW.cpu_quota, Cow::Owned) })
}

/// Refuses a limit of memory below what is in use, where `checkBeforeUpdate` asks for that: the kernel would kill to get there.
fn check_usage(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), CgroupError> {
    let Some(memory) = resources.memory().as_ref().filter(|memory| memory.check_before_update() == Some(true)) else {
        return Ok(());
    };
    let stats = cgroup.stats()?;
    let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    match (limit, stats.memory) {
        (Some(limit), Some(used)) if limit < used => {
            Err(refused("memory.limit", format!("{limit} is less than the {used} bytes in use")))
        }
        _ => Ok(()),
    }
}

pub(super) fn refused(key: &str, reason: String) -> CgroupError {
    let source = CgroupError::Refused { reason };
    CgroupError::Resource { key: key.to_owned(), source: Box::new(source) }
}

/// Says an error with all that is behind it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
