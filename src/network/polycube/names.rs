//! Names that follow from what they name, so that whoever comes after a kill finds everything without a record.

use sha2::{Digest, Sha256};

/// The bridge's port to the router.
pub(super) const TO_ROUTER: &str = "rt";
/// The router's port to the bridge.
pub(super) const LAN: &str = "lan";
/// The router's port to the outside.
pub(super) const WAN: &str = "wan";

/// Gives the first `digits` of a text's digest.
fn digest(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

/// Stands for a network in the names of what belongs to it: 8 digits.
pub(super) fn network_hash(network: &str) -> String {
    digest(&[network], 8)
}

/// Names the host's end of an attachment's pair; 14 bytes, of the 15 that the kernel allows.
pub(super) fn host_veth(network: &str, container: &str, ifname: &str) -> String {
    format!("pc{}", digest(&[network, container, ifname], 12))
}

/// Names an attachment's port of the bridge.
pub(super) fn bridge_port(network: &str, container: &str, ifname: &str) -> String {
    format!("p{}", digest(&[network, container, ifname], 12))
}

/// Names the two ends of a network's uplink: the host's and the router's.
pub(super) fn uplink_veth(hash: &str) -> (String, String) {
    (format!("pu{hash}"), format!("pr{hash}"))
}

/// Writes a text as one element of a path: all but letters, digits and `-._~` escaped (RFC 3986, section 2.3).
pub(super) fn path_element(text: &str) -> String {
    text.bytes().fold(String::new(), |path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path + char::from(byte).encode_utf8(&mut [0; 4])
        } else {
            path + &format!("%{byte:02X}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_fit_and_differ() {
        let (host, router) = uplink_veth(&network_hash("a network with a long name"));
        let names =
            [host_veth("n", "c", "eth0"), host_veth("n", "ce", "th0"), host_veth("n2", "c", "eth0"), host, router];
        for (at, name) in names.iter().enumerate() {
            assert!(name.parse::<crate::spec::InterfaceName>().is_ok(), "{name}");
            assert!(!names[at + 1..].contains(name), "{name}");
        }
    }

    #[test]
    fn a_prefix_is_one_element_of_a_path() {
        assert_eq!(path_element("0.0.0.0/0"), "0.0.0.0%2F0");
    }
}
