//! What the configuration of a `macvlan` or `ipvlan` network says, checked once: Docker's `driver_opts` keys.

use std::collections::BTreeMap;

use rtnetlink::packet_route::link::{IpVlanFlags, IpVlanMode, MacVlanMode};

use crate::network::NetworkError;
use crate::network::config::{DriverKind, NetworkConfig};
use crate::network::settings::BridgeSettings;
use crate::spec::{InterfaceName, MacAddress};

const OPTION_PARENT: &str = "parent";
const OPTION_MACVLAN_MODE: &str = "macvlan_mode";
const OPTION_IPVLAN_MODE: &str = "ipvlan_mode";
const OPTION_IPVLAN_FLAG: &str = "ipvlan_flag";

/// Is the longest VLAN id of IEEE 802.1Q: 0 and 4095 mean something else.
const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;

/// Says how the containers' interfaces share their parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// By Ethernet addresses.
    Macvlan(MacVlanMode),
    /// By IP addresses; all have the parent's Ethernet address.
    Ipvlan(IpVlanMode, IpVlanFlags),
}

impl Sharing {
    /// Whether the parent becomes the one container's own.
    pub(super) fn is_passthru(self) -> bool {
        self == Self::Macvlan(MacVlanMode::Passthrough)
    }

    /// Whether the containers' packets are routed, and no Ethernet reaches them: they have a way out and no gateway.
    pub(super) fn routes(self) -> bool {
        matches!(self, Self::Ipvlan(IpVlanMode::L3 | IpVlanMode::L3S, _))
    }
}

/// Is a parent as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParentName {
    /// None of the host's: one of ours that leads nowhere.
    Isolated,
    /// An interface of the host; where it is missing and its name is `<base>.<id>`, a VLAN of `base`.
    Interface { name: InterfaceName, vlan: Option<(InterfaceName, u16)> },
}

/// Is what the configuration of a `macvlan` or `ipvlan` network says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::network) struct LanSettings {
    pub(super) sharing: Sharing,
    pub(super) parent: ParentName,
    /// Addresses and MTU are said as for a bridge.
    pub(super) base: BridgeSettings,
}

impl LanSettings {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`NetworkError::Config`].
    pub(in crate::network) fn check(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let wrong = |reason: String| NetworkError::Config { network: config.name.clone(), reason };
        let base = BridgeSettings::check(config)?;
        if base.name.is_some() {
            return Err(wrong(format!("the driver `{}` has no bridge to be named", config.driver)));
        }
        let sharing = sharing(config.driver, &config.options).map_err(wrong)?;
        let parent = parent(config).map_err(wrong)?;
        if sharing.is_passthru() && parent == ParentName::Isolated {
            return Err(wrong("macvlan_mode `passthru` needs a `parent`, whose only user it becomes".to_owned()));
        }
        Ok(Self { sharing, parent, base })
    }

    /// Chooses the Ethernet address that a container's interface is to be given; `None` where it is the parent's.
    ///
    /// # Errors
    /// Why the one that was asked for cannot be.
    pub(in crate::network) fn mac(
        &self,
        wanted: Option<MacAddress>,
        own: Option<MacAddress>,
    ) -> Result<Option<MacAddress>, String> {
        match (self.sharing, wanted) {
            (Sharing::Ipvlan(..), Some(mac)) => {
                Err(format!("it cannot have the mac_address {mac}: interfaces of ipvlan have their parent's"))
            }
            (Sharing::Ipvlan(..), None) => Ok(None),
            (sharing, wanted) if sharing.is_passthru() => Ok(wanted),
            (_, wanted) => Ok(wanted.or(own)),
        }
    }

    /// Whether the network has room for one container only.
    pub(in crate::network) fn holds_one(&self) -> bool {
        self.sharing.is_passthru()
    }

    /// Whether its containers send what is for others to a gateway.
    pub(in crate::network) fn has_gateway(&self) -> bool {
        !self.sharing.routes()
    }
}

fn sharing(driver: DriverKind, options: &BTreeMap<String, String>) -> Result<Sharing, String> {
    let option = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    if driver == DriverKind::Macvlan {
        return Ok(Sharing::Macvlan(match option(OPTION_MACVLAN_MODE) {
            "" | "bridge" => MacVlanMode::Bridge,
            "private" => MacVlanMode::Private,
            "vepa" => MacVlanMode::Vepa,
            "passthru" => MacVlanMode::Passthrough,
            other => {
                return Err(format!("{OPTION_MACVLAN_MODE} is bridge, private, vepa or passthru, not `{other}`"));
            }
        }));
    }
    let mode = match option(OPTION_IPVLAN_MODE) {
        "" | "l2" => IpVlanMode::L2,
        "l3" => IpVlanMode::L3,
        "l3s" => IpVlanMode::L3S,
        other => return Err(format!("{OPTION_IPVLAN_MODE} is l2, l3 or l3s, not `{other}`")),
    };
    let flags = match option(OPTION_IPVLAN_FLAG) {
        "" | "bridge" => IpVlanFlags::empty(),
        "private" => IpVlanFlags::Private,
        "vepa" => IpVlanFlags::Vepa,
        other => return Err(format!("{OPTION_IPVLAN_FLAG} is bridge, private or vepa, not `{other}`")),
    };
    Ok(Sharing::Ipvlan(mode, flags))
}

