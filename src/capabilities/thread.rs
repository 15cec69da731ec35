//! What the calling thread has, and giving it up. Capabilities belong to a thread, not to a process.

use caps::{CapSet, Capability, CapsHashSet};

use super::{CapabilityError, CapabilitySet, CapabilitySets};
use crate::sys;

/// Splits a set into what the calling thread can give and what the machine lacks (a warning, not an error).
///
/// It asks the bounding and the permitted set. A container in a user namespace of its own starts with every
/// capability there, whatever the thread that made it lacks (user_namespaces(7)); ask inside, or not at all.
pub fn intersect_host(set: CapabilitySet) -> Result<(CapabilitySet, CapabilitySet), CapabilityError> {
    // A kernel older than a capability answers EINVAL: it lacks it.
    let bounding =
        members(set).filter(|capability| caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false));
    let host = set.intersection(collect(bounding)).intersection(permitted()?);
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
    write(CapSet::Inheritable, "inheritable", CapabilitySet::EMPTY)?;
    // Effective first: it must never hold what permitted does not, and lowering permitted asks for no right.
    write(CapSet::Effective, "effective", set)?;
    write(CapSet::Permitted, "permitted", set)
}

/// Makes these the calling thread's sets. The bounding set has to hold what becomes inheritable.
pub fn apply_sets(sets: &CapabilitySets) -> Result<(), CapabilityError> {
    let none = CapabilitySet::EMPTY;
    caps::clear(None, CapSet::Ambient).map_err(|source| CapabilityError::Set { set: "ambient", to: none, source })?;
    // While permitted holds all: only what is permitted can become inheritable.
    write(CapSet::Inheritable, "inheritable", sets.inheritable)?;
    write(CapSet::Effective, "effective", sets.effective)?;
    write(CapSet::Permitted, "permitted", sets.permitted)?;
    let failed = |source| CapabilityError::Set { set: "ambient", to: sets.ambient, source };
    // It is empty: what is not to be in it needs no call.
    members(sets.ambient).try_for_each(|capability| caps::raise(None, CapSet::Ambient, capability)).map_err(failed)
}

/// Reads the calling thread's permitted set.
pub fn permitted() -> Result<CapabilitySet, CapabilityError> {
    let set =
        caps::read(None, CapSet::Permitted).map_err(|source| CapabilityError::Read { set: "permitted", source })?;
    Ok(collect(set.into_iter()))
}

fn write(which: CapSet, name: &'static str, to: CapabilitySet) -> Result<(), CapabilityError> {
    let value: CapsHashSet = members(to).collect();
    caps::set(None, which, &value).map_err(|source| CapabilityError::Set { set: name, to, source })
}

/// Iterates over the members as the `caps` crate names them.
fn members(set: CapabilitySet) -> impl Iterator<Item = Capability> {
    // The crate knows all 41 names, see the test.
    set.names().filter_map(|name| name.parse().ok())
}

fn collect(capabilities: impl Iterator<Item = Capability>) -> CapabilitySet {
    CapabilitySet::from_bits(capabilities.fold(0, |bits, capability| bits | capability.bitmask()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one `Cap…` line of the calling thread.
    fn status(line: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
        u64::from_str_radix(value.trim_start_matches(':').trim(), 16).unwrap()
    }

    #[test]
    fn the_crate_and_the_set_agree_on_every_name_and_number() {
        assert_eq!(collect(members(CapabilitySet::all())), CapabilitySet::all());
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
                assert_eq!(status(line), kept.bits(), "{line}");
            }
            assert_eq!((status("CapInh"), status("CapAmb")), (0, 0));
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
            assert!(matches!(error, CapabilityError::Set { set: "effective", .. }), "{error:?}");
            assert!(error.hint().unwrap().contains("CapPrm"));
        })
        .join()
        .unwrap();
    }
}
