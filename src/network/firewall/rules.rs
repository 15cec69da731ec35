//! What the rules are to be, as values: a pure function of the recorded networks and attachments. Each back end puts them into
//! words of its own.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use crate::network::NetworkError;
use crate::network::config::Protocol;
use crate::network::polycube::UplinkRules;
use crate::network::record::{Attachment, NetworkRecord};
use crate::network::settings::BridgeSettings;

/// Holds what is forwarded from and to our bridges.
pub(super) const FORWARD: &str = "MYDOCKER-FORWARD";
/// Is passed first; people put rules of their own there, we never touch its content.
pub(super) const USER: &str = "MYDOCKER-USER";
/// Gives what leaves our networks the host's address.
pub(super) const POSTROUTING: &str = "MYDOCKER-POSTROUTING";
/// Leads published ports to their containers.
pub(super) const DNAT: &str = "MYDOCKER-DNAT";

/// Is all that the firewall has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    /// Our bridges, by name.
    pub(super) bridges: Vec<BridgeRules>,
    /// Published ports that packets are led from, by container.
    pub(super) ports: Vec<PortRule>,
}

/// Is what holds for one bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BridgeRules {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub(super) name: String,
    /// Its addresses.
    pub(super) subnets: Vec<IpNetwork>,
    /// Whether its containers may talk to one another.
    pub(super) icc: bool,
    /// Whether nothing may leave it.
    pub(super) internal: bool,
    /// Whether what leaves it gets the host's address.
    pub(super) masquerade: bool,
    /// Whether one of its containers has a published port.
    pub(super) publishes: bool,
}

/// Is one published port that packets are led from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortRule {
    /// The container's address and port.
    pub(super) to: SocketAddr,
    /// The host's address, of the same family; all of them where `None`.
    pub(super) host: Option<IpAddr>,
    /// The host's port.
    pub(super) port: u16,
    /// The transport protocol.
    pub(super) protocol: Protocol,
}

/// Is a version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn has(self, address: IpAddr) -> bool {
        address.is_ipv6() == (self == Self::V6)
    }
}

impl BridgeRules {
    /// Returns the bridge's subnets of a family.
    pub(super) fn subnets_of(&self, family: Family) -> impl Iterator<Item = IpNetwork> {
        self.subnets.iter().copied().filter(move |subnet| family.has(subnet.ip()))
    }

    /// Whether what leaves it gets the host's address: an internal network has nothing that leaves.
    pub(super) fn masquerades(&self) -> bool {
        self.masquerade && !self.internal
    }
}

impl Ruleset {
    /// Whether no rule is needed, and no chain.
    pub(super) fn is_empty(&self) -> bool {
        self.bridges.is_empty()
    }

    /// Whether a network has addresses of this family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.bridges.iter().any(|bridge| bridge.subnets_of(family).next().is_some())
    }

    /// Lists the published ports of a family.
    pub(super) fn ports(&self, family: Family) -> impl Iterator<Item = &PortRule> {
        self.ports.iter().filter(move |port| family.has(port.to.ip()))
    }

    /// Makes the rules for these networks, each with its attachments.
    ///
    /// Every value is a number, an address, or a bridge name that [`BridgeSettings::check`] let pass: nothing that a file says
    /// can become a rule of its own.
    pub(super) fn of(networks: &[(NetworkRecord, Vec<Attachment>)]) -> Result<Self, NetworkError> {
        let mut rules = Self::default();
        for (network, attachments) in networks {
            let Some(bridge) = &network.bridge else { continue };
            let settings = BridgeSettings::check(&network.config)?;
            // Nothing comes back from an internal network, which has no route: its ports are carried by our sockets.
            let ports: Vec<_> =
                if settings.internal { Vec::new() } else { attachments.iter().flat_map(led_ports).collect() };
            rules.bridges.push(BridgeRules {
                name: bridge.name.to_string(),
                subnets: bridge.subnets.iter().map(|subnet| subnet.subnet).collect(),
                icc: settings.icc,
                internal: settings.internal,
                masquerade: settings.masquerade,
                publishes: !ports.is_empty(),
            });
            rules.ports.extend(ports);
        }
        rules.bridges.sort_by(|a, b| a.name.cmp(&b.name));
        rules.ports.sort();
        Ok(rules)
    }
}

