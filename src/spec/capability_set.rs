//! Sets of capabilities as values: named, resolved from what a user wrote, printed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CapabilityBase, CapabilityRequest, SpecError, capability_names as names};

/// Is a set of capabilities: bit n stands for capability n, as in the `Cap…` lines of proc_pid_status(5).
///
/// Only the 41 capabilities that have a name can be members; what a newer kernel adds is never given to a container.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub struct CapabilitySet(u64);

/// Docker's fourteen: the ancestor's ten and FSETID, MKNOD, AUDIT_WRITE, SETFCAP.
const DOCKER: u64 = 0xa804_25fb;

/// What the ancestor's documents keep: CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW
/// SYS_CHROOT.
const ANCESTOR: u64 = 0x425eb;

impl CapabilitySet {
    /// Holds no capability.
    pub const EMPTY: Self = Self(0);

    /// Returns Docker's fourteen.
    pub const fn docker() -> Self {
        Self(DOCKER)
    }

    /// Returns the ten that the ancestor keeps.
    pub const fn ancestor() -> Self {
        Self(ANCESTOR)
    }

    /// Returns every capability that has a name.
    pub const fn all() -> Self {
        Self((1 << names::NAMED.len()) - 1)
    }

    /// Returns the members of a bit mask that have a name.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::all().0)
    }

    /// Returns the set as a bit mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Computes the set that a request asks for: the base without what is dropped, with what is added.
    ///
    /// As in Docker, `ALL` in one list and names in the other mean "all but" and "none but", whichever comes first:
    /// a name weighs more than `ALL`, and a name added weighs more than the same name dropped.
    pub fn resolve(request: &CapabilityRequest) -> Result<Self, SpecError> {
        let (add_all, add) = named(&request.add)?;
        let (drop_all, drop) = named(&request.drop)?;
        let base = match request.base {
            CapabilityBase::Docker => Self::docker(),
            CapabilityBase::Ancestor => Self::ancestor(),
            CapabilityBase::All => Self::all(),
        };
        let start = match (add_all, drop_all) {
            (_, true) => Self::EMPTY,
            (true, false) => Self::all(),
            (false, false) => base,
        };
        Ok(Self(start.0 & !drop.0 | add.0))
    }

    /// Writes a name in upper case without `CAP_`, `ALL` among them; `None` for one that no capability has.
    pub fn canonical_name(text: &str) -> Option<String> {
        let bare = names::bare(text);
        (bare == "ALL" || names::number(&bare).is_some()).then_some(bare)
    }

    /// Says whether a text stands for all of them, in any form.
    pub fn is_all(text: &str) -> bool {
        names::bare(text) == "ALL"
    }

    /// Finds the name most like one that no capability has.
    pub fn nearest_name(text: &str) -> Option<&'static str> {
        names::nearest(text)
    }

    /// Answers whether the set has a capability, named with or without `CAP_`, in any case.
    pub fn contains(self, name: &str) -> bool {
        names::number(name).is_some_and(|number| self.0 & (1 << number) != 0)
    }

    /// Answers whether the set has no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns what is in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns what is in this set and not in the other.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns what is in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Iterates over the members' names without `CAP_`, lowest number first.
    fn members(self) -> impl Iterator<Item = &'static str> {
        names::NAMED.iter().enumerate().filter(move |(at, _)| self.0 & (1 << at) != 0).map(|(_, known)| *known)
    }

    /// Iterates over the members' names with `CAP_`, lowest number first.
    pub fn names(self) -> impl Iterator<Item = String> {
        self.members().map(|name| format!("CAP_{name}"))
    }
}

/// Reads a list of names: whether `ALL` is among them, and the rest as a set.
fn named(names: &[String]) -> Result<(bool, CapabilitySet), SpecError> {
    let mut all = false;
    let mut set = CapabilitySet::EMPTY;
    for name in names {
        if name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("cap_all") {
            all = true;
        } else {
            set = set.union(name.parse()?);
        }
    }
    Ok((all, set))
}

impl FromStr for CapabilitySet {
    type Err = SpecError;

