//! Places of those that have ended.

use super::record::Attachment;
use super::{NetworkError, Networks};
use crate::spec::ContainerId;

impl Networks {
    /// Takes off what is neither of a live container nor of a live process.
    pub(super) async fn drop_dead(&self, live: &(dyn Fn(&ContainerId) -> bool + Sync)) -> Result<(), NetworkError> {
        let is_dead = |place: &Attachment| !live(&place.container) && !place.is_of_live_process();
        self.detach_where("drop attachments of dead containers", is_dead).await
    }

    /// Takes processes that were attached by their pid and have ended off their networks.
    ///
    /// # Errors
    /// All.
    pub async fn drop_ended_processes(&self) -> Result<(), NetworkError> {
        let has_ended = |place: &Attachment| place.process.is_some() && !place.is_of_live_process();
        self.detach_where("drop attachments of processes that have ended", has_ended).await
    }
}
