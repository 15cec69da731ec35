//! Ports of containers that are about to start, held so that nothing starts where one of them is taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::network::{NetworkError, Networks, PortMapping, PortOwner, PortReservation};
use crate::spec::ContainerId;

/// Holds ports until their containers take them.
#[derive(Debug, Default)]
pub struct ReservedPorts(Mutex<BTreeMap<ContainerId, Vec<Held>>>);

#[derive(Debug)]
struct Held {
    container_name: String,
    mapping: PortMapping,
    reservation: PortReservation,
}

impl ReservedPorts {
    /// Takes a port of the host for a container.
    ///
    /// # Errors
    /// [`NetworkError::PortTaken`] with whoever has it, a container that waits for its start among them.
    pub fn hold(
        &self,
        networks: &Networks,
        container: &ContainerId,
        name: &str,
        mapping: PortMapping,
    ) -> Result<(), NetworkError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reservation = networks.reserve(&mapping).map_err(|error| match error {
            NetworkError::PortTaken { host, protocol, owner } => {
                let other = held.values().flatten().find(|held| held.reservation.port().clashes_with(&mapping));
                let owner = other.map(|held| PortOwner::Container(held.container_name.clone())).or(owner);
                NetworkError::PortTaken { host, protocol, owner }
            }
            error => error,
        })?;
        let container_name = name.to_owned();
        held.entry(container.clone()).or_default().push(Held { container_name, mapping, reservation });
        Ok(())
    }

    /// Hands a port that is held over to its container.
    pub(super) fn take(&self, container: &ContainerId, mapping: &PortMapping) -> Option<PortReservation> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_container = held.get_mut(container)?;
        let index = of_container.iter().position(|held| held.mapping == *mapping)?;
        Some(of_container.swap_remove(index).reservation)
    }

    /// Gives up what a container has not taken.
    pub fn release(&self, container: &ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}
