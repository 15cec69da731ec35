//! The parent's part of a launch: what nobody inside a user namespace may do.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::Pid;

use super::Prepared;
use crate::namespaces::mount::{Overlay, make_detached};
use crate::namespaces::user::{MappedTree, SetGroups, UserNamespaceError, map_layers, mapped_layers, write_maps};
use crate::spec::{IdMaps, Mark, Stopwatch};

/// Is the parent's part of a user namespace: write the maps, map the layers, send those with the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserNamespacePlan {
    /// The maps.
    pub maps: IdMaps,
    /// Whether setgroups(2) works inside.
    pub groups: SetGroups,
    /// The root file system whose layers are to be mapped.
    pub overlay: Option<Overlay>,
}

/// Is what came of the parent's part.
#[derive(Debug, Default)]
pub struct SetUp {
    /// What goes with the plan.
    pub fds: Vec<OwnedFd>,
    /// What is worse than it could be.
    pub warnings: Vec<String>,
}

impl Prepared {
    /// Says whether the plan can be sent only after [`Prepared::set_up`].
    pub fn needs_set_up(&self) -> bool {
        self.user_namespace.is_some() || !self.mapped_sources.is_empty() || !self.devices.is_empty()
    }

    /// Does what the parent has to do once there is a process: maps of its user namespace, layers and sources of binds mapped
    /// through it, device nodes. The result goes with the plan, after the `tasks` files. Only a process with one thread can do it where a
    /// mount has maps of its own, or a device is made.
    ///
    /// # Errors
    /// [`UserNamespaceError`], with a hint where the file system cannot be id-mapped.
    pub fn set_up(&self, pid: Pid, watch: &Stopwatch) -> Result<SetUp, UserNamespaceError> {
        let namespace = self.user_namespace.as_ref();
        let mut done = namespace.map_or(Ok(SetUp::default()), |namespace| namespace.set_up(pid, watch))?;
        for (number, source) in self.mapped_sources.iter().enumerate() {
            let tree =
                MappedTree { path: &source.path, recursive: source.recursive, map_recursive: source.map_recursive };
            let mapped = watch.time(Mark::MapSource(number), || tree.clone_mapped(pid, source.maps.as_ref()))?;
            done.fds.push(mapped);
        }
        if !self.devices.is_empty() {
            done.fds.append(&mut watch.time(Mark::MakeNodes, || make_detached(&self.devices))?);
        }
        Ok(done)
    }
}

impl UserNamespacePlan {
    /// Lists what is cloned and mapped of the overlay, as [`map_layers`] does it: the lower layer, the directory of the others.
    pub(super) fn layers(&self) -> Vec<&Path> {
        self.overlay.as_ref().map_or_else(Vec::new, |overlay| mapped_layers(overlay).to_vec())
    }

    /// Writes the maps of the namespace that `pid` was cloned into, and maps the layers through it: lower, upper.
    ///
    /// # Errors
    /// [`UserNamespaceError`], with a hint where the file system cannot be id-mapped.
    fn set_up(&self, pid: Pid, watch: &Stopwatch) -> Result<SetUp, UserNamespaceError> {
        watch.time(Mark::WriteIdMaps, || write_maps(pid, &self.maps, self.groups))?;
        let Some(overlay) = &self.overlay else { return Ok(SetUp::default()) };
        let layers = map_layers(pid, overlay, &self.maps, watch)?;
        let warning = layers.is_copy.then(|| {
            let image = overlay.lower.first().map(|path| path.display().to_string()).unwrap_or_default();
            format!("ids cannot be mapped on this kernel or this file system: the container runs on a copy of {image}")
        });
        Ok(SetUp { fds: vec![layers.lower, layers.upper], warnings: warning.into_iter().collect() })
    }
}
