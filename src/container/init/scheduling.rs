//! The steps that say when and where the process runs.

use std::ffi::CString;

use super::failure::StepError;
use crate::container::plan::Action;
use crate::sys::scheduling;

/// Carries a step out if it is one of these.
pub(super) fn apply(action: &Action) -> Result<bool, StepError> {
    match action {
        Action::SetPersonality(persona) => scheduling::set_personality(*persona)?,
        Action::SetScheduler(attributes) => scheduling::set_scheduler(attributes).map_err(|error| {
            let is_real_time = matches!(attributes.policy.cast_signed(), libc::SCHED_FIFO | libc::SCHED_RR);
            StepError::io(&error).with_hint(match error.raw_os_error() {
                Some(libc::EPERM) if is_real_time => {
                    "process.scheduler: this needs CAP_SYS_NICE and, where version 1's cpu cgroups deal out real-time time, \
                     linux.resources.cpu.realtimeRuntime"
                }
                _ => "process.scheduler: the parameters have to fit the policy, and a better one than ours needs CAP_SYS_NICE",
            })
        })?,
        Action::SetAffinity(processors) => scheduling::set_affinity(processors).map_err(|error| {
            StepError::io(&error).with_hint("process.execCPUAffinity: one of the processors has to be there")
        })?,
        Action::SetIoPriority { class, priority } => scheduling::set_io_priority(*class, *priority)?,
        Action::SetMemoryPolicy { mode, nodes } => {
            scheduling::set_memory_policy(*mode, nodes).map_err(|error| {
                StepError::io(&error).with_hint("linux.memoryPolicy: the nodes have to fit the mode, and to be there")
            })?;
        }
        Action::JoinKeyring(name) => join_keyring(name)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A kernel without keys has none to hide.
fn join_keyring(name: &str) -> Result<(), StepError> {
    let name = CString::new(name).map_err(|_| StepError::unexpected("a zero byte in the keyring's name"))?;
    match scheduling::join_session_keyring(&name) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        result => Ok(result?),
    }
}
