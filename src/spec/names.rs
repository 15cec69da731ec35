use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// Is the name of a network interface: 1 to 15 bytes, no `/`, no white space, not `.` or `..` (netdevice(7)).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Answers whether it can stand in a firewall's rules: iptables takes a `+` at the end for any ending, and quotes and `!` for
    /// its own syntax.
    pub fn is_plain(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        self.0.bytes().all(plain) && !self.0.starts_with(['-', '.'])
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let sound = !text.is_empty()
            && text.len() <= 15
            && text != "."
            && text != ".."
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'%');
        if sound { Ok(Self(text.to_owned())) } else { Err(SpecError::InterfaceName(text.to_owned())) }
    }
}

/// Is a name that people give to a container, volume or network: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes, as Docker has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let sound = text.len() <= 255
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if sound { Ok(Self(text.to_owned())) } else { Err(SpecError::ObjectName(text.to_owned())) }
    }
}

/// Answers whether a text can be a host's name: letters, digits, `-` and `_` in parts of at most 63, with `.` between them.
pub fn is_host_name(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.split('.').all(|part| {
            !part.is_empty()
                && part.len() <= 63
                && !part.starts_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

macro_rules! string_conversions {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = SpecError;

            fn try_from(text: String) -> Result<Self, SpecError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

string_conversions!(InterfaceName, ObjectName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_bounded() {
        assert!("veth0123456789a".parse::<InterfaceName>().is_ok());
        for text in ["", "0123456789abcdef", "a/b", "a b", "..", "a;b\n"] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn object_names_are_docker_s() {
        assert!("web-1_a.b".parse::<ObjectName>().is_ok());
        for text in ["", "../x", "a b", "-rf", "ü", "a/b"] {
            assert!(text.parse::<ObjectName>().is_err(), "{text}");
        }
    }
}
