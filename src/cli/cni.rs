//! Which CNI configuration a network means: found here, where the options and the working directory are known, so that the supervisor
//! is told a path.

use std::path::{Path, PathBuf};

use super::report::CliError;
use super::settings::Settings;
use crate::compose::model::Project;
use crate::network::NetworkError;
use crate::network::cni::{CniError, OPTION_LIST, OPTION_PATH, find_list};

/// Says where configurations of a project, or of this directory, are looked for: `cni/` first.
pub(super) fn directories(base: &Path, settings: &Settings) -> Vec<PathBuf> {
    std::iter::once(base.join("cni")).chain(settings.cni_configurations.iter().cloned()).collect()
}

/// Finds a configuration by NAME or PATH and returns its absolute path.
///
/// # Errors
/// [`CliError::Network`].
pub(super) fn find(wanted: &str, base: &Path, settings: &Settings) -> Result<PathBuf, CliError> {
    let wanted = if wanted.contains('/') { base.join(wanted).display().to_string() } else { wanted.to_owned() };
    let (path, _) = find_list(&wanted, &directories(base, settings)).map_err(network_error)?;
    std::path::absolute(&path).map_err(|source| network_error(CniError::Read { path, source }))
}

/// Gives every network of a project that plugins make the path of its configuration and of its plugins. An external network is one
/// of them where a configuration has its name.
///
/// # Errors
/// [`CliError::Network`]: a configuration that is not found, or cannot be read.
pub(super) fn resolve(project: &mut Project, settings: &Settings) -> Result<(), CliError> {
    let base = project.working_dir.clone();
    for network in project.networks.values_mut() {
        let is_cni = network.driver.as_deref() == Some("cni");
        let may_be = network.external && network.driver.is_none();
        if !(is_cni || may_be) {
            continue;
        }
        let wanted = network.driver_opts.get(OPTION_LIST).unwrap_or(&network.name).clone();
        match find(&wanted, &base, settings) {
            Ok(path) => {
                network.driver = Some("cni".to_owned());
                network.driver_opts.insert(OPTION_LIST.to_owned(), path.display().to_string());
                if let Some(path) = &settings.cni_path {
                    network.driver_opts.entry(OPTION_PATH.to_owned()).or_insert_with(|| path.clone());
                }
            }
            Err(error) if is_cni => return Err(error),
            // Then it is a network that somebody made.
            Err(CliError::Network(NetworkError::Cni(error)))
                if matches!(*error, CniError::NoList { .. } | CniError::Value(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn network_error(error: CniError) -> CliError {
    CliError::Network(error.into())
}
