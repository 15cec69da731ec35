//! What callers of networks may ask of CNI beside attaching and detaching.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::driver::{CniDriver, cache_below};
use super::list::NetworkList;
use crate::network::config::{DriverKind, NetworkConfig};
use crate::network::record::{Attachment, NetworkRecord};
use crate::network::{NetworkError, Networks};
use crate::spec::ContainerId;

impl Networks {
    /// Keeps CNI attachments below the data directory: what plugins keep of their own (leases of host-local) outlives a boot,
    /// and so must what is needed to take it back.
    #[must_use]
    pub fn with_data_directory(mut self, data: &Path) -> Self {
        self.cni.move_cache(cache_below(data));
        self
    }

    /// Returns the driver `cni`, for what only it can do.
    pub fn cni(&self) -> &CniDriver {
        &self.cni
    }

    /// Says whether something that plugins made is still to be taken back, or may be.
    pub fn has_cni_attachments(&self) -> bool {
        self.cni.attachments().is_ok_and(|attachments| !attachments.is_empty())
    }

    /// Takes over the namespace of a container from an earlier supervisor.
    ///
    /// # Errors
    /// [`NetworkError::Cni`].
    pub fn resume(&self, container: &ContainerId, namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
        for place in self.attachments_of(container)?.iter().filter(|place| place.parent.is_some()) {
            self.lan.hold(place, namespace)?;
        }
        Ok(self.cni.resume(container, namespace)?)
    }

    /// Reads the configuration that a network is to have, where plugins attach to it.
    pub(in crate::network) fn read_list(
        &self,
        config: &NetworkConfig,
    ) -> Result<Option<Box<NetworkList>>, NetworkError> {
        Ok(if matches!(config.driver, DriverKind::Cni | DriverKind::Polycube) {
            Some(Box::new(self.cni.load(config)?))
        } else {
            None
        })
    }

    /// Reads the configuration again: while somebody is attached it must be the one that was used (SPEC.md section 3).
    pub(in crate::network) fn same_list(
        &self,
        record: &NetworkRecord,
        config: &NetworkConfig,
    ) -> Result<Option<Box<NetworkList>>, NetworkError> {
        let cni = self.read_list(config)?;
        if cni == record.cni || self.state.attachments(&record.id)?.is_empty() {
            return Ok(cni);
        }
        let name = |list: &Option<Box<NetworkList>>| list.as_ref().map_or_else(String::new, |list| list.name.clone());
        Err(NetworkError::Different {
            network: config.name.clone(),
            field: "CNI configuration",
            existing: name(&record.cni),
            wanted: format!("{}, as its file is now", name(&cni)),
        })
    }

    /// Writes down what only the plugins could say of an attachment.
    pub(in crate::network) fn completed(
        &self,
        network: &NetworkRecord,
        attachment: Attachment,
        made: &mut Result<(), NetworkError>,
    ) -> Attachment {
        if made.is_err() || network.cni.is_none() {
            return attachment;
        }
        let completed = self.cni.completed(attachment.clone());
        match completed.and_then(|completed| self.state.write_attachment(&completed).map(|()| completed)) {
            Ok(completed) => completed,
            Err(error) => {
                *made = Err(error);
                attachment
            }
        }
    }

    /// Tries DEL again where it is owed, and where the container is gone and no record of a network knows of it any more (after a
    /// boot). It may take long: nobody should wait for it who has something else to do.
    ///
    /// # Errors
    /// All; they stay owed.
    pub async fn take_back_lost(&self, live: &(dyn Fn(&ContainerId) -> bool + Sync)) -> Result<(), NetworkError> {
        // A place that a network has on record is that network's to give up.
        let is_dead = |network: &str, id: &str| {
            let id = id.parse::<ContainerId>().ok().filter(|id| !live(id));
            id.is_some_and(|id| matches!(self.state.attachment(network, &id), Ok(None)))
        };
        let retried = self.cni.retry(|entry| {
            entry.owed.is_some()
                || entry.network_id.as_deref().is_some_and(|network| is_dead(network, &entry.container_id))
        });
        Ok(retried.await?)
    }
}
