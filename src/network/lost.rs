//! Networks whose record was damaged: what the kernel and the names of files still say of them.
//!
//! A bridge of ours bears the network's name in its alias, an address says the subnet, the ports' group is the network's;
//! the directory of attachments has the id for a name. What was asked for (internal, options) is nowhere else: only who
//! knows that can rebuild the record, all others can but clear the network away.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::collections::BTreeSet;

use super::bridge;
use super::config::{DriverKind, NetworkConfig};
use super::link::LinkView;
use super::record::{Attachment, BridgeRecord, HostLink, NetworkRecord, NetworkSubnet};
use super::settings::BridgeSettings;
use super::state::Lease;
use super::{NetworkError, Networks};
use crate::spec::{Bandwidth, random_hex};

/// Is what the kernel has of a network without a record.
struct Remains {
    bridge: LinkView,
    /// What its addresses say, in the order in which they were given.
    subnets: Vec<NetworkSubnet>,
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
        for lease in self.state.damaged_attachments(&record.id)? {
            let name = bridge::host_link_name(&lease.container, &record.id);
            if !remains.ports.iter().any(|port| port.name == name) {
                self.state.remove_lease(&record.id, &lease)?;
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
        if network.bridge.is_none() {
            return Ok(Vec::new());
        }
        let prefix = |v6: bool| network.subnets_of(v6).next().map(|subnet| subnet.subnet.prefix());
        let place = |Lease { v4, v6, container }| {
            Some(Attachment {
                network: network.id.clone(),
                network_name: network.config.name.clone(),
                container_name: container.short().to_owned(),
                aliases: Vec::new(),
                ifname: "eth0".parse().ok()?,
                address: v4.and_then(|address| Ipv4Network::new(address, prefix(false)?).ok()),
                gateway: None,
                address_v6: v6.and_then(|address| Ipv6Network::new(address, prefix(true)?).ok()),
                gateway_v6: None,
                further: Vec::new(),
                mac: None,
                default_route: false,
                parent: None,
                bandwidth: Bandwidth::default(),
                host_link: bridge::host_link_name(&container, &network.id).parse().ok().map(|name| HostLink { name }),
                ports: Vec::new(),
                process: None,
                published_at: None,
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
        let subnet_of = |address: &IpNetwork| {
            let subnet = IpNetwork::new(address.network(), address.prefix()).ok()?;
            Some(NetworkSubnet { subnet, gateway: address.ip() })
        };
        let addresses = links.addresses(found.index).await?;
        let is_port = |link: &&LinkView| link.master == Some(found.index) && bridge::is_group(link.group);
        Ok(Some(Remains {
            subnets: addresses.iter().filter_map(subnet_of).collect(),
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
        let Some(subnets) = subnets_as_wanted(&remains.subnets, settings) else { return Ok(None) };
        let Ok(name) = remains.bridge.name.parse() else { return Ok(None) };
        if settings.name.as_ref().is_some_and(|wanted| *wanted != name) {
            return Ok(None);
        }
        let id = remains.id.clone().unwrap_or_else(random_hex);
        let group = match remains.ports.first() {
            Some(port) => port.group,
            None => bridge::free_group(&id, &self.state.networks()?),
        };
        let mtu = Some(remains.bridge.mtu).filter(|mtu| settings.mtu.is_none() && *mtu != bridge::USUAL_MTU);
        let bridge = BridgeRecord { name, subnets, group, ours: true, mtu };
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

/// Finds for each subnet that is wanted the one of the bridge that it is; `None` where one is missing. An address that somebody
/// gave the bridge besides does no harm.
fn subnets_as_wanted(present: &[NetworkSubnet], settings: &BridgeSettings) -> Option<Vec<NetworkSubnet>> {
    let mut left = present.to_vec();
    let mut found = Vec::new();
    let is_asked = |subnet: IpNetwork| settings.pools.iter().any(|pool| pool.subnet == Some(subnet));
    for pool in &settings.pools {
        let fits = |subnet: &NetworkSubnet| {
            subnet.subnet.is_ipv6() == pool.v6
                && pool.subnet.map_or(!is_asked(subnet.subnet), |wanted| wanted == subnet.subnet)
                && pool.gateway.is_none_or(|wanted| wanted == subnet.gateway)
        };
        found.push(left.remove(left.iter().position(fits)?));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::config::AddressPool;

    #[test]
    fn a_bridge_s_addresses_say_its_subnets() {
        let subnet = |text: &str, gateway: &str| NetworkSubnet {
            subnet: text.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        let present = [
            subnet("10.12.0.0/24", "10.12.0.1"),
            subnet("10.11.0.0/24", "10.11.0.1"),
            subnet("fd00:1::/64", "fd00:1::1"),
        ];
        let mut config = NetworkConfig { name: "n".to_owned(), ipv6: true, ..NetworkConfig::default() };
        config.pools.push(AddressPool::of("10.12.0.0/24".parse().unwrap()));
        let found = |config: &NetworkConfig| subnets_as_wanted(&present, &BridgeSettings::check(config).unwrap());
        assert_eq!(found(&config), Some(vec![present[1], present[0], present[2]]));
        config.ipv6 = false;
        assert_eq!(found(&config), Some(vec![present[1], present[0]]), "one too many does no harm");
        config.pools.push(AddressPool::of("10.13.0.0/24".parse().unwrap()));
        assert_eq!(found(&config), None);
    }
}
