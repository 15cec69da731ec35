use std::fmt;

use super::{InterfaceName, SpecError};

/// Is a network device of the host's that goes into a container's network namespace (runtime specification, "Network Devices").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDeviceMove {
    /// What it is called on the host.
    pub name: InterfaceName,
    /// What it is called inside.
    pub becomes: NewDeviceName,
}

/// Is the name that a device gets: one of an interface, or a template such as `eth%d`, of which the kernel makes the first name that
/// nobody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewDeviceName {
    /// A name.
    Fixed(InterfaceName),
    /// A template: one `%d`, and what stands before and behind it.
    Template(String),
}

impl NewDeviceName {
    /// Reads a name or a template.
    ///
    /// # Errors
    /// [`SpecError::DeviceTemplate`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let wrong = || SpecError::DeviceTemplate(text.to_owned());
        match text.split_once("%d") {
            None => text.parse().map(Self::Fixed).map_err(|_| wrong()),
            // The shortest name of the template has one digit in its place.
            Some((before, behind)) => match format!("{before}0{behind}").parse::<InterfaceName>() {
                Ok(_) if text.len() <= 15 => Ok(Self::Template(text.to_owned())),
                _ => Err(wrong()),
            },
        }
    }

    /// Returns the text, as the kernel takes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fixed(name) => name.as_str(),
            Self::Template(text) => text,
        }
    }
}

impl fmt::Display for NewDeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_is_a_name_or_a_template() {
        assert!(matches!(NewDeviceName::parse("eth0"), Ok(NewDeviceName::Fixed(_))));
        for text in ["eth%d", "%d", "a%db", "0123456789abc%d"] {
            assert!(matches!(NewDeviceName::parse(text), Ok(NewDeviceName::Template(_))), "{text}");
        }
        for text in
            ["", ".", "..", "a/b", "a b", "a:b", "eth%d%d", "eth%s", "100%", "0123456789abcd%d", "0123456789abcdef"]
        {
            assert!(NewDeviceName::parse(text).is_err(), "{text}");
        }
    }
}
