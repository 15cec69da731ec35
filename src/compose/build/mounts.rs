use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::diagnostic::Finding;
use super::super::model::{VolumeMount, VolumeMountKind};
use super::super::yaml::{Node, Value};
use super::reader::Reader;
use crate::spec::ByteSize;

/// Builds the mounts of `volumes`, then those of `tmpfs`.
pub(super) fn mounts(reader: &mut Reader<'_>) -> Vec<VolumeMount> {
    let mut mounts: Vec<VolumeMount> = Vec::new();
    let mut places: BTreeMap<PathBuf, &Node> = BTreeMap::new();
    for (index, node) in reader.items("volumes").iter().enumerate() {
        let path = format!("{}.volumes[{index}]", reader.path);
        let built = volume(&mut Reader { node, path, report: reader.report });
        if let Some(mount) = built {
            places.insert(mount.target.clone(), node);
            mounts.push(mount);
        }
    }
    for (index, node) in reader.items("tmpfs").iter().enumerate() {
        let path = format!("{}.tmpfs[{index}]", reader.path);
        let mut below = Reader { node, path, report: reader.report };
        let Some(mount) = short_tmpfs(&mut below) else { continue };
        if let Some(first) = places.insert(mount.target.clone(), node) {
            let key =
                if reader.items("tmpfs").iter().any(|other| std::ptr::eq(other, first)) { "tmpfs" } else { "volumes" };
            let finding = Finding::error(format!("{} is a mount of `{key}` already", mount.target.display()));
            let path = format!("{}.tmpfs[{index}]", reader.path);
            reader.report.push(finding.at(node.span).path(path).related("first here", first.span));
            continue;
        }
        mounts.push(mount);
    }
    mounts
}

fn volume(reader: &mut Reader<'_>) -> Option<VolumeMount> {
    let target = target(reader, reader.get("target")?)?;
    let read_only = reader.flag("read_only");
    let kind_node = reader.get("type")?;
    for other in ["bind", "volume", "tmpfs", "image"].into_iter().filter(|other| Some(*other) != kind_node.as_str()) {
        if let Some(node) = reader.get(other) {
            let message = format!("`{other}` has no meaning for a mount of another type and is left out");
            reader.warn(node, other, message, None);
        }
    }
    let kind = match kind_node.as_str()? {
        "bind" => bind(reader)?,
        "volume" => {
            let below = reader.below("volume");
            VolumeMountKind::Volume {
                nocopy: below.as_ref().is_some_and(|below| below.flag("nocopy")),
                subpath: below.and_then(|below| below.string("subpath")).map(PathBuf::from),
                name: reader.string("source").filter(|name| !name.is_empty()),
            }
        }
        "tmpfs" => {
            let below = reader.below("tmpfs");
            VolumeMountKind::Tmpfs {
                size: below.as_ref().and_then(|below| below.int("size")).filter(|n| *n > 0).map(|n| ByteSize(n as u64)),
                mode: below.and_then(|below| below.int("mode")).map(|mode| mode as u32),
                uid: None,
                gid: None,
                exec: false,
            }
        }
        other => {
            let help = "there are bind, volume and tmpfs";
            reader.fault(kind_node, "type", format!("volumes of the type `{other}` are not supported"), Some(help));
            return None;
        }
    };
    if let VolumeMountKind::Volume { subpath: Some(subpath), .. } = &kind
        && (subpath.is_absolute() || has_parent(subpath))
    {
        reader.fault(
            reader.node,
            "volume.subpath",
            format!("the subpath {} leaves the volume", subpath.display()),
            None,
        );
    }
    Some(VolumeMount { target, read_only, kind })
}

