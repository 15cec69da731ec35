use std::os::fd::OwnedFd;

use tokio::sync::mpsc;

use super::Dispatcher;
use crate::engine::ShimEvent;
use crate::keeper::{FromSupervisor, ToSupervisor};
use crate::spec::ExitStatus;
use crate::supervisor::container::{ContainerCommand, ContainerHandle, EndSource};
use crate::supervisor::event::Event;

impl Dispatcher {
    pub(super) fn shim_told(&mut self, event: ShimEvent) {
        match event {
            // Ends of its children follow; those that nobody knows of are let go when they come.
            ShimEvent::Hello(children) => tracing::debug!(children = children.len(), "a shim is there"),
            ShimEvent::Exited { key, pid, status } => match self.containers.get(&key) {
                Some(handle) => self.tell_end(handle.clone(), pid, status, EndSource::Shim),
                None => {
                    self.links.execs.ended(&key, status);
                    self.links.shim.recorded(pid);
                }
            },
            ShimEvent::Lost => tracing::warn!("the shim has died; the keeper starts another"),
        }
    }

    fn tell_end(&mut self, handle: ContainerHandle, pid: i32, status: ExitStatus, source: EndSource) {
        // The inbox may be full of commands; an end must never be lost nor hold up others.
        self.commands.spawn(async move {
            let _ = handle.commands.send(ContainerCommand::Ended { pid, status, source }).await;
        });
    }

    pub(super) fn keeper_told(&mut self, message: ToSupervisor, mut fds: Vec<OwnedFd>) {
        match message {
            ToSupervisor::Orphan(orphan) => {
                let owner = self.containers.values().find(|handle| handle.status.borrow().pid == Some(orphan.pid));
                match owner.cloned() {
                    Some(handle) => self.tell_end(handle, orphan.pid, orphan.status, EndSource::Keeper),
                    None => self.links.keeper.send(&FromSupervisor::OrphanRecorded { pid: orphan.pid }, &[]),
                }
            }
            ToSupervisor::Shim => self.connect_shim(fds.pop()),
            other => tracing::error!(?other, "an unexpected message from the keeper"),
        }
    }

    /// Talks to a new shim from now on.
    pub fn connect_shim(&mut self, socket: Option<OwnedFd>) {
        let Some(socket) = socket else { return };
        let (shim_events, mut from_shim) = mpsc::channel(64);
        let reading = match self.links.shim.connect(socket, shim_events) {
            Ok(reading) => reading,
            Err(error) => return tracing::error!(%error, "the new shim cannot be reached"),
        };
        self.commands.spawn(reading);
        let events = self.links.events.clone();
        self.commands.spawn(async move {
            while let Some(event) = from_shim.recv().await {
                let _ = events.send(Event::Shim(event)).await;
            }
        });
    }
}
