//! All networks of one run directory: made, used and removed through records, so that a kill leaves nothing unknown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::bridge::BridgeDriver;
use super::cni::CniDriver;
use super::config::{DriverKind, NetworkConfig};
use super::connection::HostLinks;
use super::conntrack::forget_flows;
use super::driver::{NetworkDriver, PlainDriver};
use super::firewall::{Firewall, FirewallOptions, RuleWatch};
use super::forwarding::Forwarding;
use super::lan::LanDriver;
use super::record::{AttachRequest, Attachment, BridgeRecord, NetworkRecord};
use super::state::StateDir;
use super::{NetworkError, forwarding};
use crate::spec::ContainerId;

/// Guards the giving away of names, subnets and addresses, over all processes with this run directory.
const ALLOCATION: &str = "allocation.lock";

/// Makes, lists and removes networks, and attaches containers to them.
///
/// Any number of processes may have one open for the same run directory.
#[derive(Debug)]
pub struct Networks {
    pub(super) state: StateDir,
    pub(super) bridge: BridgeDriver,
    none: PlainDriver,
    host: PlainDriver,
    pub(super) lan: LanDriver,
    pub(super) cni: CniDriver,
    pub(super) firewall: Firewall,
}

impl Networks {
    /// Opens `<run_dir>/networks`, made where it is missing. The kernel is not asked before the first use.
    pub fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let below = run_dir.join("networks");
        let (state, links) = (StateDir::open(run_dir)?, Arc::new(HostLinks::default()));
        Ok(Self {
            cni: CniDriver::new(run_dir, below.join("cni"), below),
            bridge: BridgeDriver::new(Arc::clone(&links)),
            lan: LanDriver::new(links, state.clone()),
            state,
            none: PlainDriver(DriverKind::None),
            host: PlainDriver(DriverKind::Host),
            firewall: Firewall::default(),
        })
    }

    /// Says how the firewall's rules are to be made.
    #[must_use]
    pub fn with_firewall(self, options: FirewallOptions) -> Self {
        Self { cni: self.cni.with_firewall(options.clone()), firewall: Firewall::new(options), ..self }
    }

    /// Refuses a configuration that cannot be made; touches nothing.
    pub fn check(&self, config: &NetworkConfig) -> Result<(), NetworkError> {
        self.driver(config)?.check(config)
    }

    /// Makes the network, or makes sure that it is there as recorded, with its rules.
    pub async fn ensure(&self, config: &NetworkConfig) -> Result<NetworkRecord, NetworkError> {
        let driver = self.driver(config)?;
        driver.check(config)?;
        let lock = self.state.lock(ALLOCATION).await?;
        let (record, new) = match self.state.find(&config.name)? {
            Some(record) => (self.reuse(record, config)?, false),
            None => match self.rebuild(config).await? {
                Some(record) => (record, true),
                None => (self.allocate(config).await?, true),
            },
        };
        if new {
            self.state.write_network(&record)?;
            self.firewall.note_change();
        }
        let mut made = driver.setup(&record).await;
        if made.is_ok() {
            made = self.enable_forwarding(std::slice::from_ref(&record)).await;
        }
        drop(lock);
        if made.is_ok() {
            made = self.firewall.reconcile(&self.state, false).await;
        }
        match made {
            Ok(()) => Ok(record),
            Err(error) if new => Err(self.undo_ensure(&record, error).await),
            Err(error) => Err(error),
        }
    }

    /// Attaches a container; one that is attached already gets the same address again.
    pub async fn attach(&self, request: AttachRequest<'_>) -> Result<Attachment, NetworkError> {
        let lock = self.state.lock(ALLOCATION).await?;
        let network = self.find(&request.network)?;
        let driver = self.driver(&network.config)?;
        let attachment = self.plan_attachment(&network, &request)?;
        if network.bridge.is_some() || network.lan.is_some() || network.cni.is_some() {
            self.state.write_attachment(&attachment)?;
        }
        drop(lock);
        let mut made = driver.attach(&network, &attachment, request.netns).await;
        let attachment = self.completed(&network, attachment, &mut made);
        if made.is_ok() && !attachment.ports.is_empty() {
            self.firewall.note_change();
            made = self.firewall.reconcile(&self.state, false).await;
            forget_flows(attachment.ports.clone()).await;
        }
        match made {
            Ok(()) => Ok(attachment),
            Err(error) => {
                let undone = self.drop_attachments(&network, std::slice::from_ref(&attachment)).await;
                Err(with_undo(format!("attach {}", attachment.container_name), error, undone.err()))
            }
        }
    }

    /// Takes a container off a network; that it is not on it, or that there is none, is no error.
    pub async fn detach(&self, network: &str, container: &ContainerId) -> Result<(), NetworkError> {
        let Some(network) = self.state.find(network)? else { return Ok(()) };
        match self.state.attachment(&network.id, container)? {
            Some(attachment) => self.drop_attachments(&network, &[attachment]).await,
            None => Ok(()),
        }
    }

    /// Takes containers off all their networks, all links of a network in one request.
    ///
    /// It goes on after an error and returns all of them.
    pub async fn detach_many(&self, containers: &[ContainerId]) -> Result<(), NetworkError> {
        let leaving: BTreeSet<&ContainerId> = containers.iter().collect();
        self.detach_where("detach containers", |place| leaving.contains(&place.container)).await
    }

    /// Removes a network that nobody uses; `false` where there is none.
    pub async fn remove(&self, name: &str) -> Result<bool, NetworkError> {
        self.remove_with(name, &|_| false).await
    }

    /// Removes a network that nobody uses but containers that have ended: their links go with the bridge, in one request,
    /// which waits for the kernel as long as the bridge alone would.
    pub async fn remove_with(
        &self,
        name: &str,
        ended: &(dyn Fn(&ContainerId) -> bool + Sync),
    ) -> Result<bool, NetworkError> {
        let emptied = self.empty(name, ended).await;
        let lock = self.state.lock(ALLOCATION).await?;
        let Some(network) = self.state.find(name)? else {
            // A kill may have come between the parts of an earlier removal.
            let was_lost = self.clear_lost(name).await?;
            self.restore_forwarding()?;
            drop(lock);
            if was_lost {
                self.firewall.note_change();
            }
            self.firewall.reconcile(&self.state, false).await?;
            return Ok(was_lost);
        };
        let users = self.users(&network, ended)?;
        if !users.is_empty() {
            return Err(NetworkError::InUse { network: network.config.name, users });
        }
        let ports = self.state.attachments(&network.id)?.into_iter().flat_map(|attachment| attachment.ports).collect();
        // Both wait for the kernel, each for its own: they wait side by side.
        let driver = self.driver(&network.config)?;
        let rules = self.firewall.reconcile_without(&self.state, &network.id);
        let (removed, _) = tokio::join!(driver.teardown(&network), rules);
        removed?;
        self.state.remove_network(&network)?;
        self.firewall.note_change();
        self.restore_forwarding()?;
        drop(lock);
        // Nothing is left to do here, unless the rules could not be changed: then this says why.
        self.firewall.reconcile(&self.state, false).await?;
        forget_flows(ports).await;
        emptied.map(|()| true)
    }

    /// Takes containers that have ended off a network that plugins make, before anybody waits for the lock: plugins are other
    /// people's programs, and may take long.
    async fn empty(&self, name: &str, ended: &(dyn Fn(&ContainerId) -> bool + Sync)) -> Result<(), NetworkError> {
        let Some(network) = self.state.find(name)?.filter(|network| network.cni.is_some()) else { return Ok(()) };
        let leaving = self.state.attachments(&network.id)?;
        if leaving.is_empty() || leaving.iter().any(|place| !ended(&place.container)) {
            return Ok(());
        }
        self.drop_attachments(&network, &leaving).await
    }

    /// Lists all networks, by name.
    pub fn list(&self) -> Result<Vec<NetworkRecord>, NetworkError> {
        self.state.networks()
    }

    /// Finds a network by name or id.
    pub fn find(&self, key: &str) -> Result<NetworkRecord, NetworkError> {
        self.state.find(key)?.ok_or_else(|| NetworkError::UnknownNetwork(key.to_owned()))
    }

    /// Lists the containers on a network, by address.
    pub fn attachments(&self, network: &str) -> Result<Vec<Attachment>, NetworkError> {
        self.state.attachments(&self.find(network)?.id)
    }

    /// Lists where a container is attached, by interface.
    pub fn attachments_of(&self, container: &ContainerId) -> Result<Vec<Attachment>, NetworkError> {
        let mut found = Vec::new();
        for network in self.state.networks()? {
            found.extend(self.state.attachment(&network.id, container)?);
        }
        found.sort_by(|a, b| a.ifname.cmp(&b.ifname));
        Ok(found)
    }

    /// Puts right what a kill or somebody else left wrong: drops attachments whose container is gone, makes sure of bridges,
    /// forwarding and rules.
    pub async fn reconcile(&self, live: &(dyn Fn(&ContainerId) -> bool + Sync)) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        errors.extend(self.drop_dead(live).await.err());
        let lock = self.state.lock(ALLOCATION).await?;
        self.state.sweep()?;
        let networks = self.state.networks()?;
        for network in &networks {
            match self.driver(&network.config) {
                Ok(driver) => errors.extend(driver.setup(network).await.err()),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.enable_forwarding(&networks).await.err());
        drop(lock);
        errors.extend(self.firewall.reconcile(&self.state, true).await.err());
        several("reconcile networks", errors)
    }

    /// Compares the firewall's rules with the records and mends them.
    pub async fn reconcile_firewall(&self) -> Result<(), NetworkError> {
        self.firewall.reconcile(&self.state, true).await
    }

    /// Begins to listen for firewall rules that somebody takes away; [`Networks::reconcile_firewall`] mends that.
    ///
    /// # Errors
    /// [`NetworkError::Netlink`].
    pub fn watch_firewall(&self) -> Result<RuleWatch, NetworkError> {
        self.firewall.watch()
    }

    pub(super) fn driver(&self, config: &NetworkConfig) -> Result<&dyn NetworkDriver, NetworkError> {
        match config.driver {
            DriverKind::Bridge => Ok(&self.bridge),
            DriverKind::None => Ok(&self.none),
            DriverKind::Host => Ok(&self.host),
            DriverKind::Cni | DriverKind::Polycube => Ok(&self.cni),
            DriverKind::Macvlan | DriverKind::Ipvlan => Ok(&self.lan),
        }
    }

    /// Takes a network back that could not be made whole, unless somebody uses it already.
    async fn undo_ensure(&self, record: &NetworkRecord, error: NetworkError) -> NetworkError {
        let lock = match self.state.lock(ALLOCATION).await {
            Ok(lock) => lock,
            Err(_) => return error,
        };
        if self.state.leases(&record.id).is_ok_and(|leases| !leases.is_empty()) {
            return error;
        }
        let mut errors = vec![error];
        if let Ok(driver) = self.driver(&record.config) {
            errors.extend(driver.teardown(record).await.err());
        }
        errors.extend(self.state.remove_network(record).err());
        self.firewall.note_change();
        errors.extend(self.restore_forwarding().err());
        drop(lock);
        // The rules that could not be made cannot be unmade either: the first error says why.
        let _ = self.firewall.reconcile(&self.state, false).await;
        match several(&format!("make the network {}", record.config.name), errors) {
            Err(error) => error,
            Ok(()) => NetworkError::UnknownNetwork(record.config.name.clone()),
        }
    }

    /// Takes attachments off one network: links, then records, then rules.
    async fn drop_attachments(&self, network: &NetworkRecord, leaving: &[Attachment]) -> Result<(), NetworkError> {
        let driver = self.driver(&network.config)?;
        let detached = driver.detach(network, leaving).await;
        if detached.is_err() && !driver.forgets_on_failure() {
            return detached;
        }
        for attachment in leaving {
            self.state.remove_attachment(attachment)?;
        }
        detached?;
        if leaving.iter().any(|attachment| !attachment.ports.is_empty()) {
            self.firewall.note_change();
            self.firewall.reconcile(&self.state, false).await?;
            forget_flows(leaving.iter().flat_map(|attachment| attachment.ports.clone()).collect()).await;
        }
        Ok(())
    }

    pub(super) async fn detach_where(
        &self,
        operation: &str,
        leaves: impl Fn(&Attachment) -> bool,
    ) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        for network in self.state.networks()? {
            let mut leaving = self.state.attachments(&network.id)?;
            leaving.extend(self.damaged_places(&network)?);
            leaving.retain(|attachment| leaves(attachment));
            if !leaving.is_empty() {
                errors.extend(self.drop_attachments(&network, &leaving).await.err());
            }
        }
        several(operation, errors)
    }

    fn users(
        &self,
        network: &NetworkRecord,
        ended: &dyn Fn(&ContainerId) -> bool,
    ) -> Result<Vec<String>, NetworkError> {
        let mut named = self.state.attachments(&network.id)?;
        named.retain(|attachment| !ended(&attachment.container));
        let mut users: Vec<String> = named.iter().map(|attachment| attachment.container_name.clone()).collect();
        // A damaged record has no name, its lease still has an id.
        let unnamed = self.state.leases(&network.id)?.into_iter().map(|lease| lease.container);
        let unnamed = unnamed.filter(|id| !ended(id) && !named.iter().any(|attachment| attachment.container == *id));
        users.extend(unnamed.map(|id| id.short().to_owned()));
        Ok(users)
    }

    async fn enable_forwarding(&self, networks: &[NetworkRecord]) -> Result<(), NetworkError> {
        for (which, needed) in needs(networks) {
            if !needed || forwarding::is_on(which)? {
                continue;
            }
            let mut outward = self.bridge.links()?.list().await?;
            outward.retain(|link| !link.is_bridge && link.master.is_none());
            let outward: Vec<String> = outward.into_iter().map(|link| link.name).collect();
            forwarding::enable(&self.state, which, &outward)?;
        }
        Ok(())
    }

    fn restore_forwarding(&self) -> Result<(), NetworkError> {
        for (which, needed) in needs(&self.state.networks()?) {
            let has_cubes = which == Forwarding::V4 && self.cni.has_cubes();
            if !needed && !has_cubes {
                forwarding::restore(&self.state, which)?;
            }
        }
        Ok(())
    }
}

