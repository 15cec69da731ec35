//! What a container may do with which devices, as rules in order: of those that fit, the last one counts.

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::super::CgroupError;
use crate::spec;

/// Reading, writing and making a node, as bits; the kernel's own order (`DEVCG_ACC_*`).
pub(super) const MAKE: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const EVERYTHING: u8 = MAKE | READ | WRITE;

/// Is the kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A block device.
    Block,
    /// A character device.
    Character,
}

/// Is a set of devices. `None` is every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    /// Of which kind.
    pub kind: Option<Kind>,
    /// With which major number.
    pub major: Option<u32>,
    /// With which minor number.
    pub minor: Option<u32>,
}

/// Allows or denies the use of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allows; else denies.
    pub allow: bool,
    /// Which devices.
    pub devices: Devices,
    /// Which uses: bits of `MAKE`, `READ`, `WRITE`.
    pub access: u8,
}

impl Devices {
    pub(super) const ALL: Self = Self { kind: None, major: None, minor: None };

    /// Answers whether every device of the other is one of these.
    pub(super) fn hold(self, other: Self) -> bool {
        fits(self.kind, other.kind) && fits(self.major, other.major) && fits(self.minor, other.minor)
    }

    /// Answers whether some device is one of both.
    pub(super) fn touch(self, other: Self) -> bool {
        meets(self.kind, other.kind) && meets(self.major, other.major) && meets(self.minor, other.minor)
    }
}

fn fits<T: PartialEq>(wide: Option<T>, narrow: Option<T>) -> bool {
    wide.is_none() || wide == narrow
}

fn meets<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

impl DeviceRule {
    const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Self {
        Self { allow: true, devices: Devices { kind: Some(kind), major, minor }, access }
    }

    /// Answers whether it decides every use of every device.
    pub(super) fn is_total(&self) -> bool {
        self.devices == Devices::ALL && self.access == EVERYTHING
    }
}

/// What every container may use, as in runc: it may make nodes of every device, and use those that are harmless.
pub(super) const DEFAULT: [DeviceRule; 11] = {
    const fn node(major: u32, minor: u32) -> DeviceRule {
        DeviceRule::allow(Kind::Character, Some(major), Some(minor), EVERYTHING)
    }
    [
        DeviceRule::allow(Kind::Character, None, None, MAKE),
        DeviceRule::allow(Kind::Block, None, None, MAKE),
        node(1, 3), // null
        node(1, 5), // zero
        node(1, 7), // full
        node(1, 8), // random
        node(1, 9), // urandom
        node(5, 0), // tty
        node(5, 1), // console
        node(5, 2), // ptmx
        // pts/*
        DeviceRule::allow(Kind::Character, Some(136), None, EVERYTHING),
    ]
};

impl From<&spec::DeviceRule> for DeviceRule {
    fn from(rule: &spec::DeviceRule) -> Self {
        let kind = match rule.kind {
            spec::DeviceKind::Any => None,
            spec::DeviceKind::Block => Some(Kind::Block),
            spec::DeviceKind::Character => Some(Kind::Character),
        };
        let spec::DeviceAccess { read, write, make } = rule.access;
        let access = [(read, READ), (write, WRITE), (make, MAKE)];
        let access = access.iter().filter(|(has, _)| *has).fold(0, |all, (_, bit)| all | bit);
        Self { allow: true, devices: Devices { kind, major: rule.major, minor: rule.minor }, access }
    }
}

/// Returns a bundle's rules with the default ones behind them: nothing can take those away.
///
/// # Errors
/// [`CgroupError::Resource`] with the rule that cannot be understood.
pub(super) fn from_spec(given: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>, CgroupError> {
    let rules = given.iter().enumerate().map(|(at, rule)| {
        understand(rule).map_err(|reason| CgroupError::Resource {
            key: format!("devices[{at}]"),
            source: Box::new(CgroupError::Refused { reason }),
        })
    });
    rules.chain(DEFAULT.map(Ok)).collect()
}

fn understand(rule: &LinuxDeviceCgroup) -> Result<DeviceRule, String> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Character),
        Some(LinuxDeviceType::P) => return Err("a FIFO is no device that a cgroup knows".to_owned()),
    };
    let number = |name: &str, given: Option<i64>| match given {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| format!("{name} {number} is no device number")),
    };
    let devices = Devices { kind, major: number("major", rule.major())?, minor: number("minor", rule.minor())? };
    let mut access = 0;
    let letters = rule.access().as_deref().filter(|letters| !letters.is_empty()).unwrap_or("rwm");
    for letter in letters.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => return Err(format!("access `{letters}` has other letters than r, w and m")),
        };
    }
    Ok(DeviceRule { allow: rule.allow(), devices, access })
}

/// Answers whether rules in this order let everything be used: there is nothing to set then.
pub(super) fn allow_everything(rules: &[DeviceRule]) -> bool {
    let last = rules.iter().rposition(DeviceRule::is_total);
    last.is_some_and(|last| rules[last..].iter().all(|rule| rule.allow))
}

/// Writes a rule's devices and uses in the form of v1's files: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |given: Option<u32>| given.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = match self.devices.kind {
            None => 'a',
            Some(Kind::Block) => 'b',
            Some(Kind::Character) => 'c',
        };
        write!(f, "{kind} {}:{} ", number(self.devices.major), number(self.devices.minor))?;
        let letters = [(READ, "r"), (WRITE, "w"), (MAKE, "m")];
        letters.iter().filter(|(bit, _)| self.access & bit != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}
