//! The filter of an OCI bundle (`linux.seccomp`).

use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use super::{CompiledFilter, Listener, SeccompError, compile};

/// Is a bundle's filter, ready for [`crate::sys::seccomp::install_with`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFilter {
    /// The program.
    pub program: CompiledFilter,
    /// `SECCOMP_FILTER_FLAG_*` of seccomp(2).
    pub flags: u64,
    /// Who is to get the listener; only where an action is SCMP_ACT_NOTIFY, and then `flags` ask for one.
    pub listener: Option<Listener>,
}

/// Compiles a bundle's filter; with a directory it is kept there for the processes that come later.
///
/// # Errors
/// [`SeccompError`] with the key of what cannot be.
pub fn compile_spec(config: &LinuxSeccomp, cache: Option<&Path>) -> Result<SpecFilter, SeccompError> {
    let notifies = config.syscalls().iter().flatten().any(|call| call.action() == LinuxSeccompAction::ScmpActNotify);
    let listener = match config.listener_path() {
        Some(path) if notifies => Some(Listener { path: path.clone(), metadata: config.listener_metadata().clone() }),
        None if notifies => {
            let reason = "SCMP_ACT_NOTIFY needs the path of the agent's socket".to_owned();
            return Err(SeccompError::Config { key: "listenerPath".to_owned(), reason });
        }
        _ => None,
    };
    let program = compile::compile_config(config, cache)?;
    Ok(SpecFilter { program, flags: flags(config, notifies), listener })
}

/// Returns the flags of seccomp(2).
fn flags(config: &LinuxSeccomp, notifies: bool) -> u64 {
    let mut bits = 0;
    let asked = config.flags().clone().unwrap_or_else(|| vec![LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow]);
    for flag in asked {
        bits |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // The kernel takes it only beside a listener.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => WAIT_KILLABLE_RECV,
            // The process that installs the filter has one thread; beside a listener the kernel refuses it.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync
            | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    if notifies { bits | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { bits }
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, since Linux 5.19.
const WAIT_KILLABLE_RECV: u64 = 1 << 5;
