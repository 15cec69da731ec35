//! Ports of containers that are about to start, held so that nothing starts, or stops, where one of them is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::network::{NetworkError, Networks, PortMapping, PortOwner, PortReservation, PublishedPort};
use crate::spec::ContainerId;

/// Holds ports until their containers take them, and knows the sockets of those that run.
#[derive(Debug, Default)]
pub struct ReservedPorts(Mutex<Ports>);

#[derive(Debug, Default)]
struct Ports {
    held: BTreeMap<ContainerId, Vec<Held>>,
    /// A container's sockets are its own: they end with it, whoever knows of them.
    used: BTreeMap<ContainerId, Vec<(PublishedPort, Weak<OwnedFd>)>>,
}

#[derive(Debug)]
struct Held {
    container_name: String,
    mapping: PortMapping,
    /// `None` where a container that is about to go has the port in another way, at one address in place of all: it
    /// is taken when that has gone.
    reservation: Option<PortReservation>,
}

impl Held {
    fn clashes_with(&self, mapping: &PortMapping) -> bool {
        match &self.reservation {
            Some(reservation) => reservation.port().clashes_with(mapping),
            None => self.mapping.clashes_with(mapping),
        }
    }
}

impl ReservedPorts {
    /// Takes a port of the host for a container. What a container of `leaving` has is handed over: that goes on to serve it
    /// until it is stopped.
    ///
    /// # Errors
    /// [`NetworkError::PortTaken`] with whoever has it, a container that waits for its start among them.
    pub fn hold(
        &self,
        networks: &Networks,
        container: &ContainerId,
        name: &str,
        mapping: PortMapping,
        leaving: &BTreeSet<ContainerId>,
    ) -> Result<(), NetworkError> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reservation = match ports.hand_over(leaving, &mapping) {
            Some(handed_over) => Some(handed_over),
            None => match networks.reserve(&mapping) {
                Ok(reservation) => Some(reservation),
                Err(error) => {
                    ports.explain(error, networks, &mapping, leaving)?;
                    None
                }
            },
        };
        let container_name = name.to_owned();
        ports.held.entry(container.clone()).or_default().push(Held { container_name, mapping, reservation });
        Ok(())
    }

    /// Hands a port that is held over to its container.
    pub(super) fn take(&self, container: &ContainerId, mapping: &PortMapping) -> Option<PortReservation> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_container = ports.held.get_mut(container)?;
        let index = of_container.iter().position(|held| held.mapping == *mapping)?;
        of_container.swap_remove(index).reservation
    }

    /// Notes the sockets of a container that runs, so that its successor can have them.
    pub(super) fn note(&self, container: &ContainerId, sockets: &[(PublishedPort, Arc<OwnedFd>)]) {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ports.used.retain(|_, sockets| sockets.iter().any(|(_, socket)| socket.strong_count() > 0));
        if !sockets.is_empty() {
            let sockets = sockets.iter().map(|(port, socket)| (*port, Arc::downgrade(socket))).collect();
            ports.used.insert(container.clone(), sockets);
        }
    }

    /// Gives up what a container has not taken.
    pub fn release(&self, container: &ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).held.remove(container);
    }
}

impl Ports {
    fn holder_of(&self, mapping: &PortMapping) -> Option<&Held> {
        self.held.values().flatten().find(|held| held.clashes_with(mapping))
    }

    fn hand_over(&self, leaving: &BTreeSet<ContainerId>, mapping: &PortMapping) -> Option<PortReservation> {
        let leaving = self.used.iter().filter(|(container, _)| leaving.contains(container));
        leaving.flat_map(|(_, sockets)| sockets).find_map(|(port, socket)| {
            let socket = socket.upgrade()?;
            let reservation = PortReservation::of_predecessor(mapping, port, socket.as_fd()).ok()??;
            // Each goes to one.
            self.holder_of(&reservation.mapping()).is_none().then_some(reservation)
        })
    }

    /// Says who has a port that could not be taken; nothing where none but containers that are about to go have it.
    fn explain(
        &self,
        error: NetworkError,
        networks: &Networks,
        mapping: &PortMapping,
        leaving: &BTreeSet<ContainerId>,
    ) -> Result<(), NetworkError> {
        let NetworkError::PortTaken { host, protocol, owner } = error else { return Err(error) };
        let taken = |owner| Err(NetworkError::PortTaken { host, protocol, owner });
        if let Some(held) = self.holder_of(mapping) {
            return taken(Some(PortOwner::Container(held.container_name.clone())));
        }
        let publishers = networks.publishers_of(mapping);
        if let Some(other) = publishers.iter().find(|place| !leaving.contains(&place.container)) {
            return taken(Some(PortOwner::Container(other.container_name.clone())));
        }
        if publishers.is_empty() {
            return taken(owner);
        }
        let sockets = self.used.values().flatten().filter_map(|(_, socket)| socket.upgrade());
        let sockets: Vec<_> = sockets.collect();
        PortReservation::check_beside(mapping, &sockets.iter().map(|socket| socket.as_fd()).collect::<Vec<_>>())
    }
}
