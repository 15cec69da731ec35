//! `--subnet`, `--gateway`, `--ip-range` and `--aux-address`: each of the last three belongs to the subnet that it lies in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::cli::args::{PoolArgs, UsageError, shown};
use crate::network::{AddressPool, NetworkConfig};

/// Puts the subnets of the command line into a configuration; the first one of IPv4 is its own.
pub(in crate::cli) fn set_pools(config: &mut NetworkConfig, args: &PoolArgs) -> Result<(), UsageError> {
    let mut pools: Vec<AddressPool> = args.subnets.iter().map(|subnet| AddressPool::of(*subnet)).collect();
    for gateway in &args.gateways {
        let pool = home(&mut pools, "--gateway", *gateway)?;
        if let Some(other) = pool.gateway.replace(*gateway) {
            return Err(UsageError::new(format!("two gateways for the subnet {}: {other} and {gateway}", pool.subnet)));
        }
    }
    for range in &args.ip_ranges {
        let pool = home(&mut pools, "--ip-range", range.ip())?;
        if let Some(other) = pool.ip_range.replace(*range) {
            return Err(UsageError::new(format!("two ranges for the subnet {}: {other} and {range}", pool.subnet)));
        }
    }
    for (name, address) in pairs("--aux-address", &args.aux_addresses)? {
        let wrong = |_| UsageError::new(format!("`--aux-address {name}={address}` has no address after the `=`"));
        let address: IpAddr = address.parse().map_err(wrong)?;
        home(&mut pools, "--aux-address", address)?.reserved.insert(name, address);
    }
    // Who names a subnet of IPv6 wants it.
    config.ipv6 = args.ipv6 || pools.iter().any(|pool| pool.subnet.is_ipv6());
    config.without_ipv4 = !args.ipv4;
    for pool in pools {
        match pool.subnet {
            IpNetwork::V4(subnet) if config.subnet.is_none() && args.ipv4 => {
                config.subnet = Some(subnet);
                config.gateway = pool.gateway.and_then(ipv4);
                config.ip_range = pool.ip_range.and_then(|range| match range {
                    IpNetwork::V4(range) => Some(range),
                    IpNetwork::V6(_) => None,
                });
                config.reserved =
                    pool.reserved.into_iter().filter_map(|(host, address)| Some((host, ipv4(address)?))).collect();
            }
            _ => config.pools.push(pool),
        }
    }
    Ok(())
}

/// Finds the subnet that an address lies in.
fn home<'a>(pools: &'a mut [AddressPool], option: &str, address: IpAddr) -> Result<&'a mut AddressPool, UsageError> {
    let subnets: Vec<String> = pools.iter().map(|pool| pool.subnet.to_string()).collect();
    pools.iter_mut().find(|pool| pool.subnet.contains(address)).ok_or_else(|| {
        let message = match subnets.as_slice() {
            [] => format!("`{option} {address}` needs a subnet"),
            all => format!("`{option} {address}` lies in no subnet of the network: {}", all.join(", ")),
        };
        UsageError::new(message).hint("`--subnet` names one; more than once for several")
    })
}

fn ipv4(address: IpAddr) -> Option<std::net::Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Reads options of the form KEY=VALUE.
pub(in crate::cli) fn pairs(option: &str, words: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    let pair = |word: &String| {
        let pair = word.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) =
            pair.ok_or_else(|| UsageError::new(format!("`{option} {}` is not KEY=VALUE", shown(word))))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(subnets: &[&str], gateways: &[&str]) -> PoolArgs {
        PoolArgs {
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
            ipv4: true,
            ..PoolArgs::default()
        }
    }

    #[test]
    fn each_gateway_finds_its_subnet() {
        let mut config = NetworkConfig::default();
        let args = args(&["fd00:1::/64", "10.1.0.0/24", "10.2.0.0/24"], &["10.2.0.9", "fd00:1::9"]);
        set_pools(&mut config, &args).unwrap();
        assert_eq!((config.subnet.unwrap().to_string().as_str(), config.gateway), ("10.1.0.0/24", None));
        let pools: Vec<String> = config.pools.iter().map(ToString::to_string).collect();
        assert_eq!(pools, ["fd00:1::/64 gateway fd00:1::9", "10.2.0.0/24 gateway 10.2.0.9"]);
        assert!(config.ipv6 && !config.without_ipv4);
    }

    #[test]
    fn what_has_no_subnet_is_refused() {
        for (args, word) in [
            (args(&[], &["fd00::1"]), "needs a subnet"),
            (args(&["10.1.0.0/24"], &["fd00::1"]), "10.1.0.0/24"),
            (args(&["fd00::/64"], &["fd00::1", "fd00::2"]), "two gateways"),
        ] {
            let error = set_pools(&mut NetworkConfig::default(), &args).unwrap_err();
            assert!(error.message.contains(word), "{}", error.message);
        }
    }
}