impl Ruleset {
    /// Adds what lies behind uplinks of Polycube's routers: each is an interface with a subnet of one address.
    pub(super) fn with_uplinks(mut self, uplinks: &[UplinkRules]) -> Self {
        for uplink in uplinks {
            let router = IpAddr::V4(uplink.router);
            self.bridges.push(BridgeRules {
                name: uplink.link.clone(),
                subnets: vec![IpNetwork::from(router)],
                icc: true,
                internal: false,
                masquerade: true,
                publishes: !uplink.ports.is_empty(),
            });
            self.ports.extend(uplink.ports.iter().map(|port| PortRule {
                to: SocketAddr::new(router, port.host_port),
                host: port.host_ip.filter(|host| !host.is_unspecified()),
                port: port.host_port,
                protocol: port.protocol,
            }));
        }
        self.bridges.sort_by(|a, b| a.name.cmp(&b.name));
        self.ports.sort();
        self
    }
}

/// Lists the ports of an attachment that packets can be led from.
fn led_ports(attachment: &Attachment) -> impl Iterator<Item = PortRule> {
    let addresses = attachment.ip().map(IpAddr::V4).into_iter().chain(attachment.ipv6().map(IpAddr::V6));
    addresses.flat_map(|address| {
        attachment.ports.iter().filter_map(move |port| {
            // The kernel leads no packet to the other family, nor those of 127.0.0.0/8 and ::1 out of lo.
            let led = port.host_ip.is_none_or(|host| host.is_ipv6() == address.is_ipv6() && !host.is_loopback());
            led.then_some(PortRule {
                to: SocketAddr::new(address, port.container_port),
                host: port.host_ip.filter(|host| !host.is_unspecified()),
                port: port.host_port,
                protocol: port.protocol,
            })
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::network::config::{NetworkConfig, Protocol};
    use crate::network::record::{BridgeRecord, NetworkSubnet, PublishedPort};
    use crate::spec::ContainerId;

    pub(in crate::network::firewall) fn network(number: u8, internal: bool, icc: bool) -> NetworkRecord {
        let mut config = NetworkConfig { name: format!("p_{number}"), internal, ..NetworkConfig::default() };
        if !icc {
            config.options.insert("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
        }
        let subnet = |subnet: String, gateway: String| NetworkSubnet {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        let subnets = vec![subnet(format!("10.11.{number}.0/24"), format!("10.11.{number}.1"))];
        let name = format!("br-{number}").parse().unwrap();
        let bridge = Some(BridgeRecord { name, subnets, group: 1, ours: true, mtu: None });
        NetworkRecord { id: number.to_string().repeat(64), config, bridge, lan: None, cni: None }
    }

    pub(in crate::network::firewall) fn attachment(
        network: u8,
        host: u8,
        ports: &[(Option<&str>, u16, u16)],
    ) -> Attachment {
        let port = |&(ip, host_port, container_port): &(Option<&str>, u16, u16)| PublishedPort {
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port,
            protocol: Protocol::Tcp,
        };
        Attachment {
            network: network.to_string().repeat(64),
            network_name: format!("p_{network}"),
            container: ContainerId::generate(),
            container_name: format!("c{host}"),
            aliases: Vec::new(),
            ifname: "eth0".parse().unwrap(),
            address: Some(format!("10.11.{network}.{host}/24").parse().unwrap()),
            gateway: None,
            address_v6: None,
            gateway_v6: None,
            further: Vec::new(),
            mac: None,
            default_route: true,
            host_link: None,
            parent: None,
            bandwidth: crate::spec::Bandwidth::default(),
            ports: ports.iter().map(port).collect(),
            process: None,
            published_at: None,
        }
    }

    /// An open network with ports, and one that is internal and whose containers may not talk to one another.
    pub(in crate::network::firewall) fn example() -> Ruleset {
        let networks = [
            (
                network(1, false, true),
                vec![
                    attachment(1, 3, &[(None, 8080, 80), (Some("::"), 8081, 81), (Some("127.0.0.1"), 8082, 82)]),
                    attachment(1, 2, &[(Some("192.0.2.2"), 443, 8443), (Some("0.0.0.0"), 53, 53)]),
                ],
            ),
            (network(2, true, false), vec![attachment(2, 2, &[])]),
        ];
        Ruleset::of(&networks).unwrap()
    }

    #[test]
    fn no_network_needs_no_rule() {
        assert!(Ruleset::of(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_bridge_name_cannot_become_a_rule() {
        for name in ["br+", "\"br", "-j", "br!"] {
            let mut network = network(1, false, true);
            network.config.bridge_name = Some(name.parse().unwrap());
            assert!(Ruleset::of(&[(network, Vec::new())]).is_err(), "{name}");
        }
    }
}
