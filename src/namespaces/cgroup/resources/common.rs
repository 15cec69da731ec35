//! What v1 and v2 write alike. Pure.

use oci_spec::runtime::{LinuxPids, LinuxResources};

use super::super::{CgroupError, Controller};
use super::convert::most;
use super::refused;
use super::step::{Setting, Step, Undo};

pub(super) const NO_KERNEL: &str =
    "memory.kernel has no effect: since Linux 5.16 the kernel's memory is counted with the rest alone";
pub(super) const NO_KERNEL_TCP: &str = "memory.kernelTCP has no effect: this kernel counts it with the rest alone";
pub(super) const NO_BURST: &str = "cpu.burst has no effect: this kernel is older than 5.14";

/// Lists the settings of a controller whose files are the same.
pub(super) fn steps(controller: Controller, resources: &LinuxResources, steps: &mut Vec<Step>) {
    match controller {
        Controller::Pids => {
            // 0 is what engines send for "nothing said".
            if let Some(limit) = resources.pids().as_ref().map(LinuxPids::limit).filter(|limit| *limit != 0) {
                steps.push(Step::Write(Setting::new("pids.limit", "pids.max", most(limit))));
            }
        }
        Controller::Cpuset => {
            let cpu = resources.cpu().as_ref();
            let given = |list: Option<&String>| list.filter(|list| !list.is_empty()).cloned();
            let cpus = given(cpu.and_then(|cpu| cpu.cpus().as_ref()));
            let mems = given(cpu.and_then(|cpu| cpu.mems().as_ref()));
            steps.extend(cpus.map(|list| Step::Write(Setting::new("cpu.cpus", "cpuset.cpus", list))));
            steps.extend(mems.map(|list| Step::Write(Setting::new("cpu.mems", "cpuset.mems", list))));
        }
        Controller::Rdma => {
            for (device, limit) in resources.rdma().iter().flatten() {
                let handles = limit.hca_handles().map(|most| format!(" hca_handle={most}"));
                let objects = limit.hca_objects().map(|most| format!(" hca_object={most}"));
                let line = format!("{device}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default());
                let undo = Undo::Line("hca_handle=max hca_object=max");
                steps.push(Step::Write(Setting::new("rdma", "rdma.max", line).undone_by(undo)));
            }
        }
        _ => {}
    }
}

/// Lists the limits of huge pages, each for pages in use and for pages reserved, where the kernel tells those apart (since 5.7).
pub(super) fn huge_pages(
    resources: &LinuxResources,
    suffix: &str,
    value: impl Fn(i64) -> String,
    steps: &mut Vec<Step>,
) -> Result<(), CgroupError> {
    for entry in resources.hugepage_limits().iter().flatten() {
        let size = entry.page_size();
        let digits = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !digits.is_some_and(|digits| digits.parse::<u64>().is_ok_and(|number| number > 0)) {
            let reason = format!("`{size}` is not a page size like 2MB or 1GB");
            return Err(refused("hugepageLimits.pageSize", reason));
        }
        let set = |file: String| Setting {
            file: file.into(),
            ..Setting::new("hugepageLimits.limit", "", value(entry.limit()))
        };
        steps.push(Step::Write(set(format!("hugetlb.{size}.{suffix}"))));
        steps.push(Step::First(vec![set(format!("hugetlb.{size}.rsvd.{suffix}")).quietly()]));
    }
    Ok(())
}
