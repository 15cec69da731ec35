//! From `mounts` to steps.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::describe::{COPY_UP, SENT, SUBPATH};
use super::plan::{Action, Role};
use super::planner::{Extras, refused};
use super::{CgroupView, ContainerError, from_namespaces, labels};
use crate::namespaces::Namespace;
use crate::namespaces::mount::{BindMount, FilesystemMount, MountAttributes, Propagation};

/// Is what becomes of all mounts.
#[derive(Debug, Default)]
pub(super) struct MountSteps {
    /// Opens what is to be bound.
    pub(super) sources: Vec<Action>,
    /// Mounts.
    pub(super) mounts: Vec<Action>,
    /// Makes read-only what had to be filled first.
    pub(super) late: Vec<Action>,
    /// The id-mapped sources that the parent sends.
    pub(super) descriptors: Vec<Role>,
    /// Whether /dev is the container's own, and not one that is bound from elsewhere.
    pub(super) own_dev: bool,
}

/// Lists the steps of all mounts, in their order.
pub(super) fn mount_steps(spec: &Spec, extras: &Extras<'_>) -> Result<MountSteps, ContainerError> {
    let mut parsed = Vec::new();
    for (at, mount) in spec.mounts().iter().flatten().enumerate() {
        parsed.extend(expand(parse_mount(at, mount, extras)?, extras));
    }
    let linux = spec.linux().clone().unwrap_or_default();
    let devices: Vec<_> = linux.devices().iter().flatten().map(|device| device.path().clone()).collect();
    let mut steps = MountSteps { own_dev: true, ..MountSteps::default() };
    let targets: Vec<PathBuf> = parsed.iter().map(|mount| mount.target().to_owned()).chain(devices).collect();
    let label = spec.linux().as_ref().map_or(Ok(None), labels::mount_label)?;
    let mut number = 0;
    for mount in parsed {
        match mount {
            Parsed::Filesystem(mut mount) => {
                if let Some(label) = &label {
                    let fstype = if mount.fstype == CGROUPS { "tmpfs" } else { &mount.fstype };
                    labels::add_mount_label(fstype, label, &mut mount.options);
                }
                if mount.attributes.is_read_only() && is_filled_later(&mount, &targets) {
                    steps.late.push(if mount.fstype == CGROUPS {
                        Action::ProtectPath(mount.target.clone())
                    } else {
                        Action::ProtectMount(mount.target.clone())
                    });
                    mount.attributes = mount.attributes.writable();
                }
                if mount.fstype == CGROUPS {
                    "tmpfs".clone_into(&mut mount.fstype);
                }
                steps.mounts.push(Action::Mount(mount));
            }
            Parsed::Bind { source, below, recursive, id_map, mut bind } => {
                steps.own_dev &= bind.target != Path::new("/dev");
                bind.source = number;
                steps.sources.push(if id_map {
                    steps.descriptors.push(Role::Source(number));
                    Action::TakeSource { number, recursive }
                } else {
                    Action::OpenSource { number, source, below, recursive }
                });
                number += 1;
                steps.mounts.push(Action::Bind(bind));
            }
        }
    }
    Ok(steps)
}

/// The type that stands for our directory of cgroup hierarchies, until it is put into the plan.
const CGROUPS: &str = "cgroups";

fn is_filled_later(mount: &FilesystemMount, targets: &[PathBuf]) -> bool {
    let within = |target: &PathBuf| target != &mount.target && target.starts_with(&mount.target);
    mount.fstype == CGROUPS
        || mount.fstype == "tmpfs" && (mount.copy_up || mount.target == Path::new("/dev") || targets.iter().any(within))
}

#[derive(Clone)]
enum Parsed {
    Bind { source: PathBuf, below: Option<PathBuf>, recursive: bool, id_map: bool, bind: BindMount },
    Filesystem(FilesystemMount),
}

impl Parsed {
    fn target(&self) -> &Path {
        match self {
            Self::Bind { bind, .. } => &bind.target,
            Self::Filesystem(mount) => &mount.target,
        }
    }
}

/// Is what a list of fstab options says.
#[derive(Default)]
struct Options {
    attributes: MountAttributes,
    propagation: Option<Propagation>,
    bind: bool,
    recursive: bool,
    copy_up: bool,
    id_map: bool,
    below: Option<PathBuf>,
    rest: Vec<(String, Option<String>)>,
}