    /// Reads one capability's name as the set of it alone.
    fn from_str(name: &str) -> Result<Self, SpecError> {
        match names::number(name) {
            Some(number) => Ok(Self(1 << number)),
            None => Err(SpecError::Capability { name: name.to_owned(), nearest: names::nearest(name) }),
        }
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (at, name) in self.members().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapabilitySet({:#x}: {self})", self.0)
    }
}

impl From<CapabilitySet> for Vec<String> {
    fn from(set: CapabilitySet) -> Self {
        set.names().collect()
    }
}

impl TryFrom<Vec<String>> for CapabilitySet {
    type Error = SpecError;

    fn try_from(names: Vec<String>) -> Result<Self, SpecError> {
        names.iter().try_fold(Self::EMPTY, |set, name| Ok(set.union(name.parse()?)))
    }
}

impl From<CapabilitySet> for oci_spec::runtime::Capabilities {
    fn from(set: CapabilitySet) -> Self {
        // Every name of ours is one of OCI's, see the test; nothing is lost.
        set.members().filter_map(|name| oci_spec::runtime::Capability::from_str(name).ok()).collect()
    }
}

impl TryFrom<&oci_spec::runtime::Capabilities> for CapabilitySet {
    type Error = SpecError;

    fn try_from(set: &oci_spec::runtime::Capabilities) -> Result<Self, SpecError> {
        set.iter().try_fold(Self::EMPTY, |all, capability| Ok(all.union(capability.to_string().parse()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(base: CapabilityBase, add: &[&str], drop: &[&str]) -> CapabilityRequest {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        CapabilityRequest { base, add: owned(add), drop: owned(drop) }
    }

    #[test]
    fn the_named_sets_are_the_documented_ones() {
        assert_eq!(
            CapabilitySet::docker().to_string(),
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
        );
        let four = CapabilitySet::docker().difference(CapabilitySet::ancestor());
        assert_eq!(four.to_string(), "FSETID MKNOD AUDIT_WRITE SETFCAP");
        assert_eq!(CapabilitySet::all().bits(), 0x1ff_ffff_ffff);
    }

    #[test]
    fn names_are_read_with_or_without_prefix_in_any_case() {
        let set =
            CapabilitySet::resolve(&request(CapabilityBase::Docker, &["cap_net_admin", "Sys_Time"], &["CAP_CHOWN"]));
        let set = set.unwrap();
        assert!(set.contains("NET_ADMIN") && set.contains("CAP_SYS_TIME") && !set.contains("chown"));
    }

    #[test]
    fn all_but_and_none_but() {
        let all_but = CapabilitySet::resolve(&request(CapabilityBase::Docker, &["ALL"], &["NET_RAW"])).unwrap();
        assert_eq!(CapabilitySet::all().difference(all_but).to_string(), "NET_RAW");
        let none_but = CapabilitySet::resolve(&request(CapabilityBase::Docker, &["NET_RAW"], &["all"])).unwrap();
        assert_eq!(none_but.to_string(), "NET_RAW");
        assert!(CapabilitySet::resolve(&request(CapabilityBase::Ancestor, &[], &["ALL"])).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let error = CapabilitySet::resolve(&request(CapabilityBase::Docker, &["NET_ADMN"], &[])).unwrap_err();
        assert_eq!(error.to_string(), "`NET_ADMN` is not a capability, did you mean `NET_ADMIN`?");
    }

    #[test]
    fn it_survives_json_and_oci() {
        let json = serde_json::to_string(&CapabilitySet::ancestor()).unwrap();
        assert!(json.starts_with(r#"["CAP_CHOWN","CAP_DAC_OVERRIDE""#), "{json}");
        assert_eq!(serde_json::from_str::<CapabilitySet>(&json).unwrap(), CapabilitySet::ancestor());
        let oci = oci_spec::runtime::Capabilities::from(CapabilitySet::all());
        assert_eq!(oci.len(), names::NAMED.len());
        assert_eq!(CapabilitySet::try_from(&oci).unwrap(), CapabilitySet::all());
    }
}