fn bind(reader: &mut Reader<'_>) -> Option<VolumeMountKind> {
    let source = reader.string("source").filter(|source| !source.is_empty());
    let source = source?;
    if !source.starts_with('/') {
        let node = reader.get("source")?;
        reader.fault(node, "source", format!("`{source}` is not a path of this system"), None);
        return None;
    }
    let below = reader.below("bind");
    let below = below.as_ref();
    let word = below.and_then(|below| below.text("recursive"));
    let recursive = word.is_none_or(|word| word != "disabled");
    let kind = VolumeMountKind::Bind {
        source: PathBuf::from(source),
        propagation: below.and_then(|below| below.string("propagation")),
        create_host_path: below
            .and_then(|below| below.get("create_host_path"))
            .is_none_or(|node| node.value != Value::Bool(false)),
        recursive,
    };
    if word == Some("writable") && reader.flag("read_only") {
        let message = "mounts below this one are read-only, too: `recursive: writable` is left out".to_owned();
        reader.warn(reader.node, "bind.recursive", message, None);
    }
    Some(kind)
}

fn has_parent(path: &Path) -> bool {
    path.components().any(|part| part == std::path::Component::ParentDir)
}

/// A target is absolute, has no `..`, and is neither `/` nor in `/proc`, which must be the kernel's own view of the container.
fn target(reader: &mut Reader<'_>, node: &Node) -> Option<PathBuf> {
    let text = node.as_str()?;
    let path = super::super::paths::cleaned(Path::new(text));
    let reason = if !text.starts_with('/') {
        "must be absolute"
    } else if has_parent(Path::new(text)) {
        "must not have `..` in it"
    } else if text.contains('\0') {
        "has a NUL in it"
    } else if path == Path::new("/") {
        "must not be `/`: that is the image's place"
    } else if path.starts_with("/proc") {
        "must not lie in /proc: programs trust what they find there"
    } else if path == Path::new("/sys") || path == Path::new("/dev") {
        "is the container's own: only what lies below it can be mounted"
    } else {
        return Some(path);
    };
    let drive = text.get(1..3) == Some(":/");
    let help = "as in Compose a single letter before `:` is a drive: give the volume a longer name";
    reader.fault(node, "target", format!("the mount target `{text}` {reason}"), drive.then_some(help));
    None
}

/// `/run:size=64m,mode=1777,uid=1,gid=1,exec`.
fn short_tmpfs(reader: &mut Reader<'_>) -> Option<VolumeMount> {
    let node = reader.node;
    let text = node.as_str()?;
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let target = target(reader, &node.text_here(path))?;
    let (kind, read_only) = tmpfs_options(reader, node, "", options, false);
    Some(VolumeMount { target, read_only, kind })
}

/// Reads the options of a tmpfs, of the key `key` at `node`: its kind, and whether it is read-only. `exec` says whether
/// programs may be executed from it unless the options do.
pub(super) fn tmpfs_options(
    reader: &mut Reader<'_>,
    node: &Node,
    key: &str,
    options: &str,
    mut exec: bool,
) -> (VolumeMountKind, bool) {
    let (mut size, mut mode, mut uid, mut gid, mut read_only) = (None, None, None, None, false);
    let path = key;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let sound = match key {
            "size" => value.parse().map(|value| size = Some(value)).is_ok(),
            "mode" => {
                u32::from_str_radix(value, 8).map(|value| mode = Some(value)).is_ok_and(|()| mode <= Some(0o7777))
            }
            "uid" => value.parse().map(|value| uid = Some(value)).is_ok(),
            "gid" => value.parse().map(|value| gid = Some(value)).is_ok(),
            "exec" => std::mem::replace(&mut exec, true) || exec,
            "noexec" => !std::mem::replace(&mut exec, false) || !exec,
            "ro" => std::mem::replace(&mut read_only, true) || read_only,
            "rw" | "nosuid" | "nodev" | "suid" | "dev" | "noatime" | "relatime" => value.is_empty(),
            _ => false,
        };
        if !sound {
            let help = "known are size=64m, mode=1777, uid=N, gid=N, exec, noexec and ro";
            reader.fault(node, path, format!("`{option}` is not an option of a tmpfs"), Some(help));
        }
    }
    (VolumeMountKind::Tmpfs { size, mode, uid, gid, exec }, read_only)
}
