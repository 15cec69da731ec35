//! Networks that nobody has made by hand: they are made when the first container needs them, and go with the last.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::error::LaunchError;
use super::foreground::{DEFAULT_NETWORK, PASSING};
use super::host::Host;
use super::networking::{Guest, Networking};
use crate::network::{NetworkConfig, NetworkError, NetworkRecord};
use crate::spec::Mark;

/// The bridge of [`DEFAULT_NETWORK`].
const DEFAULT_BRIDGE: &str = "brg0";
/// How often a network that was removed between its making and the attachment is made again.
const ATTEMPTS: usize = 8;

/// Is a list of networks that come and go with containers; those of a compose project do not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PassingNetworks(Vec<NetworkConfig>);

impl PassingNetworks {
    /// Marks networks that a run makes, and adds the default one.
    pub fn of(configs: &[NetworkConfig]) -> Self {
        Self(std::iter::once(default_network()).chain(configs.iter().map(passing)).collect())
    }

    /// Makes of these networks what a container needs, and attaches it. Between the making of one and the attachment, which is what
    /// keeps it, the last container of another run may have ended and have taken it along: then it is made again.
    ///
    /// # Errors
    /// As [`Networking::attach`]; what was made is for [`Networking::detach`].
    pub async fn attach(&self, networking: &mut Networking, host: &Host, guest: Guest<'_>) -> Result<(), LaunchError> {
        let mut attempt = 1;
        loop {
            let is_needed = |network: &&NetworkConfig| guest.wishes.iter().any(|wish| wish.network == network.name);
            let watch = networking.watch().clone();
            let making = watch.begin(Mark::MakeNetworks);
            for network in self.0.iter().filter(is_needed) {
                host.networks.ensure(network).await?;
            }
            making.done();
            let Err(error) = networking.attach(host, guest).await else { return Ok(()) };
            let removed = matches!(&error, LaunchError::Network(NetworkError::UnknownNetwork(name))
                if self.0.iter().any(|network| network.name == *name));
            if !removed || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
            networking.begin_again(host, guest.id).await?;
        }
    }

    /// Removes those that nobody is on.
    pub async fn remove_unused(&self, host: &Host) -> Vec<LaunchError> {
        let networks = &host.networks;
        let mut errors = Vec::new();
        for wanted in &self.0 {
            let is_passing =
                |found: &NetworkRecord| wanted.labels.keys().all(|label| found.config.labels.contains_key(label));
            // One that was made by hand has no such label, and stays.
            if !networks.find(&wanted.name).is_ok_and(|found| is_passing(&found)) && !wanted.labels.is_empty() {
                continue;
            }
            match networks.remove(&wanted.name).await {
                Ok(_) | Err(NetworkError::InUse { .. }) => {}
                Err(error) => errors.push(error.into()),
            }
        }
        errors
    }
}

/// Marks a network that a run has made: it goes with the last.
fn passing(config: &NetworkConfig) -> NetworkConfig {
    let mut config = config.clone();
    config.labels.insert(PASSING.to_owned(), "run".to_owned());
    config
}

fn default_network() -> NetworkConfig {
    NetworkConfig {
        name: DEFAULT_NETWORK.to_owned(),
        subnet: Ipv4Network::new(Ipv4Addr::new(10, 10, 10, 0), 24).ok(),
        bridge_name: DEFAULT_BRIDGE.parse().ok(),
        ..NetworkConfig::default()
    }
}
