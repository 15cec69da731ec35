//! The host's devices that a container is to have: looked up when it starts, for they come and go.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::LaunchError;
use crate::container::HostDevice;
use crate::namespaces::mount::{Device, DeviceKind};
use crate::spec::{self, ContainerRequest, DeviceAccess, DeviceRequest, DeviceRule, KernelFiles};

/// What a container has of its own in /dev, or gets from its terminal.
const OWN: [&str; 6] = ["/dev/console", "/dev/fd", "/dev/mqueue", "/dev/ptmx", "/dev/pts", "/dev/shm"];

/// Is what a container gets of the host's devices.
#[derive(Debug, Default)]
pub(super) struct HostDevices {
    /// The nodes in its /dev.
    pub(super) nodes: Vec<HostDevice>,
    /// What its cgroup lets it use.
    pub(super) rules: Vec<DeviceRule>,
}

impl HostDevices {
    /// Looks up what is asked for: each device, those below each directory, and every one where the request says so.
    ///
    /// # Errors
    /// [`LaunchError::Device`]: it is not there, or it is no device.
    pub(super) fn find(request: &ContainerRequest) -> Result<Self, LaunchError> {
        let mut found = Self::default();
        if request.kernel_files == KernelFiles::Open {
            let dev = Path::new("/dev");
            // Devices of the host come and go while we look.
            let _ = found.walk(dev, dev, DeviceAccess::ALL);
            found.rules = vec![DeviceRule::ALL];
        }
        for asked in &request.devices {
            found.take(asked)?;
        }
        found.rules.extend(&request.device_rules);
        Ok(found)
    }

    fn take(&mut self, asked: &DeviceRequest) -> Result<(), LaunchError> {
        let failed = |reason: String| LaunchError::Device { path: asked.host.clone(), reason };
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => failed("the host has none".to_owned()),
            _ => failed(error.to_string()),
        };
        // A link such as /dev/disk/by-id/… leads to the node.
        let host = fs::canonicalize(&asked.host).map_err(unreadable)?;
        let metadata = fs::metadata(&host).map_err(unreadable)?;
        if !metadata.is_dir() {
            let taken = self.add(&host, &asked.inside, &metadata, asked.access);
            return if taken { Ok(()) } else { Err(failed("it is no device".to_owned())) };
        }
        let before = self.nodes.len();
        self.walk(&host, &asked.inside, asked.access).map_err(unreadable)?;
        if self.nodes.len() == before { Err(failed("there is no device below it".to_owned())) } else { Ok(()) }
    }

    /// Takes every device below a directory; links lead to what stands elsewhere, or here already.
    fn walk(&mut self, host: &Path, inside: &Path, access: DeviceAccess) -> io::Result<()> {
        let mut entries = fs::read_dir(host)?.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        entries.sort();
        for name in entries {
            let (host, inside) = (host.join(&name), inside.join(&name));
            let Ok(metadata) = fs::symlink_metadata(&host) else { continue };
            if OWN.iter().any(|own| inside == Path::new(own)) {
                continue;
            }
            if metadata.is_dir() {
                let _ = self.walk(&host, &inside, access);
            } else {
                self.add(&host, &inside, &metadata, access);
            }
        }
        Ok(())
    }

    /// Takes one; says whether it is a device.
    fn add(&mut self, host: &Path, inside: &Path, metadata: &Metadata, access: DeviceAccess) -> bool {
        let (kind, rule_kind) = match metadata.file_type() {
            kind if kind.is_char_device() => (DeviceKind::Character, spec::DeviceKind::Character),
            kind if kind.is_block_device() => (DeviceKind::Block, spec::DeviceKind::Block),
            _ => return false,
        };
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let path: PathBuf = inside.components().collect();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let node = Device { path, kind, major, minor, mode: metadata.mode() & 0o7777, uid, gid };
        // The last one said counts, as with the other options.
        self.nodes.retain(|had| had.node.path != node.path);
        self.nodes.push(HostDevice { source: host.to_owned(), node });
        self.rules.push(DeviceRule { kind: rule_kind, major: Some(major), minor: Some(minor), access });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<HostDevices, String> {
        let mut found = HostDevices::default();
        found.take(&text.parse().unwrap()).map(|()| found).map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_is_found_by_its_number() {
        let found = take("/dev/null:/dev/nothing:r").unwrap();
        let node = &found.nodes[0].node;
        assert_eq!((node.path.as_path(), node.major, node.minor), (Path::new("/dev/nothing"), 1, 3));
        assert_eq!((found.rules[0].major, found.rules[0].access.to_string()), (Some(1), "r".to_owned()));
    }

    #[test]
    fn what_is_no_device_is_told() {
        assert!(take("/dev/nosuch").unwrap_err().contains("/dev/nosuch: the host has none"));
        assert!(take("/etc/passwd").unwrap_err().contains("it is no device"));
        let empty = tempfile::tempdir().unwrap();
        assert!(take(empty.path().to_str().unwrap()).unwrap_err().contains("there is no device below it"));
    }

    #[test]
    fn a_directory_brings_all_below_it() {
        let found = take("/dev:/x").unwrap();
        assert!(found.nodes.iter().any(|device| device.node.path == Path::new("/x/zero")));
        assert_eq!(found.nodes.len(), found.rules.len());
    }
}
