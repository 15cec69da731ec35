//! What a bridge network's configuration says, checked once: Docker's `driver_opts` keys included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::config::{DriverKind, NetworkConfig};
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
    /// One for each subnet that the network is to have, in the order in which they give addresses.
    pub(super) pools: Vec<PoolSettings>,
    pub(super) mtu: Option<u32>,
    /// Whether containers of the network may talk to one another.
    pub(super) icc: bool,
    /// Whether what leaves the network gets the host's address.
    pub(super) masquerade: bool,
    /// Where ports without an address are published.
    pub(super) host_ip: Option<Ipv4Addr>,
    pub(super) internal: bool,
}

/// Is what is said about one subnet; what is `None` is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PoolSettings {
    /// Whether it is one of IPv6.
    pub(super) v6: bool,
    pub(super) subnet: Option<IpNetwork>,
    pub(super) range: Option<IpNetwork>,
    pub(super) gateway: Option<IpAddr>,
}

/// The least that a link of IPv6 has to carry (RFC 8200, 5): with less the kernel switches IPv6 off.
pub(super) const LEAST_MTU_V6: u32 = 1280;

impl BridgeSettings {
    /// Checks a configuration.
    pub(super) fn check(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let wrong = |reason: String| NetworkError::Config { network: config.name.clone(), reason };
        config.name.parse::<ObjectName>().map_err(|error| wrong(error.to_string()))?;
        // The name is also a file's, with an ending.
        if config.name.len() > 200 {
            return Err(wrong("its name is longer than 200 bytes".to_owned()));
        }
        let pools = pools(config).map_err(wrong)?;
        let mtu = mtu(config).map_err(wrong)?;
        if let Some(mtu) = mtu.filter(|mtu| config.ipv6 && *mtu < LEAST_MTU_V6) {
            return Err(wrong(format!("an mtu of {mtu} is too small for IPv6, which needs {LEAST_MTU_V6}")));
        }
        Ok(Self {
            name: bridge_name(config).map_err(wrong)?,
            pools,
            mtu,
            icc: flag(config, OPTION_ICC).map_err(wrong)?.unwrap_or(true),
            masquerade: flag(config, OPTION_MASQUERADE).map_err(wrong)?.unwrap_or(true),
            host_ip: host_ip(config).map_err(wrong)?,
            internal: config.internal,
        })
    }
}

impl NetworkConfig {
    /// Returns where ports without an address of their own are published: at all addresses where `None`.
    pub fn host_binding(&self) -> Option<IpAddr> {
        let of_bridge = (self.driver == DriverKind::Bridge).then(|| host_ip(self).ok().flatten());
        of_bridge.flatten().map(IpAddr::V4)
    }
}

/// Checks what is said about subnets. The first one of IPv4 may be chosen, and where IPv6 is on one of that.
fn pools(config: &NetworkConfig) -> Result<Vec<PoolSettings>, String> {
    let first = PoolSettings {
        v6: false,
        subnet: config.subnet.map(IpNetwork::V4),
        range: config.ip_range.map(IpNetwork::V4),
        gateway: config.gateway.map(IpAddr::V4),
    };
    let mut pools = Vec::new();
    if !config.without_ipv4 {
        pools.push(checked_pool(first)?);
    } else if let Some(subnet) = first.subnet {
        return Err(format!("the subnet {subnet} is one of IPv4, and IPv4 is off"));
    } else if !config.ipv6 {
        return Err("without IPv4 and without IPv6 it has no addresses".to_owned());
    }
    for pool in &config.pools {
        let (v6, subnet) = (pool.subnet.is_ipv6(), pool.subnet);
        if v6 && !config.ipv6 {
            return Err(format!("the subnet {subnet} is one of IPv6, and IPv6 is off"));
        }
        if !v6 && config.without_ipv4 {
            return Err(format!("the subnet {subnet} is one of IPv4, and IPv4 is off"));
        }
        if let Some((host, address)) = pool.reserved.iter().find(|(_, address)| !subnet.contains(**address)) {
            return Err(format!("the address {address}, reserved for {host}, is not in the subnet {subnet}"));
        }
        pools.push(checked_pool(PoolSettings {
            v6,
            subnet: Some(subnet),
            range: pool.ip_range,
            gateway: pool.gateway,
        })?);
    }
    if config.ipv6 && !pools.iter().any(|pool| pool.v6) {
        pools.push(PoolSettings { v6: true, ..PoolSettings::default() });
    }
    for (index, pool) in pools.iter().enumerate() {
        let before = pools.iter().take(index).filter_map(|pool| pool.subnet);
        if let Some(subnet) = pool.subnet
            && let Some(other) = before.into_iter().find(|other| ipam::overlap(*other, subnet))
        {
            return Err(format!("its subnet {subnet} overlaps its subnet {other}"));
        }
    }
    Ok(pools)
}

