#![doc = include_str!("README.md")]

mod sets;
mod thread;

pub use crate::spec::CapabilitySet;
pub use sets::CapabilitySets;
pub use thread::{apply, apply_sets, intersect_host, limit_bounding, permitted};

/// Says why capabilities cannot be read or taken away.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// What the calling thread has could not be read.
    #[error("read the capability sets in /proc/thread-self/status")]
    Status(#[source] std::io::Error),
    /// The three sets of the calling thread that are set as one could not be.
    #[error("set the capability sets to effective `{effective}`, permitted `{permitted}`, inheritable `{inheritable}`")]
    SetAll {
        /// What was to be checked by the kernel.
        effective: CapabilitySet,
        /// What was to be kept.
        permitted: CapabilitySet,
        /// What was to be passed on.
        inheritable: CapabilitySet,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A set of the calling thread could not be changed.
    #[error("set the {set} capability set to `{to}`")]
    Set {
        /// Which set.
        set: &'static str,
        /// What it was to become.
        to: CapabilitySet,
        /// What the kernel said.
        #[source]
        source: caps::errors::CapsError,
    },
    /// A capability that only a newer kernel knows could not be taken from the bounding set.
    #[error("drop capability {number} from the bounding set")]
    DropUnnamed {
        /// Its number.
        number: u32,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl CapabilityError {
    /// Returns what the host lacks, where the error has a known cause.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Set { set: "bounding", .. } | Self::DropUnnamed { .. } => {
                Some("dropping needs CAP_SETPCAP: see CapEff in /proc/self/status (`capsh --decode=…`)".to_owned())
            }
            Self::SetAll { .. } => {
                Some("a thread can only keep what it has: compare CapPrm and CapBnd in /proc/self/status".to_owned())
            }
            _ => None,
        }
    }
}
