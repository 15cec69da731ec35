//! What a run in the foreground would do, found out without doing it.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::{Claim, ForegroundJob, plan};
use crate::container::Prepared;
use crate::engine::explain::{LaunchExplanation, Subject, confinement};
use crate::engine::host::seen_cgroups;
use crate::engine::{ContainerFiles, LaunchError};
use crate::namespaces::cgroup::{CgroupPath, CgroupPlan, Hierarchies};
use crate::spec::NamespaceSource;
use crate::store::Directories;

/// Is what [`super::run`] would do, from what the host has now.
#[derive(Debug)]
pub struct Outlook<'a> {
    job: &'a ForegroundJob<'a>,
    sources: &'a [PathBuf],
    claim: (PathBuf, PathBuf),
    files: ContainerFiles,
    cgroup: CgroupPlan,
    prepared: Prepared,
    warnings: Vec<String>,
}

impl<'a> Outlook<'a> {
    /// Finds it out; `sources` are directories that the caller would make before. Nothing is made, changed or written.
    ///
    /// # Errors
    /// Those of [`super::run`] that are known before.
    pub fn of(dirs: &Directories, job: &'a ForegroundJob<'a>, sources: &'a [PathBuf]) -> Result<Self, LaunchError> {
        let path = CgroupPath::new(&format!("{}/{}", job.cgroup_parent, job.request.id.as_str()))?;
        let mut warnings = job.warnings.to_vec();
        let (confinement, rules) = confinement(job.request, &mut warnings)?;
        let cgroup = Hierarchies::discover()?.plan(&path, &job.request.limits, &rules)?;
        let files = ContainerFiles::of(dirs, &job.request.id);
        let prepared = plan(job, &files.paths(), confinement, seen_cgroups(cgroup.v1_names(), cgroup.has_v2()))?;
        let claim = Claim::files(dirs.run(), &job.request.id);
        Ok(Self { job, sources, claim, files, cgroup, prepared, warnings })
    }

    /// Puts it into words: the plan that was carried out, where the job has been.
    pub fn explain(&self) -> LaunchExplanation {
        let prepared = self.job.carried_out.and_then(OnceCell::get).unwrap_or(&self.prepared);
        let subject = Subject {
            sources: self.sources,
            claim: Some(self.claim.clone()),
            files: Some((&self.files, true)),
            cgroup: Some(&self.cgroup),
            networks: self.job.networks,
            ends: true,
            kills: self.job.request.namespaces.pid != NamespaceSource::Private,
            sent: prepared.needs_set_up(),
            ..Subject::of(prepared)
        };
        subject.explain(self.warnings.clone())
    }
}