fn checked_pool(pool: PoolSettings) -> Result<PoolSettings, String> {
    let subnet = pool.subnet.map(checked_subnet).transpose()?;
    let range = pool.range.map(|range| checked_range(range, subnet)).transpose()?;
    if let Some(gateway) = pool.gateway {
        let subnet = subnet.ok_or_else(|| format!("the gateway {gateway} needs a subnet"))?;
        if let Some(reason) = ipam::unusable(subnet, gateway) {
            return Err(format!("{gateway} cannot be the gateway of {subnet}: {reason}"));
        }
    }
    Ok(PoolSettings { subnet, range, ..pool })
}

fn checked_subnet(subnet: IpNetwork) -> Result<IpNetwork, String> {
    let prefixes = if subnet.is_ipv4() { 8..=30 } else { 8..=126 };
    if !prefixes.contains(&subnet.prefix()) {
        return Err(format!("the subnet {subnet} has to be between /{} and /{}", prefixes.start(), prefixes.end()));
    }
    let of_hosts = match subnet.network() {
        IpAddr::V4(first) => {
            !first.is_loopback() && !first.is_multicast() && first.octets()[0] != 0 && first.octets()[0] < 240
        }
        IpAddr::V6(first) => !first.is_multicast() && !first.is_unicast_link_local() && !is_special(first),
    };
    if !of_hosts {
        return Err(format!("the subnet {subnet} is not one of hosts"));
    }
    IpNetwork::new(subnet.network(), subnet.prefix()).map_err(|error| error.to_string())
}

/// ::/8: unspecified, loopback, addresses that stand for those of IPv4 (RFC 4291, 2.4 and 2.5.5).
fn is_special(address: Ipv6Addr) -> bool {
    address.octets()[0] == 0
}

fn checked_range(range: IpNetwork, subnet: Option<IpNetwork>) -> Result<IpNetwork, String> {
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
    use crate::network::config::AddressPool;

    fn pool(subnet: &str) -> AddressPool {
        AddressPool::of(subnet.parse().unwrap())
    }

    fn add_v6(config: &mut NetworkConfig, pool: AddressPool) {
        config.ipv6 = true;
        config.pools.push(pool);
    }

    #[test]
    fn subnets_stand_in_the_order_in_which_they_give_addresses() {
        let mut config = config();
        add_v6(&mut config, pool("fd00:1::/64"));
        config.pools.push(pool("10.45.0.0/24"));
        let shown = |config: &NetworkConfig| {
            let pools = BridgeSettings::check(config).unwrap().pools;
            pools.iter().map(|pool| pool.subnet.map_or("any".to_owned(), |s| s.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(shown(&config), ["10.44.0.0/24", "fd00:1::/64", "10.45.0.0/24"]);
        config.pools.clear();
        assert_eq!(shown(&config), ["10.44.0.0/24", "any"]);
        (config.without_ipv4, config.subnet) = (true, None);
        assert_eq!(shown(&config), ["any"]);
        config.ipv6 = false;
        assert!(BridgeSettings::check(&config).unwrap_err().to_string().contains("no addresses"));
    }

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
        let cases: [(Change, &str); 16] = [
            (|c| c.subnet = Some("10.0.0.0/31".parse().unwrap()), "/31"),
            (|c| c.subnet = Some("127.0.0.0/24".parse().unwrap()), "127.0.0.0"),
            (|c| c.subnet = Some("224.0.0.0/24".parse().unwrap()), "224.0.0.0"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 45, 0, 1)), "10.45.0.1"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 44, 0, 255)), "broadcast"),
            (|c| c.ip_range = Some("10.45.0.0/28".parse().unwrap()), "10.45.0.0/28"),
            (|c| c.pools.push(pool("fd00::/64")), "IPv6 is off"),
            (|c| add_v6(c, pool("fe80::/64")), "fe80::/64"),
            (|c| add_v6(c, pool("fd00::/127")), "/127"),
            (|c| add_v6(c, AddressPool { gateway: Some("fd01::1".parse().unwrap()), ..pool("fd00::/64") }), "fd01::1"),
            (
                |c| add_v6(c, AddressPool { gateway: Some("fd00::".parse().unwrap()), ..pool("fd00::/64") }),
                "own number",
            ),
            (|c| c.pools.push(pool("10.44.0.128/25")), "overlaps"),
            (|c| (c.ipv6, c.mtu) = (true, Some(1200)), "1280"),
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
