//! What the calling thread has, and giving it up. Capabilities belong to a thread, not to a process.

use std::io;

use caps::{CapSet, Capability};

use super::{CapabilityError, CapabilitySet, CapabilitySets};
use crate::sys;

/// Splits a set into what the calling thread can give and what the machine lacks (a warning, not an error).
///
/// It asks the bounding and the permitted set. A container in a user namespace of its own starts with every
/// capability there, whatever the thread that made it lacks (user_namespaces(7)); ask inside, or not at all.
pub fn intersect_host(set: CapabilitySet) -> Result<(CapabilitySet, CapabilitySet), CapabilityError> {
    // One file has both. What a kernel is too old to know stands in neither.
    let [bounding, permitted] = status(["CapBnd:", "CapPrm:"])?;
    let host = set.intersection(bounding).intersection(permitted);
    Ok((host, set.difference(host)))
}

/// Drops every capability that is not in the set from the calling thread's bounding set, for good.
///
/// It has to come before [`apply`] and before the ids change: each drop needs CAP_SETPCAP.
pub fn limit_bounding(set: CapabilitySet) -> Result<(), CapabilityError> {
    for capability in members(CapabilitySet::all().difference(set)) {
        match caps::drop(None, CapSet::Bounding, capability) {
            Ok(()) => {}
            // An older kernel does not know the capability: nothing to drop.
            Err(_) if caps::has_cap(None, CapSet::Bounding, capability).is_err() => {}
            Err(source) => return Err(CapabilityError::Set { set: "bounding", to: set, source }),
        }
    }
    // The ancestor kept what was newer than its list; a newer kernel's capabilities go here, nameless.
    let first = CapabilitySet::all().bits().count_ones();
    for number in (first..u64::BITS).take_while(|number| sys::capability::in_bounding(*number).is_some()) {
        sys::capability::drop_bounding(number).map_err(|source| CapabilityError::DropUnnamed { number, source })?;
    }
    Ok(())
}

/// Makes the set the calling thread's permitted and effective one, and empties inheritable and ambient.
///
/// Nothing is inheritable, as in Docker since CVE-2022-24769: an inheritable capability would come back through a file
/// that has it in its own inheritable set.
pub fn apply(set: CapabilitySet) -> Result<(), CapabilityError> {
    caps::clear(None, CapSet::Ambient).map_err(|source| CapabilityError::Set {
        set: "ambient",
        to: CapabilitySet::EMPTY,
        source,
    })?;
    write(set, set, CapabilitySet::EMPTY)
}

/// Makes these the calling thread's sets. The bounding set has to hold what becomes inheritable.
pub fn apply_sets(sets: &CapabilitySets) -> Result<(), CapabilityError> {
    let none = CapabilitySet::EMPTY;
    caps::clear(None, CapSet::Ambient).map_err(|source| CapabilityError::Set { set: "ambient", to: none, source })?;
    write(sets.effective, sets.permitted, sets.inheritable)?;
    let failed = |source| CapabilityError::Set { set: "ambient", to: sets.ambient, source };
    // It is empty: what is not to be in it needs no call.
    members(sets.ambient).try_for_each(|capability| caps::raise(None, CapSet::Ambient, capability)).map_err(failed)
}

/// Reads the calling thread's permitted set.
pub fn permitted() -> Result<CapabilitySet, CapabilityError> {
    status(["CapPrm:"]).map(|[set]| set)
}

/// Reads sets of the calling thread by the names of their lines (proc_pid_status(5)).
fn status<const N: usize>(lines: [&'static str; N]) -> Result<[CapabilitySet; N], CapabilityError> {
    let text = sys::read_pseudo_record("/proc/thread-self/status").map_err(CapabilityError::Status)?;
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let read = |name: &str| value(name).and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let sets = lines.map(read);
    if sets.contains(&None) {
        return Err(CapabilityError::Status(io::ErrorKind::InvalidData.into()));
    }
    Ok(sets.map(|bits| CapabilitySet::from_bits(bits.unwrap_or_default())))
}

/// Sets three at once: only what is permitted before can become inheritable, and effective never holds what permitted does not.
fn write(
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
) -> Result<(), CapabilityError> {
    sys::capability::set_all(effective.bits(), permitted.bits(), inheritable.bits())
        .map_err(|source| CapabilityError::SetAll { effective, permitted, inheritable, source })
}

/// Iterates over the members as the `caps` crate names them.
fn members(set: CapabilitySet) -> impl Iterator<Item = Capability> {
    // The crate knows all 41 names, see the test.
    set.names().filter_map(|name| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one `Cap…` line of the calling thread.
    fn shown(line: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
        u64::from_str_radix(value.trim_start_matches(':').trim(), 16).unwrap()
    }

    #[test]
    fn the_crate_and_the_set_agree_on_every_name_and_number() {
        let bits = members(CapabilitySet::all()).fold(0, |bits, capability| bits | capability.bitmask());
        assert_eq!(CapabilitySet::from_bits(bits), CapabilitySet::all());
        assert_eq!(members(CapabilitySet::all()).count(), 41);
    }

    #[test]
    fn the_kernel_shows_exactly_the_keep_set() {
        // A thread of its own: what it gives up is gone with it.
        std::thread::spawn(|| {
            let (kept, _) = intersect_host(CapabilitySet::ancestor()).unwrap();
            limit_bounding(kept).unwrap();
            apply(kept).unwrap();
            for line in ["CapBnd", "CapPrm", "CapEff"] {
                assert_eq!(shown(line), kept.bits(), "{line}");
            }
            assert_eq!((shown("CapInh"), shown("CapAmb")), (0, 0));
            assert_eq!(permitted().unwrap(), kept);
            let (host, missing) = intersect_host(CapabilitySet::docker()).unwrap();
            assert_eq!(host, kept);
            assert_eq!(missing, CapabilitySet::docker().difference(kept));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn raising_what_is_gone_is_an_error_with_a_hint() {
        std::thread::spawn(|| {
            apply(CapabilitySet::EMPTY).unwrap();
            let error = apply(CapabilitySet::docker()).unwrap_err();
            assert!(matches!(error, CapabilityError::SetAll { .. }), "{error:?}");
            assert!(error.hint().unwrap().contains("CapPrm"));
        })
        .join()
        .unwrap();
    }
}
