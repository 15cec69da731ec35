//! The mounts of one container: `volumes`, `tmpfs` and `shm_size` of its service.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::compose::model::{Project, Service, VolumeMount, VolumeMountKind, VolumeSource};
use crate::spec::{MountKind, MountRequest};
use crate::store::Directories;

/// The mounts of one container and what they need on the host.
pub(super) struct Mounts {
    pub(super) requests: Vec<MountRequest>,
    pub(super) create_host_paths: Vec<PathBuf>,
    pub(super) volumes: Vec<String>,
}

impl Mounts {
    pub(super) fn of(project: &Project, service: &Service, container: &str, dirs: &Directories) -> Self {
        let mut mounts = Self { requests: Vec::new(), create_host_paths: Vec::new(), volumes: Vec::new() };
        if let Some(size) = service.shm_size {
            mounts.requests.push(MountRequest {
                target: "/dev/shm".into(),
                read_only: false,
                kind: MountKind::Tmpfs { size: Some(size), mode: Some(0o1777), uid: None, gid: None, exec: false },
            });
        }
        for mount in &service.volumes {
            mounts.add(project, mount, container, dirs);
        }
        mounts
    }

    fn add(&mut self, project: &Project, mount: &VolumeMount, container: &str, dirs: &Directories) {
        let mut read_only = mount.read_only;
        let kind = match &mount.kind {
            VolumeMountKind::Bind { source, propagation, create_host_path, recursive } => {
                if *create_host_path {
                    self.create_host_paths.push(source.clone());
                }
                MountKind::Bind { source: source.clone(), propagation: propagation.clone(), recursive: *recursive }
            }
            VolumeMountKind::Volume { name, nocopy, subpath } => {
                let declared = name.as_ref().and_then(|name| project.volumes.get(name));
                let (source, recursive) = match declared.map(|volume| &volume.source) {
                    Some(VolumeSource::Tmpfs { kind, read_only: always }) => {
                        let mount =
                            VolumeMount { kind: kind.clone(), read_only: read_only || *always, ..mount.clone() };
                        return self.add(project, &mount, container, dirs);
                    }
                    Some(VolumeSource::Bind { device, recursive, read_only: always }) => {
                        read_only |= always;
                        (device.clone(), *recursive)
                    }
                    Some(VolumeSource::Directory) | None => {
                        let volume = match (declared, name) {
                            (Some(volume), _) => volume.name.clone(),
                            (None, Some(name)) => name.clone(),
                            (None, None) => anonymous_volume(container, mount),
                        };
                        let data = dirs.volume(&volume);
                        self.volumes.push(volume);
                        (data, true)
                    }
                };
                MountKind::Volume { source, subpath: subpath.clone(), recursive, copy_up: !nocopy }
            }
            VolumeMountKind::Tmpfs { size, mode, uid, gid, exec } => {
                MountKind::Tmpfs { size: *size, mode: *mode, uid: *uid, gid: *gid, exec: *exec }
            }
        };
        self.requests.push(MountRequest { target: mount.target.clone(), read_only, kind });
    }
}

/// A volume without a name belongs to one container and one place in it, and is found again by them.
fn anonymous_volume(container: &str, mount: &VolumeMount) -> String {
    super::desired::hex(&Sha256::digest(format!("{container}\0{}", mount.target.display()).as_bytes()))
}
