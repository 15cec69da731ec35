//! What `up` would do for one container of a service, found out without doing it.

use super::control::protocol::Up;
use super::desired::{DesiredError, desired_containers};
use crate::engine::explain::{LaunchExplanation, explain_job};
use crate::engine::{Job, LaunchError, SharedNamespaces};
use crate::spec::{ContainerId, NamespaceSource};
use crate::store::Directories;

/// Says why a service cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It cannot become a container.
    #[error(transparent)]
    Desired(#[from] DesiredError),
    /// Its container cannot be planned.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// It is to have no container.
    #[error("service `{0}` has no container: its scale is 0")]
    None(String),
}

impl ExplainError {
    /// Says how to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Desired(error) => error.hint(),
            Self::Launch(error) => error.hint(),
            Self::None(_) => None,
        }
    }
}

/// Explains the launch of the first container of `service`, as the supervisor of the project would make it.
///
/// # Errors
/// [`ExplainError`].
pub fn explain(
    up: &Up,
    service: &str,
    dirs: &Directories,
    cgroup_parent: &str,
) -> Result<LaunchExplanation, ExplainError> {
    let none = || ExplainError::None(service.to_owned());
    let mut desired =
        desired_containers(up, dirs)?.into_iter().find(|desired| desired.service == service).ok_or_else(none)?;
    let mut warnings = Vec::new();
    if desired.shares_network_of.is_some() {
        // Whose it is, is known when that one runs.
        desired.request.namespaces.network = NamespaceSource::Container(ContainerId::generate());
        warnings.push("the container takes host name and network from another, which has to run".to_owned());
    }
    let names = [desired.service.clone(), desired.name.clone(), desired.request.id.short().to_owned()];
    let cgroup = format!("{cgroup_parent}/{}/{}", up.project.name, desired.request.id.as_str());
    let job = Job {
        request: &desired.request,
        cgroup: &cgroup,
        networks: &desired.networks,
        passing: &desired.passing,
        names: &names,
        shared: &SharedNamespaces::default(),
    };
    let volumes = desired.volumes.iter().map(|volume| dirs.volume(volume));
    let sources: Vec<_> =
        desired.create_host_paths.iter().cloned().chain(volumes).filter(|path| !path.exists()).collect();
    let mut explanation = explain_job(dirs, &job, &sources)?;
    explanation.warnings.extend(warnings);
    Ok(explanation)
}
