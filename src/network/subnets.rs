//! The subnets of a network that is to be made: those that are asked for, if they are free, and free ones.

use ipnetwork::IpNetwork;

use super::record::NetworkSubnet;
use super::settings::PoolSettings;
use super::{NetworkError, ipam};

/// Takes the subnets that are asked for, if nobody has them, and chooses the others.
///
/// Nobody may have what is in `taken`; what is `in_use` besides is in the way of a choice alone.
pub(super) fn choose_subnets(
    pools: &[PoolSettings],
    taken: &[(IpNetwork, String)],
    in_use: &[IpNetwork],
    network: &str,
) -> Result<Vec<NetworkSubnet>, NetworkError> {
    let asked = pools.iter().filter_map(|pool| pool.subnet);
    let not_free: Vec<IpNetwork> =
        taken.iter().map(|(subnet, _)| *subnet).chain(asked).chain(in_use.iter().copied()).collect();
    let mut subnets = Vec::new();
    for pool in pools {
        let clash = |subnet: IpNetwork| taken.iter().find(|(other, _)| ipam::overlap(subnet, *other));
        let none = |pools: String| NetworkError::NoFreeSubnet { network: network.to_owned(), pools };
        let subnet = match pool.subnet {
            Some(subnet) => match clash(subnet) {
                Some((other, whose)) => {
                    let other = format!("{other}, {whose}");
                    return Err(NetworkError::SubnetOverlap { network: network.to_owned(), subnet, other });
                }
                None => subnet,
            },
            None if pool.v6 => ipam::choose_subnet_v6(&host_identity(), network, &not_free)
                .ok_or_else(|| none("the unique local subnets of this host".to_owned()))?
                .into(),
            None => ipam::choose_subnet(&not_free).ok_or_else(|| none(ipam::pools_text()))?.into(),
        };
        subnets.push(NetworkSubnet { subnet, gateway: pool.gateway.unwrap_or_else(|| ipam::first_address(subnet)) });
    }
    Ok(subnets)
}

/// Returns what tells this host from others, over reboots: machine-id(5), or else its name.
fn host_identity() -> String {
    let known = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"];
    let read = |path: &str| std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty());
    // The id itself is not to be guessed from an address (machine-id(5)): it goes through a digest.
    known.into_iter().find_map(read).unwrap_or_default()
}