/// What is for mount(8), or no more than what happens anyway.
const IGNORED: [&str; 14] = [
    "defaults",
    "remount",
    "silent",
    "loud",
    "auto",
    "noauto",
    "user",
    "nouser",
    "nofail",
    "_netdev",
    "iversion",
    "noiversion",
    "move",
    "",
];

/// Splits fstab options into flags of the mount, propagation, and options of the file system.
fn parse_options(mount: &Mount) -> Options {
    let mut parsed = Options { bind: mount.typ().as_deref() == Some("bind"), ..Options::default() };
    for option in mount.options().iter().flatten() {
        if parsed.attributes.take(option) || IGNORED.contains(&option.as_str()) {
            continue;
        }
        match (option.as_str(), option.parse()) {
            (_, Ok(propagation)) => parsed.propagation = Some(propagation),
            ("bind", _) => parsed.bind = true,
            ("rbind", _) => (parsed.bind, parsed.recursive) = (true, true),
            (COPY_UP | "tmpcopyup", _) => parsed.copy_up = true,
            ("idmap" | "ridmap" | SENT, _) => parsed.id_map = true,
            (text, _) if text.starts_with(SUBPATH) => parsed.below = text.strip_prefix(SUBPATH).map(PathBuf::from),
            (text, _) => parsed.rest.push(option_of(text)),
        }
    }
    parsed
}

