//! Which subnet, which address: pure choices over what is taken (RFC 1918 and RFC 4193 pools, lowest free address).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use sha2::{Digest, Sha256};

/// Where subnets come from when the file names none, in this order; a /24 each.
pub(super) const POOLS: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 11, 0, 0), 16), (Ipv4Addr::new(172, 28, 0, 0), 16), (Ipv4Addr::new(192, 168, 224, 0), 19)];

const PREFIX: u8 = 24;
/// The prefix of a subnet of IPv6: what every host expects (RFC 4291, 2.5.1).
const PREFIX_V6: u8 = 64;

/// Says the pools in words.
pub(super) fn pools_text() -> String {
    POOLS.map(|(address, prefix)| format!("{address}/{prefix}")).join(", ")
}

/// Chooses the first /24 of the pools that overlaps none of `taken`.
pub(super) fn choose_subnet(taken: &[IpNetwork]) -> Option<Ipv4Network> {
    POOLS
        .iter()
        .flat_map(|&(pool, prefix)| subnets(pool, prefix))
        .find(|candidate| !taken.iter().any(|other| overlap((*candidate).into(), *other)))
}

fn subnets(pool: Ipv4Addr, prefix: u8) -> impl Iterator<Item = Ipv4Network> {
    let count = 1_u32 << (PREFIX - prefix);
    (0..count).filter_map(move |n| {
        let address = Ipv4Addr::from_bits(pool.to_bits() + (n << (32 - PREFIX)));
        Ipv4Network::new(address, PREFIX).ok()
    })
}

/// Chooses a unique local /64 (RFC 4193) that overlaps none of `taken`.
///
/// `fd`, 40 bits made of what tells this host from others, and 16 made of the network's name: a network has the same subnet
/// whenever it is made, and two hosts that are joined some day have different ones. Where it is taken, the next one is tried.
pub(super) fn choose_subnet_v6(host: &str, network: &str, taken: &[IpNetwork]) -> Option<Ipv6Network> {
    let bits = |text: &str, count: usize| {
        Sha256::digest(text).iter().take(count).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte))
    };
    let global = 0xfd_u128 << 120 | bits(host, 5) << 80;
    let first = bits(network, 2);
    (0..1_u128 << 16)
        .filter_map(|n| Ipv6Network::new(Ipv6Addr::from_bits(global | ((first + n) & 0xffff) << 64), PREFIX_V6).ok())
        .find(|candidate| !taken.iter().any(|other| overlap((*candidate).into(), *other)))
}

/// Says whether two subnets have an address in common.
pub(super) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

/// Chooses the lowest address of `range` that is not taken and that a host of `subnet` may have.
pub(super) fn choose_address(
    subnet: IpNetwork,
    range: IpNetwork,
    gateway: IpAddr,
    taken: &BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    let (first, last) = (bits(range.network()), bits(range.broadcast()));
    (first..=last)
        .map(|bits| address(bits, subnet.is_ipv6()))
        .find(|address| refusal(subnet, gateway, *address).is_none() && !taken.contains(address))
}

/// Returns the address of another subnet that stands where this one stands in its own, if there is one: a container that is
/// 10.11.0.7 is also fd…::7, and both keep the same Ethernet address.
pub(super) fn same_place(of: IpAddr, subnet: IpNetwork, other: IpNetwork) -> Option<IpAddr> {
    let bits = bits(other.network()).checked_add(bits(of).checked_sub(bits(subnet.network()))?)?;
    let found = address(bits, other.is_ipv6());
    other.contains(found).then_some(found)
}

/// Returns the first address of a subnet that a host may have.
pub(super) fn first_address(subnet: IpNetwork) -> IpAddr {
    address(bits(subnet.network()) + 1, subnet.is_ipv6())
}

/// Says why a host of the subnet cannot have this address, if it cannot.
pub(super) fn refusal(subnet: IpNetwork, gateway: IpAddr, address: IpAddr) -> Option<&'static str> {
    unusable(subnet, address).or_else(|| (address == gateway).then_some("it is the gateway"))
}

