//! Which subnet, which address: pure choices over what is taken (RFC 1918 pools, lowest free address).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

/// Where subnets come from when the file names none, in this order; a /24 each.
pub(super) const POOLS: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 11, 0, 0), 16), (Ipv4Addr::new(172, 28, 0, 0), 16), (Ipv4Addr::new(192, 168, 224, 0), 19)];

const PREFIX: u8 = 24;

/// Says the pools in words.
pub(super) fn pools_text() -> String {
    POOLS.map(|(address, prefix)| format!("{address}/{prefix}")).join(", ")
}

/// Chooses the first /24 of the pools that overlaps none of `taken`.
pub(super) fn choose_subnet(taken: &[Ipv4Network]) -> Option<Ipv4Network> {
    POOLS
        .iter()
        .flat_map(|&(pool, prefix)| subnets(pool, prefix))
        .find(|candidate| !taken.iter().any(|other| candidate.overlaps(*other)))
}

fn subnets(pool: Ipv4Addr, prefix: u8) -> impl Iterator<Item = Ipv4Network> {
    let count = 1_u32 << (PREFIX - prefix);
    (0..count).filter_map(move |n| {
        let address = Ipv4Addr::from_bits(pool.to_bits() + (n << (32 - PREFIX)));
        Ipv4Network::new(address, PREFIX).ok()
    })
}

/// Chooses the lowest address of `range` that is not taken and that a host of `subnet` may have.
pub(super) fn choose_address(
    subnet: Ipv4Network,
    range: Ipv4Network,
    gateway: Ipv4Addr,
    taken: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let (first, last) = (range.network().to_bits(), range.broadcast().to_bits());
    (first..=last)
        .map(Ipv4Addr::from_bits)
        .find(|address| refusal(subnet, gateway, *address).is_none() && !taken.contains(address))
}

/// Says why a host of the subnet cannot have this address, if it cannot.
pub(super) fn refusal(subnet: Ipv4Network, gateway: Ipv4Addr, address: Ipv4Addr) -> Option<&'static str> {
    if !subnet.contains(address) {
        Some("it is not in the subnet")
    } else if address == subnet.network() {
        Some("it is the network's own number")
    } else if address == subnet.broadcast() {
        Some("it is the broadcast address")
    } else if address == gateway {
        Some("it is the gateway")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Network {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_free_subnet_is_chosen() {
        assert_eq!(choose_subnet(&[]), Some(net("10.11.0.0/24")));
        assert_eq!(choose_subnet(&[net("10.11.0.0/24"), net("10.11.1.128/25")]), Some(net("10.11.2.0/24")));
        assert_eq!(choose_subnet(&[net("10.0.0.0/8")]), Some(net("172.28.0.0/24")));
        assert_eq!(choose_subnet(&[net("10.0.0.0/8"), net("172.16.0.0/12")]), Some(net("192.168.224.0/24")));
        assert_eq!(choose_subnet(&[net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
    }

    #[test]
    fn a_small_subnet_is_given_away_completely() {
        let subnet = net("10.11.0.0/29");
        let gateway = Ipv4Addr::new(10, 11, 0, 1);
        let mut taken = BTreeSet::new();
        while let Some(address) = choose_address(subnet, subnet, gateway, &taken) {
            taken.insert(address);
        }
        assert_eq!(taken.iter().map(|a| a.octets()[3]).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    }

    proptest! {
        #[test]
        fn what_is_given_is_free_and_usable(
            base in any::<u32>(), prefix in 16_u8..=30, taken in proptest::collection::btree_set(0_u32..64, 0..40),
        ) {
            let subnet = Ipv4Network::new(Ipv4Addr::from_bits(base), prefix).unwrap();
            let subnet = Ipv4Network::new(subnet.network(), prefix).unwrap();
            let gateway = Ipv4Addr::from_bits(subnet.network().to_bits() + 1);
            let taken = taken.iter().map(|n| Ipv4Addr::from_bits(subnet.network().to_bits().wrapping_add(*n))).collect();
            if let Some(address) = choose_address(subnet, subnet, gateway, &taken) {
                prop_assert!(!taken.contains(&address));
                prop_assert!(refusal(subnet, gateway, address).is_none());
            } else {
                prop_assert!(subnet.size() <= 64);
            }
        }
    }
}
