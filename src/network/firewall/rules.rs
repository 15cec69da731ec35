//! What the rules are to be: a pure function of the recorded networks and attachments.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::network::NetworkError;

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

/// Is the content of our chains, line by line as iptables-save(8) prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) filter: Vec<String>,
    pub(super) nat: Vec<String>,
}

impl Ruleset {
    /// Whether no rule is needed, and no chain.
    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_empty() && self.nat.is_empty()
    }

    /// Makes the rules for these networks, each with its attachments.
    ///
    /// Every value in a line is a number, an address, or a bridge name that [`BridgeSettings::check`] let pass: nothing
    /// that a file says can become a rule of its own.
    pub(super) fn of(networks: &[(NetworkRecord, Vec<Attachment>)]) -> Result<Self, NetworkError> {
        let mut bridges = Vec::new();
        for (network, attachments) in networks {
            if let Some(bridge) = &network.bridge {
                let settings = BridgeSettings::check(&network.config)?;
                bridges.push(Bridge { name: bridge.name.as_str(), subnet: bridge.subnet, settings, attachments });
            }
        }
        bridges.sort_by_key(|bridge| bridge.name);
        if bridges.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self { filter: filter(&bridges), nat: nat(&bridges) })
    }
}

struct Bridge<'a> {
    name: &'a str,
    subnet: ipnetwork::Ipv4Network,
    settings: BridgeSettings,
    attachments: &'a [Attachment],
}

impl Bridge<'_> {
    fn publishes(&self) -> bool {
        self.attachments.iter().any(|attachment| !attachment.ports.is_empty())
    }
}

/// The order is the meaning: who may talk within a bridge, what may come in, that nothing else may, what may go out.
/// A packet between two bridges of ours meets the `-o … -j DROP` of the one it goes to: one rule a network isolates all
/// pairs.
fn filter(bridges: &[Bridge<'_>]) -> Vec<String> {
    let mut lines = vec![format!("-A {FORWARD} -j {USER}")];
    for Bridge { name, .. } in bridges {
        lines.push(format!("-A {FORWARD} -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    }
    for Bridge { name, settings, .. } in bridges {
        let verdict = if settings.icc { "ACCEPT" } else { "DROP" };
        lines.push(format!("-A {FORWARD} -i {name} -o {name} -j {verdict}"));
    }
    for bridge in bridges.iter().filter(|bridge| bridge.publishes()) {
        lines.push(format!("-A {FORWARD} -o {} -m conntrack --ctstate DNAT -j ACCEPT", bridge.name));
    }
    for Bridge { name, .. } in bridges {
        lines.push(format!("-A {FORWARD} -o {name} -j DROP"));
    }
    for Bridge { name, settings, .. } in bridges {
        let verdict = if settings.internal { "DROP" } else { "ACCEPT" };
        lines.push(format!("-A {FORWARD} -i {name} -j {verdict}"));
    }
    lines
}

/// A container that asks for a port published on the host is not led to the target but meets our proxy's socket, which
/// reaches every network: hence the RETURN for our own bridges.
fn nat(bridges: &[Bridge<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for bridge in bridges.iter().filter(|bridge| bridge.settings.masquerade && !bridge.settings.internal) {
        lines.push(format!("-A {POSTROUTING} -s {} ! -o {} -j MASQUERADE", bridge.subnet, bridge.name));
    }
    if bridges.iter().any(Bridge::publishes) {
        lines.extend(bridges.iter().map(|bridge| format!("-A {DNAT} -i {} -j RETURN", bridge.name)));
    }
    let attachments = bridges.iter().flat_map(|bridge| bridge.attachments);
    let mut ports: Vec<_> = attachments.filter_map(|a| a.ip().map(|ip| (ip, &a.ports))).collect();
    ports.sort();
    for (ip, ports) in ports {
        let mut ports = ports.clone();
        ports.sort();
        for port in ports {
            let mut line = format!("-A {DNAT}");
            match port.host_ip {
                // The kernel does not lead IPv6 packets to IPv4 containers, nor those of 127.0.0.0/8 out of lo.
                Some(IpAddr::V6(_)) => continue,
                Some(IpAddr::V4(host)) if host.is_loopback() => continue,
                Some(IpAddr::V4(host)) if !host.is_unspecified() => {
                    let _ = write!(line, " -d {host}/32");
                }
                _ => {}
            }
            let protocol = port.protocol;
            let _ = write!(line, " -p {protocol} -m {protocol} --dport {} -j DNAT", port.host_port);
            let _ = write!(line, " --to-destination {ip}:{}", port.container_port);
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::network::config::{NetworkConfig, Protocol};
    use crate::network::record::{BridgeRecord, PublishedPort};
    use crate::spec::ContainerId;

    pub(in crate::network::firewall) fn network(number: u8, internal: bool, icc: bool) -> NetworkRecord {
        let mut config = NetworkConfig { name: format!("p_{number}"), internal, ..NetworkConfig::default() };
        if !icc {
            config.options.insert("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
        }
        let subnet = format!("10.11.{number}.0/24").parse().unwrap();
        let gateway = format!("10.11.{number}.1").parse().unwrap();
        let name = format!("br-{number}").parse().unwrap();
        let bridge = Some(BridgeRecord { name, subnet, gateway, group: 1, ours: true });
        NetworkRecord { id: number.to_string().repeat(64), config, bridge, cni: None }
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
            ifname: "eth0".parse().unwrap(),
            address: Some(format!("10.11.{network}.{host}/24").parse().unwrap()),
            gateway: None,
            mac: None,
            default_route: true,
            host_link: None,
            ports: ports.iter().map(port).collect(),
        }
    }

    #[test]
    fn two_networks_with_ports() {
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
        let rules = Ruleset::of(&networks).unwrap();
        insta::assert_snapshot!(rules.filter.join("\n"), @r"
        -A MYDOCKER-FORWARD -j MYDOCKER-USER
        -A MYDOCKER-FORWARD -o br-1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A MYDOCKER-FORWARD -o br-2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A MYDOCKER-FORWARD -i br-1 -o br-1 -j ACCEPT
        -A MYDOCKER-FORWARD -i br-2 -o br-2 -j DROP
        -A MYDOCKER-FORWARD -o br-1 -m conntrack --ctstate DNAT -j ACCEPT
        -A MYDOCKER-FORWARD -o br-1 -j DROP
        -A MYDOCKER-FORWARD -o br-2 -j DROP
        -A MYDOCKER-FORWARD -i br-1 -j ACCEPT
        -A MYDOCKER-FORWARD -i br-2 -j DROP
        ");
        insta::assert_snapshot!(rules.nat.join("\n"), @r"
        -A MYDOCKER-POSTROUTING -s 10.11.1.0/24 ! -o br-1 -j MASQUERADE
        -A MYDOCKER-DNAT -i br-1 -j RETURN
        -A MYDOCKER-DNAT -i br-2 -j RETURN
        -A MYDOCKER-DNAT -p tcp -m tcp --dport 53 -j DNAT --to-destination 10.11.1.2:53
        -A MYDOCKER-DNAT -d 192.0.2.2/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.11.1.2:8443
        -A MYDOCKER-DNAT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.11.1.3:80
        ");
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
