use std::fmt;

use serde::{Deserialize, Serialize};

use super::CapabilitySet;

/// Holds the four sets of a thread that the bounding set stands above (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What the kernel checks; part of `permitted`.
    pub effective: CapabilitySet,
    /// What can be made effective.
    pub permitted: CapabilitySet,
    /// What survives execve(2) of a file that has it inheritable too.
    pub inheritable: CapabilitySet,
    /// What survives execve(2) of any ordinary file; part of `permitted` and of `inheritable`.
    pub ambient: CapabilitySet,
}

impl CapabilitySets {
    /// Leaves out what the kernel would refuse for what another set lacks.
    #[must_use]
    pub fn consistent(self) -> Self {
        let effective = self.effective.intersection(self.permitted);
        let ambient = self.ambient.intersection(self.permitted).intersection(self.inheritable);
        Self { effective, ambient, ..self }
    }
}

impl fmt::Display for CapabilitySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effective, permitted, inheritable, ambient } = self;
        write!(f, "effective {effective}, permitted {permitted}, inheritable {inheritable}, ambient {ambient}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambient_needs_permitted_and_inheritable() {
        let (one, two) = (CapabilitySet::from_bits(1), CapabilitySet::from_bits(3));
        let sets = CapabilitySets { effective: two, permitted: one, inheritable: two, ambient: two };
        assert_eq!(sets.consistent(), CapabilitySets { effective: one, ambient: one, ..sets });
    }
}
