//! What a bridge network's configuration says, checked once: Docker's `driver_opts` keys included.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::config::NetworkConfig;
use super::{NetworkError, ipam};
use crate::spec::{InterfaceName, ObjectName};

const OPTION_NAME: &str = "com.docker.network.bridge.name";
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const OPTION_HOST_IP: &str = "com.docker.network.bridge.host_binding_ipv4";

/// Is what a bridge network's configuration says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BridgeSettings {
    pub(super) name: Option<InterfaceName>,
    pub(super) subnet: Option<Ipv4Network>,
    pub(super) range: Option<Ipv4Network>,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) mtu: Option<u32>,
    /// Whether containers of the network may talk to one another.
    pub(super) icc: bool,
    /// Whether what leaves the network gets the host's address.
    pub(super) masquerade: bool,
    /// Where ports without an address are published.
    pub(super) host_ip: Option<Ipv4Addr>,
    pub(super) internal: bool,
}

impl BridgeSettings {
    /// Checks a configuration.
    pub(super) fn check(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let wrong = |reason: String| NetworkError::Config { network: config.name.clone(), reason };
        config.name.parse::<ObjectName>().map_err(|error| wrong(error.to_string()))?;
        // The name is also a file's, with an ending.
        if config.name.len() > 200 {
            return Err(wrong("its name is longer than 200 bytes".to_owned()));
        }
        let subnet = config.subnet.map(|subnet| checked_subnet(subnet).map_err(wrong)).transpose()?;
        let range = config.ip_range.map(|range| checked_range(range, subnet).map_err(wrong)).transpose()?;
        if let Some(gateway) = config.gateway {
            let subnet = subnet.ok_or_else(|| wrong(format!("the gateway {gateway} needs a subnet")))?;
            if let Some(reason) = ipam::refusal(subnet, Ipv4Addr::UNSPECIFIED, gateway) {
                return Err(wrong(format!("{gateway} cannot be the gateway of {subnet}: {reason}")));
            }
        }
        Ok(Self {
            name: bridge_name(config).map_err(wrong)?,
            subnet,
            range,
            gateway: config.gateway,
            mtu: mtu(config).map_err(wrong)?,
            icc: flag(config, OPTION_ICC).map_err(wrong)?.unwrap_or(true),
            masquerade: flag(config, OPTION_MASQUERADE).map_err(wrong)?.unwrap_or(true),
            host_ip: host_ip(config).map_err(wrong)?,
            internal: config.internal,
        })
    }
}

fn checked_subnet(subnet: Ipv4Network) -> Result<Ipv4Network, String> {
    let first = subnet.network();
    if !(8..=30).contains(&subnet.prefix()) {
        return Err(format!("the subnet {subnet} has to be between /8 and /30"));
    }
    if first.is_loopback() || first.is_multicast() || first.octets()[0] == 0 || first.octets()[0] >= 240 {
        return Err(format!("the subnet {subnet} is not one of hosts"));
    }
    Ipv4Network::new(first, subnet.prefix()).map_err(|error| error.to_string())
}

fn checked_range(range: Ipv4Network, subnet: Option<Ipv4Network>) -> Result<Ipv4Network, String> {
    let subnet = subnet.ok_or_else(|| format!("the ip_range {range} needs a subnet"))?;
    if range.prefix() < subnet.prefix() || !subnet.contains(range.network()) {
        return Err(format!("the ip_range {range} is not within the subnet {subnet}"));
    }
    Ok(range)
}

fn bridge_name(config: &NetworkConfig) -> Result<Option<InterfaceName>, String> {
    let name = match (&config.bridge_name, config.options.get(OPTION_NAME)) {
        (Some(name), _) => name.clone(),
        (None, Some(text)) => text.parse().map_err(|error: crate::spec::SpecError| error.to_string())?,
        (None, None) => return Ok(None),
    };
    if name.is_plain() {
        Ok(Some(name))
    } else {
        Err(format!("the bridge name `{name}` may only have letters, digits, `-`, `_` and `.`"))
    }
}

fn mtu(config: &NetworkConfig) -> Result<Option<u32>, String> {
    let mtu = match (config.mtu, config.options.get(OPTION_MTU)) {
        (Some(mtu), _) => mtu,
        (None, Some(text)) => text.parse().map_err(|_| format!("`{text}` is not an mtu"))?,
        (None, None) => return Ok(None),
    };
    if (68..=65535).contains(&mtu) { Ok(Some(mtu)) } else { Err(format!("an mtu is from 68 to 65535, not {mtu}")) }
}

fn flag(config: &NetworkConfig, key: &str) -> Result<Option<bool>, String> {
    config.options.get(key).map_or(Ok(None), |text| match text.as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        other => Err(format!("{key} is `true` or `false`, not `{other}`")),
    })
}

fn host_ip(config: &NetworkConfig) -> Result<Option<Ipv4Addr>, String> {
    let parse = |text: &String| text.parse::<Ipv4Addr>().map_err(|_| format!("`{text}` is not an IPv4 address"));
    let address = config.options.get(OPTION_HOST_IP).map(parse).transpose()?;
    Ok(address.filter(|address| !address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NetworkConfig {
        NetworkConfig {
            name: "p_n".to_owned(),
            subnet: Some("10.44.0.0/24".parse().unwrap()),
            ..NetworkConfig::default()
        }
    }

    #[test]
    fn dockers_options_are_understood() {
        let mut config = config();
        for (key, value) in
            [(OPTION_NAME, "br-x"), (OPTION_ICC, "false"), (OPTION_MASQUERADE, "0"), (OPTION_MTU, "1400")]
        {
            config.options.insert(key.to_owned(), value.to_owned());
        }
        config.options.insert(OPTION_HOST_IP.to_owned(), "127.0.0.1".to_owned());
        let settings = BridgeSettings::check(&config).unwrap();
        assert_eq!(settings.name.unwrap().as_str(), "br-x");
        assert_eq!((settings.icc, settings.masquerade, settings.mtu), (false, false, Some(1400)));
        assert_eq!(settings.host_ip, Some(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_value() {
        type Change = fn(&mut NetworkConfig);
        let cases: [(Change, &str); 9] = [
            (|c| c.subnet = Some("10.0.0.0/31".parse().unwrap()), "/31"),
            (|c| c.subnet = Some("127.0.0.0/24".parse().unwrap()), "127.0.0.0"),
            (|c| c.subnet = Some("224.0.0.0/24".parse().unwrap()), "224.0.0.0"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 45, 0, 1)), "10.45.0.1"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 44, 0, 255)), "broadcast"),
            (|c| c.ip_range = Some("10.45.0.0/28".parse().unwrap()), "10.45.0.0/28"),
            (|c| c.mtu = Some(20), "20"),
            (|c| drop(c.options.insert(OPTION_ICC.to_owned(), "maybe".to_owned())), "maybe"),
            (|c| c.name = "n".repeat(230), "200 bytes"),
        ];
        for (change, word) in cases {
            let mut config = config();
            change(&mut config);
            let error = BridgeSettings::check(&config).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
