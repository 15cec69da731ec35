//! What of the host's files a service is given: binds, volumes that are binds, root file systems, secrets.

use std::path::{Path, PathBuf};

use super::super::yaml::Node;
use super::finder::{Finder, Found, is_true};
use super::places;
use super::risk::RiskLevel::{High, Low, Medium};

/// Is a path of the host that a service is given, and where the file says so.
struct Given<'n> {
    node: &'n Node,
    /// The key's path, from the top.
    path: String,
    source: PathBuf,
    read_only: bool,
    kind: &'static str,
}

impl Finder<'_> {
    /// Finds what the service can do with the files that it is given.
    pub(super) fn mounts(&mut self) {
        for (index, mount) in self.items("volumes").iter().enumerate() {
            let read_only = mount.get("read_only").is_some_and(is_true);
            let source = mount.get("source").filter(|node| node.as_str().is_some_and(|text| !text.is_empty()));
            let Some(source) = source else { continue };
            let text = source.as_str().unwrap_or_default();
            match mount.get("type").and_then(Node::as_str) {
                Some("bind") => {
                    let path = format!("services.{}.volumes[{index}]", self.name);
                    let source_path = self.dir.join(text);
                    self.given(Given { node: source, path, source: source_path, read_only, kind: "bind" });
                    self.propagation(mount, index);
                }
                Some("volume") => self.volume(text, read_only),
                _ => {}
            }
        }
        self.root();
        self.files();
    }

    fn given(&mut self, given: Given<'_>) {
        let Given { node, path, source, read_only, kind } = given;
        let resolved = self.host.resolved(&source);
        let Some((level, effect)) = places::judge(&resolved, read_only, self.host) else { return };
        let is_socket = places::is_socket(&resolved, self.host);
        // /var/run is a link on every host, and nobody is surprised that it leads to /run.
        let is_usual = source.strip_prefix("/var/run").is_ok_and(|rest| Path::new("/run").join(rest) == resolved);
        let leads =
            if resolved == source || is_usual { String::new() } else { format!(", a link to {}", resolved.display()) };
        let way = match () {
            () if is_socket => "",
            () if read_only => ", read-only",
            () => ", writable",
        };
        let thing = match (kind, is_socket) {
            (_, true) => "socket",
            ("volume", _) => "volume of",
            _ => "bind of",
        };
        let found = Found {
            level,
            kind: if is_socket { "socket" } else { kind },
            what: format!("{thing} {}{leads}{way}", source.display()),
            effect: effect.into(),
            instead: match (is_socket, read_only) {
                (true, _) => "leave it out; a proxy before the socket can let pass what is needed and nothing else",
                (_, false) => "a named volume, or a directory of the project's; `:ro` where it is only read",
                (_, true) => "the one file or directory that is needed, or a copy of it in the project's directory",
            },
        };
        self.add_elsewhere(node, path, found);
    }

    fn propagation(&mut self, mount: &Node, index: usize) {
        let Some(node) = mount.get("bind").and_then(|bind| bind.get("propagation")) else { return };
        if matches!(node.as_str(), Some("shared" | "rshared")) {
            let found = Found {
                level: Medium,
                kind: "propagation",
                what: format!("propagation {}", node.as_str().unwrap_or_default()),
                effect: "has mounts that it makes below this bind appear on this host".into(),
                instead: "`rslave`, with which the host's mounts appear inside and none outside",
            };
            self.add(node, &format!("volumes[{index}].bind.propagation"), found);
        }
    }

    /// A volume whose options name a path is a bind by another name; one whose options name a device mounts a disk.
    fn volume(&mut self, name: &str, read_only: bool) {
        let Some(options) = self.object("volumes", name).and_then(|volume| volume.get("driver_opts")) else { return };
        let text = |key: &str| options.get(key).and_then(|node| node.value.scalar_text()).unwrap_or_default();
        let words = text("o");
        let has = |wanted: &[&str]| words.split(',').any(|word| wanted.contains(&word));
        let Some(device) = options.get("device").filter(|node| node.as_str().is_some()) else { return };
        let read_only = read_only || has(&["ro"]);
        let path = format!("volumes.{name}.driver_opts.device");
        let (source, kind) = (PathBuf::from(text("device")), text("type"));
        if has(&["bind", "rbind"]) || kind == "bind" {
            let source = self.dir.join(source);
            self.given(Given { node: device, path, source, read_only, kind: "volume" });
        } else if source.starts_with("/dev") && kind != "tmpfs" {
            let found = Found {
                level: High,
                kind: "volume",
                what: format!("volume of the device {}", source.display()),
                effect: "has a file system of this host's disk".into(),
                instead: "a named volume without options",
            };
            self.add_elsewhere(device, path, found);
        }
    }

    /// `image: rootfs:/`: the host's own files as the container's.
    fn root(&mut self) {
        let Some(node) = self.get("image") else { return };
        let Some(dir) = node.as_str().and_then(|text| text.strip_prefix("rootfs:")) else { return };
        let source = self.host.resolved(&self.dir.join(dir));
        if source == Path::new("/") {
            let found = Found {
                level: High,
                kind: "rootfs",
                what: "this host's own root filesystem".into(),
                effect: "reads every file of this host, keys and password hashes too".into(),
                instead: "a root filesystem of its own",
            };
            self.add(node, "image", found);
        }
    }

    fn files(&mut self) {
        for (group, one) in [("secrets", "secret"), ("configs", "config")] {
            for mount in self.items(group) {
                let Some(name) = mount.get("source").and_then(Node::as_str) else { continue };
                let file = self.object(group, name).and_then(|object| object.get("file"));
                let Some(node) = file.filter(|node| node.as_str().is_some()) else { continue };
                let source = self.dir.join(node.as_str().unwrap_or_default());
                let resolved = self.host.resolved(&source);
                let judged = places::judge(&resolved, true, self.host);
                if group == "configs" && judged.is_none() {
                    continue;
                }
                let (level, effect) =
                    judged.unwrap_or((Low, "reads this file of the host, as every process of it can"));
                let found = Found {
                    level,
                    kind: one,
                    what: format!("{one} of {}", source.display()),
                    effect: effect.into(),
                    instead: "a file of the project's that nobody else can read (mode 0400)",
                };
                self.add_elsewhere(node, format!("{group}.{name}.file"), found);
            }
        }
    }
}
