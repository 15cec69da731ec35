use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// Says what may be done with a device, in the letters of Docker and of cgroup v1: `r`, `w`, `m` (make a node of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceAccess {
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// Nodes of it may be made (mknod(2)).
    pub make: bool,
}

/// Is a device of the host that a container is to have, or a directory with devices in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// The node or directory on the host.
    pub host: PathBuf,
    /// Where it stands in the container.
    pub inside: PathBuf,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// Names the kind of the devices that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Both kinds.
    Any,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// Lets devices be used, whether the container has a node of them or not: `c 10:* rw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Of which kind.
    pub kind: DeviceKind,
    /// Their major number; any where `None`.
    pub major: Option<u32>,
    /// Their minor number; any where `None`.
    pub minor: Option<u32>,
    /// What may be done with them.
    pub access: DeviceAccess,
}

impl DeviceAccess {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, make: true };
}

impl FromStr for DeviceAccess {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut access = Self { read: false, write: false, make: false };
        for letter in text.chars() {
            let bit = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.make,
                _ => return Err(SpecError::DeviceAccess(text.to_owned())),
            };
            if std::mem::replace(bit, true) {
                return Err(SpecError::DeviceAccess(text.to_owned()));
            }
        }
        if text.is_empty() { Err(SpecError::DeviceAccess(text.to_owned())) } else { Ok(access) }
    }
}

impl TryFrom<String> for DeviceAccess {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

impl From<DeviceAccess> for String {
    fn from(access: DeviceAccess) -> Self {
        access.to_string()
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.make, "m")];
        letters.iter().filter(|(has, _)| *has).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// Reads `HOST[:INSIDE][:rwm]`, as Docker's `--device` has it: of two parts the second is a path, or letters alone.
impl FromStr for DeviceRequest {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (host, inside, access) = match parts[..] {
            [host] => (host, host, DeviceAccess::ALL),
            [host, second] => match second.parse() {
                Ok(access) => (host, host, access),
                Err(_) => (host, second, DeviceAccess::ALL),
            },
            [host, inside, access] => (host, inside, access.parse()?),
            _ => return Err(SpecError::Device(text.to_owned())),
        };
        let sound = |path: &str| Path::new(path).is_absolute() && !path.contains('\0');
        if !sound(host) || !sound(inside) {
            return Err(SpecError::Device(text.to_owned()));
        }
        Ok(Self { host: host.into(), inside: inside.into(), access })
    }
}

impl DeviceRule {
    /// Every device, for every use.
    pub const ALL: Self = Self { kind: DeviceKind::Any, major: None, minor: None, access: DeviceAccess::ALL };
}

/// Reads `c 10:200 rwm`; a number may be `*`, and the kind `a` is both kinds.
impl FromStr for DeviceRule {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::DeviceRule(text.to_owned());
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, numbers, access] = words[..] else { return Err(bad()) };
        let kind = match kind {
            "a" => DeviceKind::Any,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Character,
            _ => return Err(bad()),
        };
        let number = |text: &str| match text {
            "*" => Ok(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map(Some).map_err(|_| bad()),
            _ => Err(bad()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
        Ok(Self {
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: access.parse().map_err(|_: SpecError| bad())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_one_to_three_parts() {
        let read = |text: &str| {
            text.parse::<DeviceRequest>()
                .map(|device| format!("{} {} {}", device.host.display(), device.inside.display(), device.access))
        };
        assert_eq!(read("/dev/fuse").unwrap(), "/dev/fuse /dev/fuse rwm");
        assert_eq!(read("/dev/fuse:rw").unwrap(), "/dev/fuse /dev/fuse rw");
        assert_eq!(read("/dev/fuse:/dev/x").unwrap(), "/dev/fuse /dev/x rwm");
        assert_eq!(read("/dev/fuse:/dev/x:mr").unwrap(), "/dev/fuse /dev/x rm");
        for bad in
            ["", "fuse", "/dev/fuse:x", "/dev/fuse:/dev/x:q", "/dev/fuse:/dev/x:", "/a:/b:rr", "/a:/b:r:w", "/a:"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_those_of_cgroup_v1() {
        let rule: DeviceRule = "c 10:* rw".parse().unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor), (DeviceKind::Character, Some(10), None));
        assert_eq!(rule.access.to_string(), "rw");
        assert_eq!("a *:* rwm".parse::<DeviceRule>().unwrap(), DeviceRule::ALL);
        for bad in
            ["", "c 10 rw", "x 1:3 r", "c 1:3", "c 1:3 x", "c -1:3 r", "c 1:3 r w", "c 4294967296:0 r", "c +1:3 r"]
        {
            assert!(bad.parse::<DeviceRule>().is_err(), "{bad}");
        }
    }
}
