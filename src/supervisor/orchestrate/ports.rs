use std::collections::{BTreeMap, BTreeSet};

use super::Work;
use crate::network::PortMapping;
use crate::spec::ContainerId;
use crate::supervisor::container::ContainerHandle;
use crate::supervisor::control::protocol::{Failure, State, Up};
use crate::supervisor::converge::{Change, Convergence};
use crate::supervisor::desired::Desired;
use crate::supervisor::links::Shared;

/// Holds ports of containers that are about to start; those that did not take theirs give them up when it is dropped.
#[derive(Debug)]
pub struct HeldPorts {
    links: Shared,
    containers: Vec<ContainerId>,
}

impl Drop for HeldPorts {
    fn drop(&mut self) {
        for container in &self.containers {
            self.links.host.ports.release(container);
        }
    }
}

/// Is one port that a container wants.
struct Wish {
    container: ContainerId,
    name: String,
    network: String,
    mapping: PortMapping,
}

impl Work {
    /// Takes the ports of all containers that `up` is about to start, so that a conflict is found before anything is made
    /// or stopped.
    pub(super) fn hold_ports(
        &self,
        up: &Up,
        plan: &Convergence,
        handles: &BTreeMap<String, ContainerHandle>,
    ) -> Result<HeldPorts, Failure> {
        if up.no_start {
            return self.hold(Vec::new(), &BTreeSet::new());
        }
        let again = self.stopped_along(up, plan, handles);
        let mut wishes = Vec::new();
        let mut kept: BTreeSet<&ContainerId> = again.iter().map(|handle| &handle.id).collect();
        for change in plan.services.values().flatten() {
            match change {
                Change::Create(desired) | Change::Replace(_, desired) => {
                    wishes.extend(of(&desired.request.id, desired))
                }
                Change::Keep(id) => kept.extend(handles.get(id.as_str()).is_none_or(is_still).then_some(id)),
            }
        }
        wishes.extend(self.wishes_of(&kept));
        let leaving = leaving(up, plan).chain(again.iter().map(|handle| &handle.id)).cloned().collect();
        self.hold(wishes, &leaving)
    }

    /// Takes the ports of containers that are about to be started, or stopped and started.
    ///
    /// # Errors
    /// A port that somebody else has.
    pub fn hold_ports_of(&self, containers: &[ContainerHandle], with_running: bool) -> Result<HeldPorts, Failure> {
        let wanted = containers.iter().filter(|handle| with_running || is_still(handle));
        let wishes = self.wishes_of(&wanted.map(|handle| &handle.id).collect());
        let leaving =
            if with_running { containers.iter().map(|handle| handle.id.clone()).collect() } else { BTreeSet::new() };
        self.hold(wishes, &leaving)
    }

    fn hold(&self, mut wishes: Vec<Wish>, leaving: &BTreeSet<ContainerId>) -> Result<HeldPorts, Failure> {
        let mut held = HeldPorts { links: self.links.clone(), containers: Vec::new() };
        // What can be only one port comes first, what may be any last.
        wishes.sort_by_key(|wish| (wish.mapping.host_port.is_none(), wish.mapping.host_port_to));
        let host = &self.links.host;
        for Wish { container, name, network, mapping } in wishes {
            let mapping = host.networks.at_its_address(&network, mapping);
            held.containers.push(container.clone());
            host.ports.hold(&host.networks, &container, &name, mapping, leaving).map_err(|error| Failure {
                hint: error.hint(),
                ..Failure::caused(format!("start container {name}"), &error)
            })?;
        }
        Ok(held)
    }

    /// Reads what containers want that exist. What cannot be read is told of when the container is started.
    fn wishes_of(&self, containers: &BTreeSet<&ContainerId>) -> Vec<Wish> {
        if containers.is_empty() {
            return Vec::new();
        }
        let (records, _) = self.links.records.look_at_containers().unwrap_or_default();
        let records = records.iter().filter(|record| containers.contains(&record.status.id));
        records.flat_map(|record| of(&record.status.id, &record.desired)).collect()
    }
}

/// Whether a container has no process, and so no ports.
fn is_still(handle: &ContainerHandle) -> bool {
    handle.status.borrow().state != State::Running
}

fn leaving<'a>(up: &Up, plan: &'a Convergence) -> impl Iterator<Item = &'a ContainerId> {
    let replaced = plan.services.values().flatten().filter_map(|change| match change {
        Change::Replace(id, _) => Some(id),
        Change::Keep(_) | Change::Create(_) => None,
    });
    let with_orphans = up.remove_orphans;
    let orphans = plan.orphans.iter().filter(move |_| with_orphans);
    replaced.chain(&plan.surplus).chain(orphans)
}

fn of(container: &ContainerId, desired: &Desired) -> Vec<Wish> {
    let wishes = desired.networks.iter().flat_map(|wish| {
        wish.ports.iter().map(|mapping| Wish {
            container: container.clone(),
            name: desired.name.clone(),
            network: wish.network.clone(),
            mapping: *mapping,
        })
    });
    wishes.collect()
}
