//! What is kept of a container between two commands, and what others are told of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{HostMounts, OciId, ResctrlRecord, Status};
use crate::namespaces::NamespaceSet;
use crate::namespaces::cgroup::CgroupRecord;
use crate::store::{ProcessIdentity, Record};

/// Is a container as the commands know it: `state.json` in its directory.
///
/// Only what cannot be asked of the kernel stands here. Whether it runs, waits or is frozen is looked up each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: OciId,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// The absolute path of its root directory.
    pub rootfs: PathBuf,
    /// The version of the specification that its configuration was written for.
    pub oci_version: String,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// What its configuration notes for others.
    pub annotations: BTreeMap<String, String>,
    /// The user that created it.
    pub owner: u32,
    /// Its cgroup; `None` where cgroups are left alone.
    pub cgroup: Option<CgroupRecord>,
    /// The namespaces in which it differs from its creator.
    pub namespaces: NamespaceSet,
    /// Its mounts, where they are the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mounts: Option<HostMounts>,
    /// Its class of service for caches and memory bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<ResctrlRecord>,
    /// Who creates it.
    pub creator: ProcessIdentity,
    /// Its first process, once there is one.
    pub init: Option<ProcessIdentity>,
    /// Says that `create` has done all of its work.
    pub is_created: bool,
}

impl Record for ContainerRecord {
    const VERSION: u32 = 1;
}

/// Is what `state` prints and hooks read: the state of the OCI's runtime specification and a few fields that engines expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: OciId,
    /// How far it is.
    pub status: Status,
    /// Its first process as the host sees it; 0 where there is none.
    pub pid: i32,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root directory.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    /// Notes of its configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The user that created it, by name where it has one.
    pub owner: String,
}

impl ContainerRecord {
    /// Makes the report for a status.
    pub fn report(&self, status: Status) -> StateReport {
        let pid = self.init.as_ref().filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        StateReport {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: if self.owner == 0 { "root".to_owned() } else { self.owner.to_string() },
        }
    }
}
