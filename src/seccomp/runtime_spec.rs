//! The filter of an OCI bundle (`linux.seccomp`): the same profile as a file's, with flags, and with an agent that may be asked.

use std::path::Path;

use libseccomp::ScmpSyscall;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};
use sha2::{Digest, Sha256};

use super::json::{Argument, Origin, Profile, Reader, Syscall};
use super::{CompiledFilter, Listener, SeccompError, compile};
use crate::spec::CapabilitySet;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, since Linux 5.19.
const WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// The call by which the new process hands the listener over: nobody listens yet, so it would wait for good.
const HANDING_OVER: &str = "sendmsg";

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
/// Names of calls that libseccomp does not know are passed over, as in runc, unless `strict`.
///
/// # Errors
/// [`SeccompError::Config`] for what cannot be: an action without an agent, a comparison of a seventh argument.
pub fn compile_spec(config: &LinuxSeccomp, cache: Option<&Path>, strict: bool) -> Result<SpecFilter, SeccompError> {
    let listener = listener(config)?;
    if strict {
        check_names(config)?;
    }
    let text = serde_json::to_vec(config).map_err(|source| SeccompError::Config { reason: source.to_string() })?;
    let digest = Sha256::new().chain_update(compile::surroundings()).chain_update(text).finalize();
    let key = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let reader = Reader { origin: Origin::Bundle, capabilities: CapabilitySet::EMPTY };
    let program = compile::get(key, cache, || reader.plan(&profile(config)?))?;
    Ok(SpecFilter { program, flags: flags(config, listener.is_some()), listener })
}

/// Returns the agent, where something is asked of one.
fn listener(config: &LinuxSeccomp) -> Result<Option<Listener>, SeccompError> {
    let refused = |reason: &str| Err(SeccompError::Config { reason: reason.to_owned() });
    if config.default_action() == LinuxSeccompAction::ScmpActNotify {
        return refused("SCMP_ACT_NOTIFY cannot be the default action: the agent would be asked before it is there");
    }
    let asked = |call: &&LinuxSyscall| call.action() == LinuxSeccompAction::ScmpActNotify;
    let mut names = config.syscalls().iter().flatten().filter(asked).flat_map(|call| call.names()).peekable();
    if names.peek().is_none() {
        return Ok(None);
    }
    if names.any(|name| name == HANDING_OVER) {
        return refused("SCMP_ACT_NOTIFY cannot be used for `sendmsg`: the container hands its listener over by it");
    }
    match config.listener_path() {
        Some(path) => Ok(Some(Listener { path: path.clone(), metadata: config.listener_metadata().clone() })),
        None => refused("SCMP_ACT_NOTIFY needs a `listenerPath`, the socket of the agent that answers"),
    }
}

/// Refuses a name that libseccomp does not know: what the filter says of it would have no effect.
fn check_names(config: &LinuxSeccomp) -> Result<(), SeccompError> {
    let mut names = config.syscalls().iter().flatten().flat_map(|call| call.names());
    match names.find(|name| ScmpSyscall::from_name(name).is_err()) {
        None => Ok(()),
        Some(name) => Err(SeccompError::Config { reason: format!("no system call `{name}` is known here") }),
    }
}

/// Says the same as a file's profile would.
fn profile(config: &LinuxSeccomp) -> Result<Profile, SeccompError> {
    let errno = |given: Option<u32>| match given.map(u16::try_from) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(SeccompError::Config { reason: format!("{given:?} is no error number") }),
    };
    let syscall = |call: &LinuxSyscall| {
        let arguments = call.args().iter().flatten().map(|arg| Argument {
            index: u32::try_from(arg.index()).unwrap_or(u32::MAX),
            value: arg.value(),
            value_two: arg.value_two().unwrap_or(0),
            op: arg.op().to_string(),
        });
        Ok(Syscall {
            names: call.names().clone(),
            action: call.action().to_string(),
            errno_ret: errno(call.errno_ret())?,
            args: Some(arguments.collect()),
            ..Syscall::default()
        })
    };
    Ok(Profile {
        default_action: config.default_action().to_string(),
        default_errno_ret: errno(config.default_errno_ret())?,
        architectures: config.architectures().as_ref().map(|all| all.iter().map(ToString::to_string).collect()),
        arch_map: None,
        syscalls: Some(config.syscalls().iter().flatten().map(syscall).collect::<Result<_, SeccompError>>()?),
    })
}

/// Returns the flags of seccomp(2).
fn flags(config: &LinuxSeccomp, listens: bool) -> u64 {
    let mut bits = if listens { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // As in runc: who says nothing of flags does not ask for the slow way round speculation.
    let unsaid = [LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow];
    for flag in config.flags().as_deref().unwrap_or(&unsaid) {
        bits |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // The kernel takes it only beside a listener.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listens => WAIT_KILLABLE_RECV,
            // The process that installs the filter has one thread; beside a listener the kernel refuses it.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    bits
}
