//! Networks whose record was damaged: what the kernel and the names of files still say of them.
//!
//! A bridge of ours bears the network's name in its alias, an address says the subnet, the ports' group is the network's;
//! the directory of attachments has the id for a name. What was asked for (internal, options) is nowhere else: only who
//! knows that can rebuild the record, all others can but clear the network away.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::bridge;
use super::config::{DriverKind, NetworkConfig};
use super::link::LinkView;
use super::record::{Attachment, BridgeRecord, HostLink, NetworkRecord};
use super::settings::BridgeSettings;
use super::{NetworkError, Networks};
use crate::spec::{ContainerId, random_hex};

/// Is what the kernel has of a network without a record.
struct Remains {
    bridge: LinkView,
    subnet: Option<Ipv4Network>,
    gateway: Option<Ipv4Addr>,
    /// Host ends of containers.
    ports: Vec<LinkView>,
    /// The network's, where a container was ever attached.
    id: Option<String>,
}

impl Networks {
    /// Lists the networks whose record was damaged, by name. [`ensure`](Self::ensure) rebuilds one, [`remove`](Self::remove)
    /// clears one away.
    ///
    /// # Errors
    /// [`NetworkError::State`].
    pub fn lost(&self) -> Result<BTreeSet<String>, NetworkError> {
        self.state.lost_networks()
    }

    /// Makes a lost network's record of what is there, if that is what is asked for; what is something else goes.
    /// The caller holds the lock.
    pub(super) async fn rebuild(&self, config: &NetworkConfig) -> Result<Option<NetworkRecord>, NetworkError> {
        if config.driver != DriverKind::Bridge || !self.lost()?.contains(&config.name) {
            return Ok(None);
        }
        let Some(remains) = self.remains(&config.name).await? else { return Ok(None) };
        let settings = BridgeSettings::check(config)?;
        let Some(record) = self.record_of(&remains, config, &settings)? else {
            self.clear_remains(&config.name, remains).await?;
            return Ok(None);
        };
        for (address, container) in self.state.damaged_attachments(&record.id)? {
            let name = bridge::host_link_name(&container, &record.id);
            if !remains.ports.iter().any(|port| port.name == name) {
                self.state.remove_lease(&record.id, address, &container)?;
            }
        }
        tracing::warn!(network = %config.name, bridge = %remains.bridge.name, "the network's record was damaged and is rebuilt");
        Ok(Some(record))
    }

    /// Takes a lost network's bridge, ports and places away; does nothing where there is none.
    pub(super) async fn clear_lost(&self, name: &str) -> Result<bool, NetworkError> {
        if !self.lost()?.contains(name) {
            return Ok(false);
        }
        match self.remains(name).await? {
            Some(remains) => self.clear_remains(name, remains).await?,
            None => self.state.remove_lost(name, None)?,
        }
        Ok(true)
    }

    /// Makes attachments of what is left of damaged ones: enough to take the containers off.
    pub(super) fn damaged_places(&self, network: &NetworkRecord) -> Result<Vec<Attachment>, NetworkError> {
        let Some(bridge) = &network.bridge else { return Ok(Vec::new()) };
        let place = |(address, container): (Ipv4Addr, ContainerId)| {
            Some(Attachment {
                network: network.id.clone(),
                network_name: network.config.name.clone(),
                container_name: container.short().to_owned(),
                ifname: "eth0".parse().ok()?,
                address: Ipv4Network::new(address, bridge.subnet.prefix()).ok(),
                gateway: None,
                mac: None,
                default_route: false,
                parent: None,
                host_link: bridge::host_link_name(&container, &network.id).parse().ok().map(|name| HostLink { name }),
                ports: Vec::new(),
                process: None,
                container,
            })
        };
        Ok(self.state.damaged_attachments(&network.id)?.into_iter().filter_map(place).collect())
    }

    async fn remains(&self, name: &str) -> Result<Option<Remains>, NetworkError> {
        let links = self.bridge.links()?;
        let records = self.state.networks()?;
        let recorded = |link: &LinkView| {
            records.iter().any(|record| record.bridge_name().is_some_and(|bridge| bridge.as_str() == link.name))
        };
        let all = links.list().await?;
        let alias = bridge::alias(name);
        let Some(found) = all.iter().find(|link| link.is_bridge && link.alias == alias && !recorded(link)) else {
            return Ok(None);
        };
        let address = links.addresses(found.index).await?.into_iter().next();
        let is_port = |link: &&LinkView| link.master == Some(found.index) && bridge::is_group(link.group);
        Ok(Some(Remains {
            subnet: address.and_then(|address| Ipv4Network::new(address.network(), address.prefix()).ok()),
            gateway: address.map(|address| address.ip()),
            ports: all.iter().filter(is_port).cloned().collect(),
            id: self.state.lost_id(name, found.name.strip_prefix("br-"), &records)?,
            bridge: found.clone(),
        }))
    }

    /// Makes the record, where the bridge is as the configuration wants it.
    fn record_of(
        &self,
        remains: &Remains,
        config: &NetworkConfig,
        settings: &BridgeSettings,
    ) -> Result<Option<NetworkRecord>, NetworkError> {
        let (Some(subnet), Some(gateway)) = (remains.subnet, remains.gateway) else { return Ok(None) };
        let Ok(name) = remains.bridge.name.parse() else { return Ok(None) };
        let is_wanted = settings.name.as_ref().is_none_or(|wanted| *wanted == name)
            && settings.subnet.is_none_or(|wanted| wanted == subnet)
            && settings.gateway.is_none_or(|wanted| wanted == gateway);
        if !is_wanted {
            return Ok(None);
        }
        let id = remains.id.clone().unwrap_or_else(random_hex);
        let group = match remains.ports.first() {
            Some(port) => port.group,
            None => bridge::free_group(&id, &self.state.networks()?),
        };
        let mtu = Some(remains.bridge.mtu).filter(|mtu| settings.mtu.is_none() && *mtu != bridge::USUAL_MTU);
        let bridge = BridgeRecord { name, subnet, gateway, group, ours: true, mtu };
        Ok(Some(NetworkRecord { id, config: config.clone(), bridge: Some(bridge), lan: None, cni: None }))
    }

    async fn clear_remains(&self, name: &str, remains: Remains) -> Result<(), NetworkError> {
        tracing::warn!(network = name, bridge = %remains.bridge.name, "a network whose record was damaged is taken away");
        let links = self.bridge.links()?;
        for port in &remains.ports {
            links.delete(port).await?;
        }
        links.delete(&remains.bridge).await?;
        self.state.remove_lost(name, remains.id.as_deref())
    }
}
