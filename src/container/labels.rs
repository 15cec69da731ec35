//! Labels of the kernel's security modules: AppArmor's profile and SELinux's label of a process, SELinux's label of mounts.

use std::path::Path;

use oci_spec::runtime::{Linux, Process};

use super::ContainerError;
use super::plan::{Action, SecurityLabel};
use super::planner::refused;

/// What is refused where it is missing; a file and what it has to begin with.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
const SELINUX: &str = "/sys/fs/selinux";
/// The file system that SELinux shows itself by (statfs(2), `SELINUX_MAGIC`).
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// File systems whose files have labels of their own; the kernel takes no `context` for them, or what it took would be the host's, too.
const OWN_LABELS: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// Returns the steps that label what the process becomes with execve(2).
///
/// # Errors
/// [`ContainerError::Spec`] where this host has no such module, for a profile other than `unconfined`: without one nobody is confined.
pub(super) fn program_steps(process: &Process) -> Result<Vec<Action>, ContainerError> {
    let mut steps = Vec::new();
    if let Some(label) = given(process.selinux_label()) {
        check_selinux("process.selinuxLabel")?;
        steps.push(Action::SetLabel(SecurityLabel::Selinux(checked("process.selinuxLabel", label)?)));
    }
    let profile = given(process.apparmor_profile());
    if let Some(profile) = profile.filter(|profile| *profile != "unconfined" || has_apparmor()) {
        if !has_apparmor() {
            let reason = format!("this host has no AppArmor ({APPARMOR} does not say `Y`)");
            return Err(refused("process.apparmorProfile", reason));
        }
        let profile = checked("process.apparmorProfile", profile)?;
        steps.push(Action::SetLabel(SecurityLabel::Apparmor(profile)));
    }
    Ok(steps)
}

/// Labels the session keyring that is made next as the program: it could not look into it otherwise.
pub(super) fn key_label(process: &Process) -> Option<String> {
    given(process.selinux_label()).filter(|_| has_selinux()).map(str::to_owned)
}

/// Returns the label that the container's file systems get.
///
/// # Errors
/// [`ContainerError::Spec`] where this host has no SELinux.
pub(super) fn mount_label(linux: &Linux) -> Result<Option<String>, ContainerError> {
    let Some(label) = given(linux.mount_label()) else { return Ok(None) };
    check_selinux("linux.mountLabel")?;
    checked("linux.mountLabel", label).map(Some)
}

/// Adds the label to the options of a file system, unless they have one.
pub(super) fn add_mount_label(fstype: &str, label: &str, options: &mut Vec<(String, Option<String>)>) {
    let has_one = options.iter().any(|(key, _)| key.ends_with("context"));
    if !OWN_LABELS.contains(&fstype) && !has_one {
        options.push(("context".to_owned(), Some(label.to_owned())));
    }
}

/// An exec has the container's labels where it asks for no others.
pub(super) fn inherit(process: &mut Process, container: Option<&Process>) {
    let Some(container) = container else { return };
    if given(process.apparmor_profile()).is_none() {
        process.set_apparmor_profile(container.apparmor_profile().clone());
    }
    if given(process.selinux_label()).is_none() {
        process.set_selinux_label(container.selinux_label().clone());
    }
}

fn given(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

fn checked(key: &str, label: &str) -> Result<String, ContainerError> {
    if label.contains(['\0', '\n']) { Err(refused(key, "it is no label")) } else { Ok(label.to_owned()) }
}

fn check_selinux(key: &str) -> Result<(), ContainerError> {
    if has_selinux() {
        Ok(())
    } else {
        Err(refused(key, format!("this host has no SELinux (nothing is mounted on {SELINUX})")))
    }
}

fn has_apparmor() -> bool {
    std::fs::read(APPARMOR).is_ok_and(|text| text.starts_with(b"Y"))
}

fn has_selinux() -> bool {
    rustix::fs::statfs(Path::new(SELINUX)).is_ok_and(|found| found.f_type == SELINUX_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_get_a_label_once() {
        let options = |fstype, given: &[(&str, &str)]| {
            let mut options: Vec<_> =
                given.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect();
            add_mount_label(fstype, "a:b:c:s0", &mut options);
            options.into_iter().map(|(key, value)| format!("{key}={}", value.unwrap_or_default())).collect::<Vec<_>>()
        };
        assert_eq!(options("tmpfs", &[("size", "4k")]), ["size=4k", "context=a:b:c:s0"]);
        assert_eq!(options("tmpfs", &[("rootcontext", "x")]), ["rootcontext=x"]);
        assert!(OWN_LABELS.iter().all(|fstype| options(fstype, &[]).is_empty()));
    }

    #[test]
    fn an_exec_has_the_labels_of_its_container() {
        let process = |profile: &str| {
            let mut process = Process::default();
            process.set_apparmor_profile(Some(profile.to_owned()));
            process
        };
        let (mut own, mut none, container) = (process("own"), process(""), process("container"));
        inherit(&mut own, Some(&container));
        inherit(&mut none, Some(&container));
        assert_eq!(
            (own.apparmor_profile().as_deref(), none.apparmor_profile().as_deref()),
            (Some("own"), Some("container"))
        );
    }
}
