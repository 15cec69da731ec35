use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// Is an Ethernet address, written `02:42:0a:0b:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Makes the address that belongs to an IPv4 address: locally administered, unicast.
    ///
    /// An address that passes from one container to the next keeps its Ethernet address, so that no neighbour's ARP
    /// cache is ever wrong.
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// Returns the six bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::MacAddress(text.to_owned());
        let mut octets = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        let unicast = octets[0] & 1 == 0 && octets != [0; 6];
        if unicast && parts.next().is_none() { Ok(Self(octets)) } else { Err(bad()) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_parse_and_follow_the_ip_address() {
        let mac = MacAddress::of(Ipv4Addr::new(10, 11, 0, 2));
        assert_eq!(mac.to_string(), "02:42:0a:0b:00:02");
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
        for text in ["", "02:42", "01:00:00:00:00:00", "02:42:0a:0b:00:02:03", "+2:42:0a:0b:00:02", "00:00:00:00:00:00"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
