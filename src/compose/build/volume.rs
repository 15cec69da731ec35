use std::path::PathBuf;

use super::super::model::{Service, Volume, VolumeMountKind, VolumeSource};
use super::mounts::tmpfs_options;
use super::reader::Reader;

/// Counts the containers that use a volume.
pub(super) fn users<'a>(services: impl Iterator<Item = &'a Service>, volume: &str) -> u32 {
    let uses = |service: &&Service| {
        let mut names = service.volumes.iter().filter_map(|mount| match &mount.kind {
            VolumeMountKind::Volume { name, .. } => name.as_deref(),
            VolumeMountKind::Bind { .. } | VolumeMountKind::Tmpfs { .. } => None,
        });
        names.any(|name| name == volume)
    };
    services.filter(uses).map(|service| service.scale.max(1)).sum()
}

/// Builds one named volume, which so many containers use.
pub(super) fn volume(reader: &mut Reader<'_>, containers: u32) -> Volume {
    let name = reader.string("name").unwrap_or_default();
    if let Some(node) = reader.get("name")
        && let Err(error) = name.parse::<crate::spec::ObjectName>()
    {
        reader.fault(node, "name", error.to_string(), None);
    }
    if let Some(node) = reader.get("driver")
        && let Some(driver) = node.as_str()
        && !matches!(driver, "" | "local")
    {
        reader.fault(node, "driver", format!("unknown volume driver `{driver}`"), Some("there is `local`"));
    }
    let source = source(reader, containers).unwrap_or(VolumeSource::Directory);
    Volume { name, external: reader.flag("external"), source, labels: reader.pairs("labels") }
}

/// Reads `type`, `o` and `device`, as mount(8) has them and Docker's driver `local` passes them on.
fn source(reader: &mut Reader<'_>, containers: u32) -> Option<VolumeSource> {
    let node = reader.get("driver_opts")?;
    let options = reader.pairs("driver_opts");
    for key in options.keys().filter(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
        let message = format!("there is no option `{key}` of a volume");
        reader.fault(node, &format!("driver_opts.{key}"), message, Some("there are type, o and device"));
    }
    let text = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let words: Vec<&str> = text("o").split(',').filter(|word| !word.is_empty()).collect();
    let is_bind = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    match text("type") {
        "tmpfs" => {
            if containers > 1 {
                let message = "a tmpfs that several containers share is not there yet".to_owned();
                reader.fault(node, "driver_opts.type", message, Some("use a directory, or `tmpfs:` of one service"));
            }
            let (kind, read_only) = tmpfs_options(reader, node, "driver_opts.o", text("o"), true);
            Some(VolumeSource::Tmpfs { kind, read_only })
        }
        "" if options.is_empty() => None,
        "" | "none" | "bind" if is_bind => {
            let known = |word: &&&str| matches!(**word, "bind" | "rbind" | "ro" | "rw");
            if let Some(word) = words.iter().find(|word| !known(word)) {
                let message = format!("`{word}` is not an option of a volume that is bound");
                reader.fault(node, "driver_opts.o", message, Some("there are bind, rbind, ro and rw"));
            }
            let device = PathBuf::from(text("device"));
            if !device.is_absolute() {
                let message = "a volume that is bound needs a `device`: the path that it is bound to".to_owned();
                reader.fault(node, "driver_opts.device", message, None);
            }
            Some(VolumeSource::Bind { device, recursive: words.contains(&"rbind"), read_only: words.contains(&"ro") })
        }
        other => {
            let message = match other {
                "" | "none" => "a volume with these options would mount nothing".to_owned(),
                other => format!("volumes of the type `{other}` cannot be mounted yet"),
            };
            let help = "there are `{type: none, o: bind, device: PATH}` and `{type: tmpfs, device: tmpfs}`";
            reader.fault(node, "driver_opts", message, Some(help));
            None
        }
    }
}
