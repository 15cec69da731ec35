//! Rules in the form of cgroup v1: what is so for all devices, and exceptions from it.

use super::super::CgroupError;
use super::rule::{DeviceRule, Devices, Kind};

/// Is what v1's files can say: everything is allowed, or denied, but for exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceList {
    /// Everything but the exceptions is allowed; else denied.
    pub allow: bool,
    /// Which uses of which devices are the other way, in the order they came up; none twice.
    pub exceptions: Vec<(Devices, u8)>,
}

impl DeviceList {
    /// Goes through rules in their order, beginning with everything denied.
    ///
    /// # Errors
    /// [`CgroupError::Resource`] for a rule that would cut a hole into a wider one before it: v1 has no way to say that.
    pub fn from_rules(rules: &[DeviceRule]) -> Result<Self, CgroupError> {
        let mut list = Self { allow: false, exceptions: Vec::new() };
        for (at, rule) in rules.iter().enumerate() {
            if rule.is_total() {
                list = Self { allow: rule.allow, exceptions: Vec::new() };
                continue;
            }
            // In v1's files `a` is every device and every use, whatever stands behind it.
            let kinds = match rule.devices.kind {
                Some(kind) => vec![kind],
                None => vec![Kind::Character, Kind::Block],
            };
            for kind in kinds {
                let devices = Devices { kind: Some(kind), ..rule.devices };
                if rule.allow == list.allow {
                    list.take_out(at, devices, rule.access)?;
                } else {
                    list.put_in(devices, rule.access);
                }
            }
        }
        Ok(list)
    }

    fn put_in(&mut self, devices: Devices, access: u8) {
        match self.exceptions.iter_mut().find(|(had, _)| *had == devices) {
            Some((_, had)) => *had |= access,
            None => self.exceptions.push((devices, access)),
        }
    }

    fn take_out(&mut self, at: usize, devices: Devices, access: u8) -> Result<(), CgroupError> {
        for (had, uses) in &mut self.exceptions {
            if devices.hold(*had) {
                *uses &= !access;
            } else if devices.touch(*had) && *uses & access != 0 {
                let rule = |devices, access| DeviceRule { allow: true, devices, access }.to_string();
                let (hole, wide) = (rule(devices, access), rule(*had, *uses));
                let reason = format!("cgroup v1 cannot make an exception of `{hole}` from `{wide}`");
                let source = Box::new(CgroupError::Refused { reason });
                return Err(CgroupError::Resource { key: format!("devices[{at}]"), source });
            }
        }
        self.exceptions.retain(|(_, uses)| *uses != 0);
        Ok(())
    }

    /// Reads `devices.list`; exceptions from "everything is allowed" do not stand there.
    pub fn parse(text: &str) -> Self {
        let mut list = Self { allow: false, exceptions: Vec::new() };
        for line in text.lines() {
            match parse_line(line) {
                Some((Devices { kind: None, .. }, _)) => list.allow = true,
                Some((devices, access)) => list.put_in(devices, access),
                None => {}
            }
        }
        list
    }

    /// Lists what is to be written to `devices.allow` and `devices.deny`, the file's answer first, to get here from `now`.
    pub fn writes_from(&self, now: &Self) -> Vec<(bool, String)> {
        let say = |devices, access| DeviceRule { allow: true, devices, access }.to_string();
        if self.allow || now.allow {
            // All of it anew: `a` forgets the exceptions.
            let base = (self.allow, "a".to_owned());
            let exceptions = self.exceptions.iter().map(|(devices, access)| (!self.allow, say(*devices, *access)));
            return std::iter::once(base).chain(exceptions).collect();
        }
        let uses = |list: &Self, devices| {
            list.exceptions.iter().find(|(had, _)| *had == devices).map_or(0, |(_, access)| *access)
        };
        let more = self.exceptions.iter().map(|(devices, access)| (true, *devices, access & !uses(now, *devices)));
        let less = now.exceptions.iter().map(|(devices, access)| (false, *devices, access & !uses(self, *devices)));
        let changes = more.chain(less).filter(|(_, _, access)| *access != 0);
        changes.map(|(allow, devices, access)| (allow, say(devices, access))).collect()
    }
}

fn parse_line(line: &str) -> Option<(Devices, u8)> {
    let mut words = line.split_whitespace();
    let kind = match words.next()? {
        "a" => None,
        "b" => Some(Kind::Block),
        "c" => Some(Kind::Character),
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let devices = Devices { kind, major: number(major)?, minor: number(minor)? };
    let access = words.next()?.chars().map(|letter| match letter {
        'r' => super::rule::READ,
        'w' => super::rule::WRITE,
        'm' => super::rule::MAKE,
        _ => 0,
    });
    Some((devices, access.fold(0, |all, bit| all | bit)))
}
