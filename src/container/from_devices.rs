//! From `linux.devices` to steps, with the devices and links that every container has (runtime specification, "Default
//! Devices").

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};

use super::ContainerError;
use super::from_namespaces::maps;
use super::plan::Action;
use super::planner::refused;
use crate::namespaces::mount::{Device, DeviceKind};
use crate::spec::IdMap;

/// Says who makes device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// The container's process.
    Itself,
    /// Its parent, for a container in a user namespace.
    Parent,
    /// Nobody may: the host's are bound.
    Nobody,
}

/// Lists the steps that fill /dev: the six that every program may expect, those of the description, links.
pub(super) fn device_steps(linux: &Linux, maker: Maker) -> Result<Vec<Action>, ContainerError> {
    let asked = linux.devices().iter().flatten().map(device).collect::<Result<Vec<_>, _>>()?;
    let default = default_devices().filter(|device| !asked.iter().any(|other| other.path == device.path));
    let step = |(number, device): (usize, Device)| match maker {
        Maker::Parent if device.kind != DeviceKind::Fifo => {
            let (users, groups) = (maps(linux.uid_mappings()), maps(linux.gid_mappings()));
            let (uid, gid) = (outside(&users, device.uid), outside(&groups, device.gid));
            Action::PlaceDevice { number, device: Device { uid, gid, ..device } }
        }
        Maker::Nobody if device.kind != DeviceKind::Fifo => Action::BindDevice(device),
        _ => Action::MakeDevice(device),
    };
    let mut steps: Vec<_> = default.chain(asked.iter().cloned()).enumerate().map(step).collect();
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    steps.extend(links.map(|(to, path)| Action::Symlink { points_to: to.to_owned(), path: PathBuf::from(path) }));
    Ok(steps)
}

/// Returns what the host calls an id of the container; one that has no map stays what it is, and is nobody's inside.
fn outside(maps: &[IdMap], id: u32) -> u32 {
    let map = maps.iter().find(|map| id.checked_sub(map.inside).is_some_and(|offset| offset < map.count));
    map.map_or(id, |map| map.outside.saturating_add(id - map.inside))
}

/// The six that every program may expect.
fn default_devices() -> impl Iterator<Item = Device> {
    let six = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("random", 1, 8), ("urandom", 1, 9)];
    six.into_iter().map(|(name, major, minor)| Device {
        path: Path::new("/dev").join(name),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

fn device(asked: &LinuxDevice) -> Result<Device, ContainerError> {
    let path: PathBuf = Path::new("/").join(asked.path()).components().collect();
    let key = |field: &str| format!("linux.devices[{}].{field}", asked.path().display());
    let kind = match asked.typ() {
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(refused(&key("type"), "it is `c`, `u`, `b` or `p`")),
    };
    let number = |value: i64, field: &str| {
        if kind == DeviceKind::Fifo {
            Ok(0)
        } else {
            u32::try_from(value).map_err(|_| refused(&key(field), "it is no device number"))
        }
    };
    Ok(Device {
        kind,
        major: number(asked.major(), "major")?,
        minor: number(asked.minor(), "minor")?,
        mode: asked.file_mode().unwrap_or(0o666) & 0o7777,
        uid: asked.uid().unwrap_or(0),
        gid: asked.gid().unwrap_or(0),
        path,
    })
}
