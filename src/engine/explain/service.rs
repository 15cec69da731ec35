//! What the launch of a project's container would do, found out without doing it.

use std::path::PathBuf;

use super::{LaunchExplanation, Subject, confinement};
use crate::engine::host::seen_cgroups;
use crate::engine::launch::plan;
use crate::engine::{ContainerFiles, Job, LaunchError};
use crate::namespaces::cgroup::{CgroupPath, Hierarchies};
use crate::store::Directories;

/// Explains what [`crate::engine::create`] and [`crate::engine::start`] would do; `sources` are directories that the caller would make
/// before. Nothing is made, changed or written.
///
/// # Errors
/// Those of them that are known before.
pub fn explain_job(dirs: &Directories, job: &Job<'_>, sources: &[PathBuf]) -> Result<LaunchExplanation, LaunchError> {
    let mut warnings = Vec::new();
    let (confinement, rules) = confinement(job.request, &mut warnings)?;
    let cgroup = Hierarchies::discover()?.plan(&CgroupPath::new(job.cgroup)?, &job.request.limits, &rules)?;
    let files = ContainerFiles::of(dirs, &job.request.id);
    let prepared = plan(job.request, &files, &confinement, seen_cgroups(cgroup.v1_names(), cgroup.has_v2()))?;
    let subject = Subject {
        sources,
        files: Some((&files, false)),
        cgroup: Some(&cgroup),
        networks: job.networks,
        // The shim was started from such a file.
        seals: false,
        ..Subject::of(&prepared)
    };
    Ok(subject.explain(warnings))
}
