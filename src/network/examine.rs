//! Compares a network with its record and changes nothing.

use super::record::{Attachment, BridgeRecord, NetworkRecord, NetworkSubnet};
use super::{NetworkError, Networks};

/// Is one thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What it is: a bridge, a container.
    pub what: String,
    /// How it is, in words, or what is wrong.
    pub outcome: Result<String, NetworkError>,
}

impl Networks {
    /// Looks at a network's bridge and at each place on it; of CNI networks the plugins are asked (CHECK).
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn examine(&self, network: &NetworkRecord) -> Result<Vec<Finding>, NetworkError> {
        let mut findings = Vec::new();
        if let Some(bridge) = &network.bridge {
            let outcome = self.look_at(bridge).await;
            findings.push(Finding { what: format!("bridge {}", bridge.name), outcome });
            let gates = self.closed_gates(network).await;
            findings.extend(gates.into_iter().map(|gate| Finding { what: "firewall".to_owned(), outcome: Err(gate) }));
        }
        for place in self.attachments(&network.id)? {
            let outcome = match &network.cni {
                Some(_) => self.ask_plugins(&place).await,
                None => self.look_at_host_link(&place).await,
            };
            findings.push(Finding { what: place.container_name, outcome });
        }
        if findings.is_empty() {
            let text = format!("driver {}, nobody is on it", network.config.driver);
            findings.push(Finding { what: "network".to_owned(), outcome: Ok(text) });
        }
        Ok(findings)
    }

    /// Names the chains of the host's owner that let no packet of this network out, whatever our rules say.
    pub async fn closed_gates(&self, network: &NetworkRecord) -> Vec<NetworkError> {
        let Some(bridge) = network.bridge.as_ref().filter(|_| !network.config.internal) else { return Vec::new() };
        let gates = self.firewall.closed_gates(&self.state, bridge).await;
        let error = |(table, chain)| NetworkError::Gate {
            network: network.config.name.clone(),
            bridge: bridge.name.to_string(),
            table,
            chain,
        };
        gates.into_iter().map(error).collect()
    }

    async fn look_at(&self, bridge: &BridgeRecord) -> Result<String, NetworkError> {
        let (links, name) = (self.bridge.links()?, bridge.name.as_str());
        let wrong = |reason: String| NetworkError::LinkClash { name: name.to_owned(), reason };
        let link = links.find(name).await?.ok_or_else(|| wrong("it is gone".to_owned()))?;
        let present = links.addresses(link.index).await?;
        let wanted = || bridge.subnets.iter().filter_map(NetworkSubnet::own_address);
        match (link.up, wanted().find(|address| !present.contains(address))) {
            (true, None) => {
                let shown: Vec<String> = wanted().map(|address| address.to_string()).collect();
                Ok(format!("up, {}", shown.join(", ")))
            }
            (false, _) => Err(wrong("it is down".to_owned())),
            (true, Some(missing)) => Err(wrong(format!("it has not the address {missing}"))),
        }
    }

    async fn look_at_host_link(&self, place: &Attachment) -> Result<String, NetworkError> {
        let address = addresses_of(place);
        let Some(host) = &place.host_link else { return Ok(address) };
        let wrong = |reason: &str| NetworkError::LinkClash { name: host.name.to_string(), reason: reason.to_owned() };
        match self.bridge.links()?.find(host.name.as_str()).await? {
            None => Err(wrong("it is gone")),
            Some(link) if link.master.is_none() => Err(wrong("it is on no bridge")),
            Some(_) => Ok(format!("{address} by {}", host.name)),
        }
    }

    async fn ask_plugins(&self, place: &Attachment) -> Result<String, NetworkError> {
        let asked = self.cni().check_attachment(place.container.as_str(), place.ifname.as_str()).await?;
        let address = addresses_of(place);
        Ok(if asked { format!("{address}, the plugins are content") } else { format!("{address}, CHECK is disabled") })
    }
}

fn addresses_of(place: &Attachment) -> String {
    let shown: Vec<String> = place.networks().iter().map(ToString::to_string).collect();
    if shown.is_empty() { "no address".to_owned() } else { shown.join(", ") }
}
