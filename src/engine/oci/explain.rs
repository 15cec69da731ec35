//! What `run` would do with a bundle, found out without doing it.

use std::cell::OnceCell;
use std::path::PathBuf;

use oci_spec::runtime::Hook;

use super::create::{CreateJob, cgroup_record, compile, has_cgroup_namespace, prepare};
use super::{OciError, Runtime};
use crate::container::{CgroupView, Prepared};
use crate::engine::explain::{LaunchExplanation, Subject, is_root};
use crate::engine::host::seen_cgroups;
use crate::namespaces::cgroup::{CgroupPlan, Hierarchies};

/// Is what [`super::run()`] would do, from what the host has now.
#[derive(Debug)]
pub struct Outlook<'a> {
    job: &'a CreateJob<'a>,
    directory: PathBuf,
    cgroup: Option<CgroupPlan>,
    prepared: Prepared,
    hooks: [Vec<Hook>; 3],
    warnings: Vec<String>,
}

impl<'a> Outlook<'a> {
    /// Finds it out. Nothing is made, changed or written.
    ///
    /// # Errors
    /// Those of [`super::run()`] that are known before.
    pub fn of(runtime: &Runtime, job: &'a CreateJob<'a>) -> Result<Self, OciError> {
        let spec = &job.bundle.spec;
        let mut warnings = job.bundle.warnings.clone();
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        let cgroup = match cgroup_record(runtime, job.id, spec)? {
            Some(record) => Some(Hierarchies::discover()?.plan_for_bundle(&record.path, &resources)?),
            None => None,
        };
        let seen = cgroup.as_ref().map_or(CgroupView::Hidden, |plan| match has_cgroup_namespace(spec) {
            true => seen_cgroups(plan.v1_names(), plan.has_v2()),
            false => CgroupView::Directories { joined: plan.v1_names(), seen: plan.named_directories() },
        });
        let mut prepared = prepare(job, spec, seen, compile(spec, None)?)?;
        warnings.append(&mut prepared.warnings);
        is_root(&mut warnings);
        let all = spec.hooks().clone().unwrap_or_default();
        let list = |hooks: &Option<Vec<Hook>>| hooks.clone().unwrap_or_default();
        let before = [list(all.prestart()), list(all.create_runtime())].concat();
        let hooks = [before, list(all.poststart()), list(all.poststop())];
        let directory = runtime.root.directory(job.id).path().to_owned();
        Ok(Self { job, directory, cgroup, prepared, hooks, warnings })
    }

    /// Puts it into words: the plan that was carried out, where the job has been.
    pub fn explain(&self) -> LaunchExplanation {
        let prepared = self.job.carried_out.and_then(OnceCell::get).unwrap_or(&self.prepared);
        let [before, after_start, after_end] = &self.hooks;
        let subject = Subject {
            state: Some(&self.directory),
            cgroup: self.cgroup.as_ref(),
            hooks: before,
            hooks_after_start: after_start,
            hooks_after_end: after_end,
            ends: true,
            kills: true,
            ..Subject::of(prepared)
        };
        subject.explain(self.warnings.clone())
    }
}
