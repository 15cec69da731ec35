//! What a run in the foreground would do, found out without doing it.

use std::path::PathBuf;

use super::{Claim, ForegroundJob, plan};
use crate::engine::explain::{LaunchExplanation, Subject, confinement};
use crate::engine::host::seen_cgroups;
use crate::engine::{ContainerFiles, LaunchError};
use crate::namespaces::cgroup::{CgroupPath, Hierarchies};
use crate::store::Directories;

/// Explains what [`super::run`] would do; `sources` are directories that the caller would make before. Nothing is made, changed or
/// written.
///
/// # Errors
/// Those of it that are known before.
pub fn explain(
    dirs: &Directories,
    job: &ForegroundJob<'_>,
    sources: &[PathBuf],
) -> Result<LaunchExplanation, LaunchError> {
    let path = CgroupPath::new(&format!("{}/{}", job.cgroup_parent, job.request.id.as_str()))?;
    let mut warnings = job.warnings.to_vec();
    let (confinement, rules) = confinement(job.request, &mut warnings)?;
    let cgroup = Hierarchies::discover()?.plan(&path, &job.request.limits, &rules)?;
    let files = ContainerFiles::of(dirs, &job.request.id);
    let prepared = plan(job, &files.paths(), confinement, seen_cgroups(cgroup.v1_names(), cgroup.has_v2()))?;
    let subject = Subject {
        sources,
        claim: Some(Claim::files(dirs.run(), &job.request.id)),
        files: Some((&files, true)),
        cgroup: Some(&cgroup),
        networks: job.networks,
        sent: prepared.needs_set_up(),
        ..Subject::of(&prepared)
    };
    Ok(subject.explain(warnings))
}
