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
pub(super) struct HeldPorts {
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
    mapping: PortMapping,
}

impl Work {
    /// Takes the ports of all containers that are about to start, so that a conflict is found before anything is made. A port
    /// of a container that is about to go is taken when that has gone.
    pub(super) fn hold_ports(
        &self,
        up: &Up,
        plan: &Convergence,
        handles: &BTreeMap<String, ContainerHandle>,
    ) -> Result<HeldPorts, Failure> {
        let mut held = HeldPorts { links: self.links.clone(), containers: Vec::new() };
        if up.no_start {
            return Ok(held);
        }
        let leaving = leaving(up, plan);
        let mut wishes = self.wishes(plan, handles);
        // What can be only one port comes first, what may be any last.
        wishes.sort_by_key(|wish| (wish.mapping.host_port.is_none(), wish.mapping.host_port_to));
        let host = &self.links.host;
        for Wish { container, name, mapping } in wishes {
            let publisher = host.networks.publisher_of(&mapping);
            if publisher.is_some_and(|place| leaving.contains(&place.container)) {
                continue;
            }
            held.containers.push(container.clone());
            host.ports.hold(&host.networks, &container, &name, mapping).map_err(|error| Failure {
                hint: error.hint(),
                ..Failure::caused(format!("start container {name}"), &error)
            })?;
        }
        Ok(held)
    }

    fn wishes(&self, plan: &Convergence, handles: &BTreeMap<String, ContainerHandle>) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut stopped = BTreeSet::new();
        for change in plan.services.values().flatten() {
            match change {
                Change::Create(desired) | Change::Replace(_, desired) => {
                    wishes.extend(of(&desired.request.id, desired))
                }
                Change::Keep(id) => {
                    let handle = handles.get(id.as_str());
                    let runs = handle.is_none_or(|handle| handle.status.borrow().state == State::Running);
                    stopped.extend((!runs).then_some(id));
                }
            }
        }
        if !stopped.is_empty() {
            // What cannot be read is told of when the container is started.
            let (records, _) = self.links.records.look_at_containers().unwrap_or_default();
            let records = records.iter().filter(|record| stopped.contains(&record.status.id));
            wishes.extend(records.flat_map(|record| of(&record.status.id, &record.desired)));
        }
        wishes
    }
}

fn leaving(up: &Up, plan: &Convergence) -> BTreeSet<ContainerId> {
    let replaced = plan.services.values().flatten().filter_map(|change| match change {
        Change::Replace(id, _) => Some(id),
        Change::Keep(_) | Change::Create(_) => None,
    });
    let orphans = plan.orphans.iter().filter(|_| up.remove_orphans);
    replaced.chain(&plan.surplus).chain(orphans).cloned().collect()
}

fn of(container: &ContainerId, desired: &Desired) -> Vec<Wish> {
    let mappings = desired.networks.iter().flat_map(|wish| &wish.ports);
    let wish =
        |mapping: &PortMapping| Wish { container: container.clone(), name: desired.name.clone(), mapping: *mapping };
    mappings.map(wish).collect()
}
