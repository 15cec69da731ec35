#![doc = include_str!("README.md")]

mod ending;
mod host;
mod measured;
mod service;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;
use serde::Serialize;

pub use self::measured::{MeasuredProcess, MeasuredRun, MeasuredStep, Outcome};
pub use self::service::explain_job;
use super::devices::HostDevices;
use super::{ContainerFiles, LaunchError, NetworkWish};
use crate::capabilities::intersect_host;
use crate::container::explain::{Explanation, Launch, explain};
use crate::container::{Confinement, Prepared};
use crate::namespaces::cgroup::CgroupPlan;
use crate::seccomp;
use crate::spec::{CapabilitySet, ContainerRequest, DeviceRule};

/// Is the launch of a container in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaunchExplanation {
    /// The version of this form; it changes when a field changes its meaning or goes.
    pub version: u32,
    /// The container's id. It is another each time.
    pub container: String,
    /// The steps in their order. Those of different processes may be made at the same time.
    pub steps: Vec<Step>,
    /// What the host lacks, or is not as it will be.
    pub warnings: Vec<String>,
    /// What was measured, where it was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<MeasuredRun>,
}

/// Is one step, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Counts from 1.
    pub number: usize,
    /// What it is.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What was measured of it, where the launch was carried out.
    #[serde(flatten)]
    pub measured: Option<MeasuredStep>,
}

/// Is what a launch is explained from: what it is carried out from.
pub(super) struct Subject<'a> {
    pub(super) prepared: &'a Prepared,
    /// The file that is locked while a run in the foreground lives: before it is locked, and then.
    pub(super) claim: Option<(PathBuf, PathBuf)>,
    /// The parent executes itself anew before.
    pub(super) seals: bool,
    /// The directory of a bundle's container in the runtime's.
    pub(super) state: Option<&'a Path>,
    /// Directories that its mounts need, made where they are missing.
    pub(super) sources: &'a [PathBuf],
    /// The directory of an overlay's layers; `spares` says that one that was used before may serve.
    pub(super) files: Option<(&'a ContainerFiles, bool)>,
    pub(super) cgroup: Option<&'a CgroupPlan>,
    pub(super) networks: &'a [NetworkWish],
    /// The hooks of a bundle that the parent runs before the program, when it runs, and after the end.
    pub(super) hooks: &'a [Hook],
    pub(super) hooks_after_start: &'a [Hook],
    pub(super) hooks_after_end: &'a [Hook],
    /// Whoever launches it waits for its end, and clears up.
    pub(super) ends: bool,
    /// Its cgroup is told to end whoever is left.
    pub(super) kills: bool,
    /// The plan travels to the process over the channel.
    pub(super) sent: bool,
}

impl<'a> Subject<'a> {
    /// Begins with the process alone.
    pub(super) fn of(prepared: &'a Prepared) -> Self {
        Self {
            prepared,
            seals: true,
            state: None,
            sources: &[],
            claim: None,
            files: None,
            cgroup: None,
            networks: &[],
            hooks: &[],
            hooks_after_start: &[],
            hooks_after_end: &[],
            ends: false,
            kills: false,
            sent: true,
        }
    }

    pub(super) fn explain(&self, warnings: Vec<String>) -> LaunchExplanation {
        let into_cgroup = self.cgroup.is_some_and(CgroupPlan::has_v2);
        let Launch { clone, set_up, begin, create, created, say_start, start, program } =
            explain(self.prepared, into_cgroup, self.sent);
        let claim = self.claim.as_ref().map(|(new, path)| host::claim(new, path));
        let files = self.files.map(|(files, spares)| host::files(files, spares));
        let sources = host::sources(self.sources);
        let hooks = self.hooks.iter().enumerate().map(|(number, each)| host::hook(each, number));
        // A bundle's are set with its cgroup.
        let (early, late) = match self.cgroup.and_then(host::devices) {
            devices if self.state.is_some() => (devices, None),
            devices => (None, devices),
        };
        let before = self
            .seals
            .then(host::seal)
            .into_iter()
            .chain(sources)
            .chain(self.state.map(host::state))
            .chain(claim)
            .chain(files);
        let cgroup = self.cgroup.map(host::cgroup).unwrap_or_default();
        let made = (self.ends && !self.networks.is_empty()).then(host::make_networks);
        let places = self.networks.iter().enumerate().map(|(number, wish)| host::network(wish, number));
        let networks = made.into_iter().chain(places);
        let net_devices = self.prepared.net_devices.iter().map(host::net_device);
        let parent = before
            .chain(cgroup)
            .chain(early)
            .chain(clone)
            .chain(set_up)
            .chain(net_devices)
            .chain(networks)
            .chain(late)
            .chain(hooks);
        let child = std::iter::once(begin).chain(create).chain([created]);
        let steps = parent.chain(child).chain(say_start).chain(start).chain(program).chain(self.ending());
        let number = |(at, explanation)| Step { number: at + 1, explanation, measured: None };
        let steps = steps.enumerate().map(number).collect();
        LaunchExplanation { version: 1, container: self.prepared.plan.id.clone(), steps, warnings, run: None }
    }
}

/// Says what the process of a container may do, as when it is launched, and which devices its cgroup lets it use. Who is not root is
/// told what root could give.
pub(super) fn confinement(
    request: &ContainerRequest,
    warnings: &mut Vec<String>,
) -> Result<(Confinement, Vec<DeviceRule>), LaunchError> {
    let wanted = CapabilitySet::resolve(&request.capabilities)?;
    let all = !is_root(warnings) || request.namespaces.user.is_some();
    let capabilities = if all { wanted } else { intersect_host(wanted)?.0 };
    let seccomp = seccomp::compile(&request.seccomp, &capabilities)?.map(|filter| filter.as_bytes().to_vec());
    let HostDevices { nodes, rules } = HostDevices::find(request)?;
    Ok((Confinement { capabilities, seccomp, devices: nodes }, rules))
}

/// Says whether we are root, with a warning where we are not.
pub(super) fn is_root(warnings: &mut Vec<String>) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    warnings.extend((!is_root).then(|| "you are not root: this is what root would carry out".to_owned()));
    is_root
}
