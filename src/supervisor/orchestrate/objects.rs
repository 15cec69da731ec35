use std::collections::BTreeSet;

use super::Work;
use crate::compose::model::{Project, Volume, VolumeSource};
use crate::network::Networks;
use crate::store::StoreError;
use crate::supervisor::control::protocol::{Failure, ObjectKind, Step};
use crate::supervisor::converge::Convergence;
use crate::supervisor::desired::network_config;

impl Work {
    pub(super) async fn ensure_networks(&self, project: &Project, plan: &Convergence) -> Result<(), Failure> {
        let wanted: BTreeSet<&str> = plan
            .services
            .keys()
            .filter_map(|name| project.services.get(name))
            .flat_map(|service| service.networks.keys().map(String::as_str))
            .collect();
        for (key, network) in project.networks.iter().filter(|(key, _)| wanted.contains(key.as_str())) {
            let networks = &self.links.host.networks;
            // One that plugins make is made of its configuration's name alone.
            let is_cni = network.driver.as_deref() == Some("cni");
            if network.external && !(is_cni && networks.find(&network.name).is_err()) {
                networks.find(&network.name).map_err(|error| Failure::of_network(&network.name, &error))?;
                continue;
            }
            let config = network_config(project, key, network)
                .map_err(|error| Failure { hint: error.hint(), ..Failure::new(error.to_string()) })?;
            let new = networks.find(&network.name).is_err();
            if new {
                self.report.row(ObjectKind::Network, &network.name, Step::Creating);
            }
            let made = networks.ensure(&config).await.map_err(|error| Failure::of_network(&network.name, &error))?;
            if new {
                self.report.row(ObjectKind::Network, &network.name, Step::Created);
            }
            for gate in networks.closed_gates(&made).await {
                let hint = gate.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                self.report.warn(format!("{gate}{hint}"));
            }
        }
        Ok(())
    }

    pub(super) fn ensure_volumes(&self, project: &Project) -> Result<(), Failure> {
        let dirs = &self.links.host.dirs;
        for volume in project.volumes.values() {
            // Without `..`: a field that nobody acts on does not compile. The labels are in the project's record.
            let Volume { name, external, source, labels: _ } = volume;
            match source {
                VolumeSource::Directory => {}
                VolumeSource::Bind { device, .. } if !device.exists() => {
                    let text = format!("volume {name} is bound to {}, which is not there", device.display());
                    return Err(Failure { hint: Some("make it first".to_owned()), ..Failure::new(text) });
                }
                VolumeSource::Bind { .. } | VolumeSource::Tmpfs { .. } => continue,
            }
            let exists = dirs.volume(&volume.name).is_dir();
            if *external && !exists {
                return Err(Failure::new(format!("external volume \"{}\" not found", volume.name)));
            }
            if !exists {
                self.report.row(ObjectKind::Volume, &volume.name, Step::Creating);
                dirs.create_volume(&volume.name)
                    .map_err(|error| Failure::caused(format!("create volume {}", volume.name), &error))?;
                self.report.row(ObjectKind::Volume, &volume.name, Step::Created);
            }
        }
        Ok(())
    }

    /// Removes the project's networks that nobody else uses, and with them the places that its stopped containers have left.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn remove_networks(&self, project: &str, declared: Option<&Project>) -> Result<(), Failure> {
        let host = &self.links.host;
        let networks = &host.networks;
        let all = networks.list().map_err(|error| Failure::of_network(project, &error))?;
        let ours = all.into_iter().filter(|record| record.config.project.as_deref() == Some(project));
        let mut names: BTreeSet<String> = ours.map(|record| record.config.name).collect();
        names.extend(lost_networks(networks, project, declared));
        let mut outcome = Ok(());
        for name in &names {
            self.report.row(ObjectKind::Network, name, Step::Removing);
            match networks.remove_with(name, &|container| host.detacher.has_left(container)).await {
                Ok(_) => self.report.row(ObjectKind::Network, name, Step::Removed),
                Err(error) => {
                    self.report.row(ObjectKind::Network, name, Step::Error);
                    outcome = outcome.and(Err(Failure::of_network(name, &error)));
                }
            }
        }
        // On networks that stay: external ones, and what could not be removed.
        let left = host.detacher.finish(host).await;
        let left = left
            .map_err(|error| Failure::caused(format!("take the containers of {project} off their networks"), &error));
        outcome.and(left)
    }

    /// Makes the records of the project's networks anew that were damaged.
    pub async fn restore_networks(&self, project: &Project) {
        restore_networks(&self.links.host.networks, project).await;
    }

    /// Removes the files of containers whose record was damaged; the containers themselves went when that was seen.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub fn remove_lost_containers(&self) -> Result<(), Failure> {
        let failed = |error: StoreError| Failure::caused("remove a container's files".to_owned(), &error);
        let mut outcome = Ok(());
        for id in self.links.records.lost_containers().map_err(failed)? {
            outcome = outcome.and(self.links.host.dirs.remove_container(id.as_str()).map_err(failed));
        }
        outcome
    }

    /// Removes the named volumes that the file declares.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub fn remove_volumes(&self, project: &Project) -> Result<(), Failure> {
        let mut outcome = Ok(());
        let ours = |volume: &&Volume| !volume.external && volume.source == VolumeSource::Directory;
        for volume in project.volumes.values().filter(ours) {
            self.report.row(ObjectKind::Volume, &volume.name, Step::Removing);
            match self.links.host.dirs.remove_volume(&volume.name) {
                Ok(()) => self.report.row(ObjectKind::Volume, &volume.name, Step::Removed),
                Err(error) => {
                    self.report.row(ObjectKind::Volume, &volume.name, Step::Error);
                    outcome = outcome.and(Err(Failure::caused(format!("remove volume {}", volume.name), &error)));
                }
            }
        }
        outcome
    }
}

/// Makes the records of a project's networks anew that were damaged, for the containers that are still on them.
pub async fn restore_networks(networks: &Networks, project: &Project) {
    let Ok(lost) = networks.lost() else { return };
    for (key, network) in project.networks.iter().filter(|(_, one)| !one.external && lost.contains(&one.name)) {
        let Ok(config) = network_config(project, key, network) else { continue };
        if let Err(error) = networks.ensure(&config).await {
            tracing::warn!(network = %network.name, %error, "restoring a network whose record was damaged");
        }
    }
}

/// Names the networks whose record was damaged and that are this project's: by what it declares, else by their names.
pub fn lost_networks(networks: &Networks, project: &str, declared: Option<&Project>) -> Vec<String> {
    let is_ours = |name: &String| match declared {
        Some(declared) => declared.networks.values().any(|network| !network.external && network.name == *name),
        None => name.strip_prefix(project).is_some_and(|rest| rest.starts_with('_')),
    };
    networks.lost().unwrap_or_default().into_iter().filter(is_ours).collect()
}