/// Says why nobody of the subnet can have this address, if that is so.
pub(super) fn unusable(subnet: IpNetwork, address: IpAddr) -> Option<&'static str> {
    if !subnet.contains(address) {
        Some("it is not in the subnet")
    } else if address == subnet.network() {
        // Of IPv6 it is that of all routers of the subnet (RFC 4291, 2.6.1).
        Some("it is the network's own number")
    } else if subnet.is_ipv4() && address == subnet.broadcast() {
        Some("it is the broadcast address")
    } else {
        None
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(bits: u128, v6: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if !v6 => Ipv4Addr::from_bits(bits).into(),
        _ => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_free_subnet_is_chosen() {
        let chosen = |taken: &[&str]| {
            let taken: Vec<IpNetwork> = taken.iter().map(|text| net(text)).collect();
            choose_subnet(&taken).map(|subnet| subnet.to_string()).unwrap_or_default()
        };
        assert_eq!(chosen(&[]), "10.11.0.0/24");
        assert_eq!(chosen(&["10.11.0.0/24", "10.11.1.128/25", "fd00::/8"]), "10.11.2.0/24");
        assert_eq!(chosen(&["10.0.0.0/8"]), "172.28.0.0/24");
        assert_eq!(chosen(&["10.0.0.0/8", "172.16.0.0/12"]), "192.168.224.0/24");
        assert_eq!(chosen(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), "");
    }

    #[test]
    fn a_network_has_a_unique_local_subnet_of_its_own() {
        let first = choose_subnet_v6("host", "p_n", &[]).unwrap();
        assert_eq!((first.network().segments()[0] >> 8, first.prefix()), (0xfd, 64));
        assert_eq!(choose_subnet_v6("host", "p_n", &[net("10.0.0.0/8")]), Some(first), "the same whenever it is made");
        let others = [("other", "p_n"), ("host", "p_m")].map(|(host, name)| choose_subnet_v6(host, name, &[]).unwrap());
        assert!(!others.contains(&first) && others[0] != others[1], "{first} {others:?}");
        let same_site = |other: Ipv6Network| other.network().segments()[..3] == first.network().segments()[..3];
        assert!(!same_site(others[0]) && same_site(others[1]));
        let next = choose_subnet_v6("host", "p_n", &[first.into()]).unwrap();
        assert!(next != first && same_site(next), "{next}");
        assert_eq!(choose_subnet_v6("host", "p_n", &[net("fc00::/7")]), None);
    }

    #[test]
    fn a_small_subnet_is_given_away_completely() {
        for (subnet, wanted) in [("10.11.0.0/29", [2, 3, 4, 5, 6].as_slice()), ("fd00::/125", &[2, 3, 4, 5, 6, 7])] {
            let subnet = net(subnet);
            let gateway = first_address(subnet);
            let mut taken = BTreeSet::new();
            while let Some(address) = choose_address(subnet, subnet, gateway, &taken) {
                taken.insert(address);
            }
            assert_eq!(taken.iter().map(|a| bits(*a) & 0xff).collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn both_addresses_stand_at_the_same_place() {
        let same = |of: &str, subnet, other| same_place(of.parse().unwrap(), net(subnet), net(other));
        assert_eq!(same("10.11.0.7", "10.11.0.0/24", "fd00:1::/64"), Some("fd00:1::7".parse().unwrap()));
        assert_eq!(same("10.11.0.200", "10.11.0.0/24", "fd00:1::/125"), None);
    }

    proptest! {
        #[test]
        fn what_is_given_is_free_and_usable(
            base in any::<u32>(), prefix in 16_u8..=30, v6: bool, taken in proptest::collection::btree_set(0_u128..64, 0..40),
        ) {
            let (base, prefix) = match v6 {
                true => (Ipv6Addr::from_bits(u128::from(base) << 96 | 1).into(), prefix + 96),
                false => (IpAddr::from(Ipv4Addr::from_bits(base)), prefix),
            };
            let subnet = IpNetwork::new(base, prefix).unwrap();
            let subnet = IpNetwork::new(subnet.network(), prefix).unwrap();
            let gateway = first_address(subnet);
            let taken = taken.iter().map(|n| address(bits(subnet.network()) + n, v6)).filter(|a| subnet.contains(*a)).collect();
            if let Some(address) = choose_address(subnet, subnet, gateway, &taken) {
                prop_assert!(!taken.contains(&address));
                prop_assert!(refusal(subnet, gateway, address).is_none());
            } else {
                let bits = if v6 { 128 } else { 32 } - prefix;
                prop_assert!(taken.len() + 3 >= 1 << bits);
            }
        }
    }
}
