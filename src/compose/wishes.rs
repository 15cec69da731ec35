//! What only the host can grant: how many CPUs it has, whether a path is there. The loader asks no kernel; it says what would have to be asked,
//! and where that stands in the files.

use std::path::PathBuf;

use super::build::group;
use super::diagnostic::{Diagnostic, Finding};
use super::model::{Project, Service, Volume, VolumeMountKind, VolumeSource};
use super::source::Sources;
use super::yaml::Node;
use crate::spec::{CapabilitySet, CpuList};

/// Is one wish of a service.
#[derive(Clone, Debug)]
pub struct HostWish {
    /// The service.
    pub service: String,
    /// What it wants.
    pub kind: HostWishKind,
    /// Where it says so: what is to be told if it cannot be had, but for the words.
    pub place: Diagnostic,
}

/// Is what a service can want of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostWishKind {
    /// This much CPU time, in thousand-millionths of a CPU.
    CpuTime(u64),
    /// These CPUs.
    Cpus(CpuList),
    /// Something to bind.
    Source {
        /// Its absolute path.
        path: PathBuf,
        /// A directory is made where nothing is.
        may_be_made: bool,
    },
    /// A kernel parameter by its dotted name.
    Sysctl(String),
    /// All capabilities.
    AllCapabilities,
}

/// Collects the wishes of all services.
pub(super) fn wishes(tree: &Node, project: &Project, sources: &Sources) -> Vec<HostWish> {
    let mut all = Vec::new();
    for (name, node) in group(tree, "services") {
        let Some(service) = project.services.get(name) else { continue };
        let mut wish = |kind, key: &str, at: &Node| {
            let finding = Finding::error("").at(at.span).path(format!("services.{name}.{key}"));
            all.push(HostWish { service: name.to_owned(), kind, place: finding.resolve(sources) });
        };
        for (kind, key, at) in of_service(service, node) {
            wish(kind, &key, at);
        }
    }
    for (name, node) in group(tree, "volumes") {
        let Some(device) = project.volumes.get(name).and_then(bound) else { continue };
        let at = node.get("driver_opts").and_then(|options| options.get("device")).unwrap_or(node);
        let place = Finding::error("").at(at.span).path(format!("volumes.{name}.driver_opts.device")).resolve(sources);
        let kind = HostWishKind::Source { path: device.clone(), may_be_made: false };
        let users = project.services.values().filter(|service| uses(service, name));
        all.extend(users.map(|user| HostWish { service: user.name.clone(), kind: kind.clone(), place: place.clone() }));
    }
    all
}

fn of_service<'n>(service: &Service, node: &'n Node) -> Vec<(HostWishKind, String, &'n Node)> {
    let mut all = Vec::new();
    let limits = || node.get("deploy")?.get("resources")?.get("limits");
    let filled = |node: &&Node| !node.is_null();
    if let (Some(nano), Some(at)) =
        (service.limits.nano_cpus, node.get("cpus").filter(filled).or_else(|| limits()?.get("cpus")))
    {
        all.push((HostWishKind::CpuTime(nano), "cpus".to_owned(), at));
    }
    if let (Some(list), Some(at)) =
        (service.limits.cpuset.as_ref().and_then(|text| text.parse().ok()), node.get("cpuset"))
    {
        all.push((HostWishKind::Cpus(list), "cpuset".to_owned(), at));
    }
    for (index, mount) in node.get("volumes").and_then(Node::as_seq).unwrap_or_default().iter().enumerate() {
        let source = mount.get("source").filter(|_| mount.get("type").and_then(Node::as_str) == Some("bind"));
        let Some((path, at)) = source.and_then(|source| Some((PathBuf::from(source.as_str()?), source))) else {
            continue;
        };
        let may_be_made = service.volumes.iter().any(|mount| {
            matches!(&mount.kind, VolumeMountKind::Bind { source, create_host_path: true, .. } if *source == path)
        });
        all.push((HostWishKind::Source { path, may_be_made }, format!("volumes[{index}].source"), at));
    }
    let sysctls = node.get("sysctls").and_then(Node::as_map).into_iter().flatten();
    all.extend(
        sysctls
            .filter(|(name, _)| service.sysctls.contains_key(*name))
            .map(|(name, entry)| (HostWishKind::Sysctl(name.clone()), format!("sysctls.{name}"), &entry.node)),
    );
    for (index, at) in node.get("cap_add").and_then(Node::as_seq).unwrap_or_default().iter().enumerate() {
        if at.as_str().is_some_and(CapabilitySet::is_all) {
            all.push((HostWishKind::AllCapabilities, format!("cap_add[{index}]"), at));
        }
    }
    all
}

fn bound(volume: &Volume) -> Option<&PathBuf> {
    match &volume.source {
        VolumeSource::Bind { device, .. } => Some(device),
        VolumeSource::Directory | VolumeSource::Tmpfs { .. } => None,
    }
}

fn uses(service: &Service, volume: &str) -> bool {
    let is_it =
        |kind: &VolumeMountKind| matches!(kind, VolumeMountKind::Volume { name: Some(name), .. } if name == volume);
    service.volumes.iter().any(|mount| is_it(&mount.kind))
}