fn parent(config: &NetworkConfig) -> Result<ParentName, String> {
    let text = config.options.get(OPTION_PARENT).map(String::as_str).unwrap_or_default();
    if text == "lo" {
        return Err("the loopback interface `lo` cannot be a parent".to_owned());
    }
    // Docker takes the two for the same: a network without a way out has no parent that leads to one.
    if text.is_empty() || config.internal {
        return Ok(ParentName::Isolated);
    }
    let name: InterfaceName = text.parse().map_err(|error| format!("the parent `{text}`: {error}"))?;
    let vlan = match text.rsplit_once('.') {
        Some((base, id)) if !base.is_empty() => {
            id.parse().ok().filter(|id| VLAN_IDS.contains(id)).zip(base.parse().ok()).map(|(id, base)| (base, id))
        }
        _ => None,
    };
    Ok(ParentName::Interface { name, vlan })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Options<'a> = &'a [(&'a str, &'a str)];

    fn config(driver: DriverKind, options: Options<'_>) -> NetworkConfig {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NetworkConfig { name: "p_lan".to_owned(), driver, options, ..NetworkConfig::default() }
    }

    #[test]
    fn dockers_options_are_understood() {
        let check = |driver, options: &[(&str, &str)]| LanSettings::check(&config(driver, options)).unwrap();
        let settings = check(DriverKind::Macvlan, &[("parent", "eth0")]);
        assert_eq!(settings.sharing, Sharing::Macvlan(MacVlanMode::Bridge));
        assert_eq!(settings.parent, ParentName::Interface { name: "eth0".parse().unwrap(), vlan: None });
        let settings = check(DriverKind::Macvlan, &[("parent", "eth0.20"), ("macvlan_mode", "vepa")]);
        assert_eq!(settings.sharing, Sharing::Macvlan(MacVlanMode::Vepa));
        let vlan = Some(("eth0".parse().unwrap(), 20));
        assert_eq!(settings.parent, ParentName::Interface { name: "eth0.20".parse().unwrap(), vlan });
        let settings = check(DriverKind::Ipvlan, &[("ipvlan_mode", "l3s"), ("ipvlan_flag", "private")]);
        assert_eq!(settings.sharing, Sharing::Ipvlan(IpVlanMode::L3S, IpVlanFlags::Private));
        assert_eq!(settings.parent, ParentName::Isolated);
        assert!(!settings.has_gateway());
        let internal = NetworkConfig { internal: true, ..config(DriverKind::Macvlan, &[("parent", "eth0")]) };
        assert_eq!(LanSettings::check(&internal).unwrap().parent, ParentName::Isolated);
    }

    #[test]
    fn an_interface_with_a_dot_need_not_be_a_vlan() {
        for (text, is_vlan) in
            [("a.1", true), ("a.4094", true), ("a.0", false), ("a.4095", false), ("a.b", false), (".5", false)]
        {
            let settings = LanSettings::check(&config(DriverKind::Macvlan, &[("parent", text)])).unwrap();
            let ParentName::Interface { vlan, .. } = settings.parent else { panic!("{text} is a name") };
            assert_eq!(vlan.is_some(), is_vlan, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_value() {
        let cases: [(DriverKind, Options<'_>, &str); 8] = [
            (DriverKind::Macvlan, &[("parent", "lo")], "`lo`"),
            (DriverKind::Macvlan, &[("parent", "a/b")], "a/b"),
            (DriverKind::Macvlan, &[("parent", "a-name-too-long-for-linux")], "a-name-too-long"),
            (DriverKind::Macvlan, &[("macvlan_mode", "source")], "`source`"),
            (DriverKind::Macvlan, &[("macvlan_mode", "passthru")], "needs a `parent`"),
            (DriverKind::Ipvlan, &[("ipvlan_mode", "l4")], "`l4`"),
            (DriverKind::Ipvlan, &[("ipvlan_flag", "shared")], "`shared`"),
            (DriverKind::Ipvlan, &[("com.docker.network.bridge.name", "br9")], "no bridge"),
        ];
        for (driver, options, word) in cases {
            let error = LanSettings::check(&config(driver, options)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("p_lan"), "{error}");
        }
    }

    #[test]
    fn ethernet_addresses_are_given_where_there_are_any() {
        let own: Option<MacAddress> = Some("02:42:0a:00:00:02".parse().unwrap());
        let wanted: Option<MacAddress> = Some("02:00:00:00:00:07".parse().unwrap());
        let of = |driver, options: &[(&str, &str)]| LanSettings::check(&config(driver, options)).unwrap();
        let macvlan = of(DriverKind::Macvlan, &[]);
        assert_eq!(macvlan.mac(None, own), Ok(own));
        assert_eq!(macvlan.mac(wanted, own), Ok(wanted));
        let passthru = of(DriverKind::Macvlan, &[("parent", "eth1"), ("macvlan_mode", "passthru")]);
        assert_eq!(passthru.mac(None, own), Ok(None));
        let ipvlan = of(DriverKind::Ipvlan, &[]);
        assert_eq!(ipvlan.mac(None, own), Ok(None));
        assert!(ipvlan.mac(wanted, own).unwrap_err().contains("02:00:00:00:00:07"));
    }
}