/// Splits `key=value`.
fn option_of(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn parse_mount(at: usize, mount: &Mount, extras: &Extras<'_>) -> Result<Parsed, ContainerError> {
    let mut options = parse_options(mount);
    let target = clean_target(mount.destination());
    let asks_map = options.id_map || mount.uid_mappings().as_ref().is_some_and(|maps| !maps.is_empty());
    if options.bind {
        let source = mount.source().clone().ok_or_else(|| refused(&format!("mounts[{at}].source"), "it is missing"))?;
        let source = extras.bundle.map_or_else(|| source.clone(), |bundle| bundle.directory.join(&source));
        let propagation = options.propagation.or(extras.bundle.is_none().then_some(Propagation::RecursivePrivate));
        let propagation = propagation.unwrap_or(Propagation::RecursivePrivate);
        let (attributes, copy_up) = (options.attributes, options.copy_up && extras.bundle.is_none());
        // Engines look a bundle's mounts up by their places.
        let in_order = extras.bundle.is_some();
        let bind = BindMount { source: 0, target, attributes, propagation: Some(propagation), copy_up, in_order };
        let Options { below, recursive, .. } = options;
        return Ok(Parsed::Bind { source, below, recursive, id_map: asks_map, bind });
    }
    if asks_map {
        return Err(refused(&format!("mounts[{at}].uidMappings"), "only a bind mount can be id-mapped"));
    }
    let fstype = mount.typ().clone().ok_or_else(|| refused(&format!("mounts[{at}].type"), "it is missing"))?;
    if extras.bundle.is_some() {
        check_kernel_target(at, &target, &fstype)?;
        unquote_labels(&mut options.rest);
    }
    let source = mount.source().as_ref().map_or(fstype.clone(), |path| path.to_string_lossy().into_owned());
    let plain_target = ["/proc", "/sys", "/dev"].iter().any(|own| target.starts_with(own));
    let propagation =
        options.propagation.filter(|kind| !matches!(kind, Propagation::Private | Propagation::RecursivePrivate));
    Ok(Parsed::Filesystem(FilesystemMount {
        copy_up: options.copy_up && fstype == "tmpfs",
        fstype,
        source,
        target,
        options: options.rest,
        attributes: options.attributes,
        plain_target,
        propagation,
    }))
}

/// The quotes around a label are for mount(8).
fn unquote_labels(options: &mut [(String, Option<String>)]) {
    for (_, value) in options.iter_mut().filter(|(key, _)| key.ends_with("context")) {
        *value = value.as_ref().map(|text| text.trim_matches('"').to_owned());
    }
}

/// Nothing but proc may lie on /proc: what writes there believes that the kernel answers.
fn check_kernel_target(at: usize, target: &Path, fstype: &str) -> Result<(), ContainerError> {
    if target == Path::new("/proc") && fstype != "proc" {
        return Err(refused(&format!("mounts[{at}].destination"), "only a mount of type proc may stand on /proc"));
    }
    Ok(())
}

/// Takes dots and superfluous slashes out; what is not absolute starts at the root.
fn clean_target(target: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in target.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Puts the hierarchies that the container has a cgroup in where the description says `cgroup`.
fn expand(parsed: Parsed, extras: &Extras<'_>) -> Vec<Parsed> {
    let Parsed::Filesystem(asked) = parsed else { return vec![parsed] };
    let view = &extras.options.cgroups;
    match (asked.fstype.as_str(), view) {
        ("cgroup" | "cgroup2", CgroupView::Hidden) => Vec::new(),
        ("cgroup" | "cgroup2", CgroupView::Unified) => {
            vec![Parsed::Filesystem(FilesystemMount { fstype: "cgroup2".to_owned(), options: Vec::new(), ..asked })]
        }
        ("cgroup" | "cgroup2", CgroupView::Controllers(names)) => {
            let controller = |name: &String| FilesystemMount {
                fstype: "cgroup".to_owned(),
                target: asked.target.join(name.strip_prefix("name=").unwrap_or(name)),
                options: name.split(',').map(option_of).collect(),
                ..asked.clone()
            };
            let mounts = names.iter().filter(|name| !name.is_empty()).map(|name| Parsed::Filesystem(controller(name)));
            std::iter::once(Parsed::Filesystem(cgroup_directory(&asked))).chain(mounts).collect()
        }
        ("cgroup" | "cgroup2", CgroupView::Directories { seen, .. }) => {
            let bind = |(name, source): &(String, PathBuf)| Parsed::Bind {
                source: source.clone(),
                below: None,
                recursive: false,
                id_map: false,
                bind: BindMount {
                    source: 0,
                    target: if name.is_empty() { asked.target.clone() } else { asked.target.join(name) },
                    attributes: asked.attributes,
                    propagation: Some(Propagation::Private),
                    copy_up: false,
                    in_order: extras.bundle.is_some(),
                },
            };
            let alone = seen.iter().any(|(name, _)| name.is_empty());
            let directory = (!alone).then(|| Parsed::Filesystem(cgroup_directory(&asked)));
            directory.into_iter().chain(seen.iter().map(bind)).collect()
        }
        _ => vec![Parsed::Filesystem(asked)],
    }
}

/// The directory that holds one mount for each hierarchy of version 1.
fn cgroup_directory(asked: &FilesystemMount) -> FilesystemMount {
    FilesystemMount {
        fstype: CGROUPS.to_owned(),
        source: "tmpfs".to_owned(),
        options: vec![("mode".to_owned(), Some("755".to_owned()))],
        ..asked.clone()
    }
}

/// Is an id-mapped source that the parent clones and sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedSource {
    pub(super) path: PathBuf,
    pub(super) recursive: bool,
    pub(super) map_recursive: bool,
    /// The mount's own maps; those of the container's user namespace where `None`.
    pub(super) maps: Option<crate::spec::IdMaps>,
}

/// Lists the id-mapped sources in the order of their roles.
pub(super) fn mapped_sources(spec: &Spec, directory: &Path) -> Result<Vec<MappedSource>, ContainerError> {
    let linux = spec.linux().clone().unwrap_or_default();
    let has_namespace = from_namespaces::own(&linux).contains(Namespace::User);
    let mut sources = Vec::new();
    for (at, mount) in spec.mounts().iter().flatten().enumerate() {
        let options = parse_options(mount);
        let (uid, gid) = (from_namespaces::maps(mount.uid_mappings()), from_namespaces::maps(mount.gid_mappings()));
        let is_mapped = options.id_map || !uid.is_empty();
        if !(options.bind && is_mapped) {
            continue;
        }
        if uid.is_empty() != gid.is_empty() {
            return Err(refused(&format!("mounts[{at}].gidMappings"), "uidMappings and gidMappings come together"));
        }
        if uid.is_empty() && !has_namespace {
            let reason = "`idmap` without uidMappings means those of the container's user namespace, and it has none";
            return Err(refused(&format!("mounts[{at}].options"), reason));
        }
        let has = |name: &str| mount.options().iter().flatten().any(|option| option == name);
        sources.push(MappedSource {
            path: directory.join(mount.source().clone().unwrap_or_default()),
            recursive: options.recursive,
            map_recursive: has("ridmap"),
            maps: (!uid.is_empty()).then_some(crate::spec::IdMaps { uid, gid }),
        });
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_start_at_the_root() {
        for (asked, clean) in [("/a/b", "/a/b"), ("a//b/", "/a/b"), ("/a/../../b", "/b"), ("./.", "/"), ("/", "/")] {
            assert_eq!(clean_target(Path::new(asked)), Path::new(clean), "{asked}");
        }
    }
}
