#![doc = include_str!("README.md")]

mod list;
mod program;
mod rule;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::files::read;
use super::plan::PlannedWrite;
use super::{Cgroup, CgroupError};
use crate::spec;
use crate::sys::bpf;
use list::DeviceList;
use rule::DeviceRule;

/// Names our programs among those that are attached to a cgroup.
const NAME: &str = "mydocker_device";

impl Cgroup {
    /// Gives a new cgroup of our own containers the default device rules and those of `allowed`; what comes of a refusal is returned, a sentence.
    ///
    /// A program for v2 costs three system calls, and a quarter of a millisecond that the kernel takes to translate it: time
    /// that the container's process has to do with itself. So this is not done with the cgroup, but before the container's
    /// program runs.
    pub fn confine_devices(&self, allowed: &[spec::DeviceRule]) -> Option<String> {
        let rules: Vec<_> = allowed.iter().map(DeviceRule::from).chain(rule::DEFAULT).collect();
        if rule::allow_everything(&rules) && self.v2.is_some() {
            return None;
        }
        let done = match (&self.v2, self.v1_with("devices")) {
            (Some(v2), _) => attach(v2.descriptor(), &rules, None),
            (None, Some(dir)) => return on_v1(dir, &rules).err().map(|error| error.to_string()),
            (None, None) => return None,
        };
        done.err().map(|error| format!("the container may use every device that it has a node of: bpf: {error}"))
    }
}

/// Sets the rules of a bundle's cgroup that was just made; with none given, the default ones.
///
/// # Errors
/// [`CgroupError::Resource`] with the key, [`CgroupError::Devices`] where the kernel refuses.
pub(super) fn set(cgroup: &Cgroup, resources: &LinuxResources) -> Result<Option<String>, CgroupError> {
    let given = resources.devices().as_deref().unwrap_or_default();
    let rules = rule::from_spec(given)?;
    if let Some(dir) = cgroup.v1_with("devices") {
        return on_v1(dir, &rules).map(|()| None);
    }
    if rule::allow_everything(&rules) {
        return Ok(None);
    }
    let done = match &cgroup.v2 {
        Some(v2) => attach(v2.descriptor(), &rules, None).map_err(|source| devices_error(&v2.dir, source)),
        None => Err(super::resources::refused("devices", "no cgroup hierarchy can deny devices".to_owned())),
    };
    match done {
        // Nobody asked for a denial: the container has more than the default, and works.
        Err(error) if given.iter().all(oci_spec::runtime::LinuxDeviceCgroup::allow) => {
            Ok(Some(format!("the device rules have no effect: {}", super::resources::chain(&error))))
        }
        done => done.map(|()| None),
    }
}

/// Sets other rules, where any are given. The cgroup has either the old ones or the new ones in between.
///
/// # Errors
/// As [`set`].
pub(super) fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), CgroupError> {
    let Some(given) = resources.devices().as_ref().filter(|given| !given.is_empty()) else { return Ok(()) };
    let rules = rule::from_spec(given)?;
    if let Some(dir) = cgroup.v1_with("devices") {
        return on_v1(dir, &rules);
    }
    let Some(v2) = &cgroup.v2 else {
        return Err(super::resources::refused("devices", "no cgroup hierarchy can deny devices".to_owned()));
    };
    replace(v2.descriptor(), &rules).map_err(|source| devices_error(&v2.dir, source))
}

/// Says whose rules a cgroup is to have.
#[derive(Clone, Copy)]
pub(super) enum Devices<'a> {
    /// The default ones and these ([`Cgroup::confine_devices`]).
    Ours(&'a [spec::DeviceRule]),
    /// Those of a bundle ([`set`]).
    Bundle(&'a LinuxResources),
}

/// Lists what is done about devices: lines for the files of v1 in `v1`, or a program for v2.
///
/// # Errors
/// As [`set`].
pub(super) fn planned(
    v1: Option<&Path>,
    v2: Option<&Path>,
    devices: Devices<'_>,
) -> Result<(Vec<PlannedWrite>, bool), CgroupError> {
    let (rules, ours) = match devices {
        Devices::Bundle(resources) => (rule::from_spec(resources.devices().as_deref().unwrap_or_default())?, false),
        Devices::Ours(allowed) => (allowed.iter().map(DeviceRule::from).chain(rule::DEFAULT).collect::<Vec<_>>(), true),
    };
    // Our own containers have v2's program wherever there is v2.
    let Some(dir) = v1.filter(|_| !ours || v2.is_none()) else {
        return Ok((Vec::new(), v2.is_some() && !rule::allow_everything(&rules)));
    };
    // A new cgroup has the list of the one above it.
    let above = dir.ancestors().find_map(|dir| read(&dir.join("devices.list")).ok()).unwrap_or_default();
    let lines = DeviceList::from_rules(&rules)?.writes_from(&DeviceList::parse(&above));
    let write = |(allowed, value)| PlannedWrite {
        file: dir.join(if allowed { "devices.allow" } else { "devices.deny" }),
        value,
        certain: true,
    };
    Ok((lines.into_iter().map(write).collect(), false))
}

fn devices_error(dir: &Path, source: io::Error) -> CgroupError {
    let source = Box::new(CgroupError::Devices { path: dir.to_owned(), source });
    CgroupError::Resource { key: "devices".to_owned(), source }
}

/// Puts the program of these rules where ours is, or where none is.
fn replace(cgroup: BorrowedFd<'_>, rules: &[DeviceRule]) -> io::Result<()> {
    let old = bpf::attached(cgroup, NAME)?;
    let mut old = old.iter().map(AsFd::as_fd);
    if !rule::allow_everything(rules) {
        attach(cgroup, rules, old.next())?;
    }
    // Every program is asked: none of ours may be left over.
    old.try_for_each(|program| bpf::detach(cgroup, program))
}

fn attach(cgroup: BorrowedFd<'_>, rules: &[DeviceRule], instead: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let program = bpf::load_device_program(&program::assemble(rules), NAME)?;
    bpf::attach(cgroup, program.as_fd(), instead)
}

/// Writes what leads from the rules that a v1 cgroup has to these.
fn on_v1(dir: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let wanted = DeviceList::from_rules(rules)?;
    let now = DeviceList::parse(&read(&dir.join("devices.list"))?);
    let (mut allow, mut deny) = (None, None);
    for (allowed, line) in wanted.writes_from(&now) {
        let (file, name) = if allowed { (&mut allow, "devices.allow") } else { (&mut deny, "devices.deny") };
        let path = dir.join(name);
        let written = match file {
            Some(file) => Write::write_all(file, line.as_bytes()),
            None => OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|opened| file.insert(opened).write_all(line.as_bytes())),
        };
        match written {
            // The cgroup above denies some: no more than that can be had here.
            Err(error) if line == "a" && allowed && error.raw_os_error() == Some(libc::EPERM) => return Ok(()),
            Err(source) => {
                let source = Box::new(CgroupError::Write { path, value: line, source });
                return Err(CgroupError::Resource { key: "devices".to_owned(), source });
            }
            Ok(()) => {}
        }
    }
    Ok(())
}