/// Says for which families the host has to forward.
fn needs(networks: &[NetworkRecord]) -> [(Forwarding, bool); 2] {
    let v6 = networks.iter().any(|network| network.bridge.as_ref().is_some_and(BridgeRecord::has_ipv6));
    [(Forwarding::V4, networks.iter().any(|network| network.bridge.is_some())), (Forwarding::V6, v6)]
}

fn with_undo(operation: String, error: NetworkError, undone: Option<NetworkError>) -> NetworkError {
    match undone {
        Some(second) => NetworkError::Several { operation, errors: vec![error, second] },
        None => error,
    }
}

fn several(operation: &str, mut errors: Vec<NetworkError>) -> Result<(), NetworkError> {
    match errors.len() {
        0 => Ok(()),
        1 => errors.pop().map_or(Ok(()), Err),
        _ => Err(NetworkError::Several { operation: operation.to_owned(), errors }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor's tasks are spawned on a JoinSet, which wants `Send`.
    #[test]
    fn the_work_may_be_a_task() {
        fn is_send<T: Send>(value: T) -> T {
            value
        }
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::open(dir.path()).unwrap();
        let config = NetworkConfig::default();
        drop(is_send(networks.ensure(&config)));
        drop(is_send(networks.reconcile(&|_| true)));
        drop(is_send(networks.detach_many(&[])));
        let namespace = crate::namespaces::network::open_current().unwrap();
        let request = AttachRequest {
            network: "n".to_owned(),
            container: ContainerId::generate(),
            container_name: "c".to_owned(),
            aliases: Vec::new(),
            netns: std::os::fd::AsFd::as_fd(&namespace),
            ifname: "eth0".parse().unwrap(),
            ipv4: None,
            ipv6: None,
            link_local: Vec::new(),
            mac: None,
            default_route: true,
            bandwidth: crate::spec::Bandwidth::default(),
            ports: Vec::new(),
            process: None,
        };
        drop(is_send(networks.attach(request)));
    }
}
