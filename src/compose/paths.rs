//! Makes the paths of one file absolute, before it meets files from other directories.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::yaml::{Node, Value};

/// Resolves paths against one directory.
pub(super) struct Paths<'a> {
    /// The directory, absolute.
    pub(super) dir: &'a Path,
    /// For `HOME`.
    pub(super) environment: &'a BTreeMap<String, String>,
}

impl Paths<'_> {
    /// Makes a path absolute: `~` is the caller's home, `.` and `..` go as text, as in Compose.
    pub(super) fn absolute(&self, text: &str) -> PathBuf {
        if let Some(rest) = text.strip_prefix('~')
            && (rest.is_empty() || rest.starts_with('/'))
            && let Some(home) = self.environment.get("HOME").filter(|home| !home.is_empty())
        {
            return cleaned(&Path::new(home).join(rest.trim_start_matches('/')));
        }
        if text.starts_with('/') {
            return PathBuf::from(text);
        }
        cleaned(&self.dir.join(text))
    }

    /// Resolves every path of a whole file.
    pub(super) fn resolve_file(&self, root: &mut Node) {
        for service in values_of(root, "services") {
            self.resolve_service(service);
        }
        for group in ["configs", "secrets"] {
            for object in values_of(root, group) {
                self.text(object.as_map_mut().and_then(|map| map.get_mut("file")).map(|entry| &mut entry.node));
            }
        }
        for volume in values_of(root, "volumes") {
            self.resolve_volume(volume);
        }
    }

    fn resolve_volume(&self, volume: &mut Node) {
        let Some(options) = volume.get("driver_opts") else { return };
        let is_bind = options
            .get("o")
            .and_then(Node::as_str)
            .is_some_and(|o| o.split(',').any(|part| matches!(part, "bind" | "rbind")));
        if is_bind {
            let options = volume.as_map_mut().and_then(|map| map.get_mut("driver_opts"));
            let device = options.and_then(|entry| entry.node.as_map_mut()).and_then(|map| map.get_mut("device"));
            self.text(device.map(|entry| &mut entry.node));
        }
    }

    /// Resolves the paths of one service.
    pub(super) fn resolve_service(&self, service: &mut Node) {
        let Some(map) = service.as_map_mut() else { return };
        for (key, entry) in map.iter_mut() {
            let node = &mut entry.node;
            match key.as_str() {
                "image" => self.image(node),
                "env_file" => self.each(node, |paths, item| paths.field(item, "path")),
                "label_file" => self.each(node, |paths, item| paths.text(Some(item))),
                "extends" => self.field(node, "file"),
                "volumes" => self.each(node, Self::mount),
                "build" => self.build(node),
                "develop" => {
                    if let Some(watch) = node.as_map_mut().and_then(|map| map.get_mut("watch")) {
                        self.each(&mut watch.node, |paths, item| paths.field(item, "path"));
                    }
                }
                _ => {}
            }
        }
    }

    fn mount(&self, mount: &mut Node) {
        let is_bind = mount.get("type").and_then(Node::as_str) == Some("bind");
        let foreign =
            mount.get("source").and_then(Node::as_str).is_some_and(|text| text.contains('\\') || is_drive(text));
        if is_bind && !foreign {
            self.field(mount, "source");
        }
    }

    fn image(&self, node: &mut Node) {
        if let Some(dir) = node.as_str().and_then(|text| text.strip_prefix("rootfs:"))
            && !dir.is_empty()
        {
            node.value = Value::Str(format!("rootfs:{}", self.absolute(dir).display()));
        }
    }

    fn build(&self, node: &mut Node) {
        let Some(map) = node.as_map_mut() else { return };
        if let Some(context) = map.get_mut("context") {
            self.text(Some(&mut context.node));
        }
        if let Some(contexts) = map.get_mut("additional_contexts").and_then(|entry| entry.node.as_map_mut()) {
            for entry in contexts.values_mut() {
                self.text(Some(&mut entry.node));
            }
        }
    }

    fn each(&self, node: &mut Node, work: impl Fn(&Self, &mut Node)) {
        if let Value::Seq(items) = &mut node.value {
            for item in items {
                work(self, item);
            }
        }
    }

    fn field(&self, node: &mut Node, key: &str) {
        self.text(node.as_map_mut().and_then(|map| map.get_mut(key)).map(|entry| &mut entry.node));
    }

    fn text(&self, node: Option<&mut Node>) {
        if let Some(node) = node
            && let Value::Str(text) = &node.value
            && !text.is_empty()
            && !is_remote(text)
        {
            node.value = Value::Str(self.absolute(text).to_string_lossy().into_owned());
        }
    }
}

/// Build contexts may be elsewhere; `service:x` and `docker-image://x` are names, not paths.
fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/") || text.starts_with("service:")
}

fn is_drive(text: &str) -> bool {
    text.len() > 2 && text.as_bytes()[0].is_ascii_alphabetic() && text[1..].starts_with(":")
}

fn values_of<'n>(root: &'n mut Node, key: &str) -> impl Iterator<Item = &'n mut Node> {
    let map = root.as_map_mut().and_then(|map| map.get_mut(key)).and_then(|entry| entry.node.as_map_mut());
    map.into_iter().flat_map(|map| map.values_mut()).map(|entry| &mut entry.node)
}

/// Takes `.` and `..` out of an absolute path by its text alone.
pub(super) fn cleaned(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute() {
        let environment = [("HOME".to_owned(), "/home/me".to_owned())].into();
        let paths = Paths { dir: Path::new("/p/q"), environment: &environment };
        for (text, wanted) in [
            ("./a", "/p/q/a"),
            ("../a/./b", "/p/a/b"),
            ("~/x", "/home/me/x"),
            ("~", "/home/me"),
            ("/x", "/x"),
            ("~u/x", "/p/q/~u/x"),
        ] {
            assert_eq!(paths.absolute(text), Path::new(wanted), "{text}");
        }
    }
}
