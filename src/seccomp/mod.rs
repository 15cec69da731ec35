#![doc = include_str!("README.md")]

mod cache;
mod compile;
mod filter;
mod guard;
mod json;
mod listener;
mod plan;
mod profile;
mod runtime_spec;
#[cfg(test)]
mod spec_tests;
#[cfg(test)]
mod tests;

pub use compile::{compile, compile_cached};
pub use filter::CompiledFilter;
pub use listener::{Listener, send_listener};
pub use runtime_spec::{SpecFilter, compile_spec};

use std::path::PathBuf;

/// Says why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// A profile could not be read.
    #[error("read seccomp profile {}", .path.display())]
    Read {
        /// The profile.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A profile is not JSON of Docker's form.
    #[error("understand seccomp profile {}", .path.display())]
    Parse {
        /// The profile.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A profile names an action, an operator, an architecture or a kernel version that does not exist.
    #[error("understand `{value}` as {what} in seccomp profile {}", .path.display())]
    Value {
        /// The profile.
        path: PathBuf,
        /// What the value should be.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The default profile is not written for this machine.
    #[error("find the default seccomp profile for `{arch}`")]
    Architecture {
        /// The machine's architecture.
        arch: &'static str,
    },
    /// A bundle's filter asks for what cannot be.
    #[error("understand linux.seccomp: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The agent that is to answer for a filter could not be reached.
    #[error("hand the seccomp listener to {}", .path.display())]
    Listener {
        /// `linux.seccomp.listenerPath`.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// libseccomp refused a step.
    #[error("{step} in the seccomp filter")]
    Library {
        /// What was being done.
        step: String,
        /// What libseccomp said.
        #[source]
        source: libseccomp::error::SeccompError,
    },
    /// The compiled filter could not be carried over.
    #[error("export the seccomp filter")]
    Export(#[source] std::io::Error),
    /// The filter has more instructions than the kernel takes.
    #[error("fit {instructions} instructions into a seccomp filter, which has 1 to {}", filter::LONGEST)]
    TooLong {
        /// How many it would have.
        instructions: usize,
    },
}

impl SeccompError {
    /// Returns what to do, where the error has a known cause.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => {
                Some("`seccomp=` takes default, ancestor, unconfined or the path of a JSON profile".to_owned())
            }
            Self::Architecture { .. } => {
                Some("give a profile of your own, `seccomp=FILE`, or `seccomp=unconfined`".to_owned())
            }
            Self::TooLong { .. } => {
                Some("a profile with fewer argument rules or architectures compiles to less".to_owned())
            }
            _ => None,
        }
    }
}
