//! What `up` would do for one container of a service, found out without doing it.

use std::path::PathBuf;

use super::control::protocol::Up;
use super::desired::{Desired, DesiredError, desired_containers, network_config};
use crate::engine::explain::{LaunchExplanation, explain_job};
use crate::engine::{Job, LaunchError, NetworkWish, SharedNamespaces};
use crate::network::NetworkConfig;
use crate::spec::{ContainerId, ContainerRequest, NamespaceSource};
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
    /// It cannot run by itself.
    #[error("service `{service}` cannot run by itself: it shares {what} with {owner}")]
    Shares {
        /// The service.
        service: String,
        /// What a namespace holds.
        what: &'static str,
        /// Whose it is.
        owner: String,
    },
}

impl ExplainError {
    /// Says how to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Desired(error) => error.hint(),
            Self::Launch(error) => error.hint(),
            Self::None(_) => None,
            Self::Shares { .. } => {
                Some("without `--run` it is explained; `compose up` starts what it depends on first".to_owned())
            }
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
    let mut desired = first_of(up, service, dirs)?;
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

fn first_of(up: &Up, service: &str, dirs: &Directories) -> Result<Desired, ExplainError> {
    let mut all = desired_containers(up, dirs)?.into_iter();
    all.find(|desired| desired.service == service).ok_or_else(|| ExplainError::None(service.to_owned()))
}

/// Is a container of a service that runs by itself, in the foreground.
#[derive(Debug)]
pub struct OneOff {
    /// The container.
    pub request: ContainerRequest,
    /// Its networks, without published ports and without the service's names.
    pub networks: Vec<NetworkWish>,
    /// Those of them that the project makes.
    pub made: Vec<NetworkConfig>,
    /// Names of volumes that it needs.
    pub volumes: Vec<String>,
    /// Directories of the host that are made where they are missing.
    pub host_paths: Vec<PathBuf>,
}

/// Makes a container of `service` that runs besides those of the project: with a name of its own, and nothing that only one can have.
///
/// # Errors
/// [`ExplainError`].
pub fn one_off(up: &Up, service: &str, dirs: &Directories) -> Result<OneOff, ExplainError> {
    let desired = first_of(up, service, dirs)?;
    if let Some(owner) = &desired.shares_network_of {
        let owner = owner.to_string();
        return Err(ExplainError::Shares { service: service.to_owned(), what: "the network", owner });
    }
    let Desired { mut request, mut networks, volumes, create_host_paths: host_paths, .. } = desired;
    request.name = format!("{}-{service}-run-{}", up.project.name, request.id.short());
    request.labels.insert("com.docker.compose.oneoff".to_owned(), "True".to_owned());
    let mut made = Vec::new();
    for wish in &mut networks {
        wish.ports.clear();
        wish.aliases.clear();
        let declared = up.project.networks.iter().find(|(_, network)| network.name == wish.network);
        if let Some((key, network)) = declared.filter(|(_, network)| !network.external) {
            made.push(network_config(&up.project, key, network)?);
        }
    }
    Ok(OneOff { request, networks, made, volumes, host_paths })
}
