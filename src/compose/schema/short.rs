//! Short forms that are one scalar: volumes, devices, files, dependencies and their like.

use std::path::{Component, Path};

use super::super::yaml::{Entry, Map, Node, Value};
use super::Conform;

/// Makes a mapping all of whose parts stand where a node stands.
pub(super) fn mapping<'k>(at: &Node, fields: impl IntoIterator<Item = (&'k str, Value)>) -> Node {
    let entry = |value| Entry { key: at.span, node: at.here(value) };
    let map: Map = fields.into_iter().map(|(key, value)| (key.to_owned(), entry(value))).collect();
    at.here(Value::Map(map))
}

/// `{KEY: TEXT}` for a string.
fn single(node: &Node, walk: &mut Conform<'_>, key: &'static str) -> Option<Node> {
    match &node.value {
        Value::Str(text) => Some(mapping(node, [(key, Value::Str(text.clone()))])),
        other => {
            walk.fault(node.span, format!("this must be a string or a mapping, not {}", other.kind()), None);
            None
        }
    }
}

/// `build: DIR`.
pub(super) fn build(node: &Node, walk: &mut Conform<'_>) -> Option<Node> {
    single(node, walk, "context")
}

/// `extends: SERVICE`.
pub(super) fn extends(node: &Node, walk: &mut Conform<'_>) -> Option<Node> {
    single(node, walk, "service")
}

/// `secrets: [NAME]`, `configs: [NAME]`.
pub(super) fn file_mount(node: &Node, walk: &mut Conform<'_>) -> Option<Vec<Node>> {
    Some(vec![single(node, walk, "source")?])
}

/// `env_file: FILE`.
pub(super) fn env_file(node: &Node, walk: &mut Conform<'_>) -> Option<Node> {
    single(node, walk, "path")
}

/// `include: FILE`.
pub(super) fn include(node: &Node, walk: &mut Conform<'_>) -> Option<Vec<Node>> {
    let mut node = single(node, walk, "path")?;
    if let Some(entry) = node.as_map_mut().and_then(|map| map.get_mut("path")) {
        let text = std::mem::replace(&mut entry.node.value, Value::Null);
        entry.node.value = Value::Seq(vec![Node::new(text, entry.key)]);
    }
    Some(vec![node])
}

/// `external: true`, also as a string.
pub(super) fn external(node: &Node, walk: &mut Conform<'_>) -> Option<Node> {
    match super::scalars::boolean(&node.value) {
        Some(value) => Some(node.here(Value::Bool(value))),
        None => {
            let message = format!("`external` must be a boolean, not {}", node.value.kind());
            walk.fault(node.span, message, None);
            None
        }
    }
}

/// `gpus: all`.
pub(super) fn gpus(node: &Node, walk: &mut Conform<'_>) -> Option<Node> {
    if node.as_str() == Some("all") {
        return Some(node.here(Value::Seq(vec![mapping(node, [("count", Value::Int(-1))])])));
    }
    walk.fault(node.span, "`gpus` must be `all` or a list".into(), None);
    None
}

/// A device request's `count: all`.
pub(super) fn device_count(node: &Node, walk: &mut Conform<'_>) -> Option<Node> {
    match super::scalars::integer(&node.value) {
        Some(number) => Some(node.here(Value::Int(number))),
        None if node.as_str() == Some("all") => Some(node.here(Value::Int(-1))),
        None => {
            let text = node.value.scalar_text().unwrap_or_default();
            let message = format!("invalid `count` `{text}`: the only values allowed are `all` and numbers");
            walk.fault(node.span, message, None);
            None
        }
    }
}

/// `devices: ["/dev/a:/dev/b:rwm"]`.
pub(super) fn device(node: &Node, walk: &mut Conform<'_>) -> Option<Vec<Node>> {
    let text = node.value.scalar_text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, target] => (source, target, "rwm"),
        [source, target, permissions] => (source, target, permissions),
        _ => {
            walk.fault(node.span, format!("`{text}` is not a device"), Some("write \"/dev/a:/dev/b:rwm\"".into()));
            return None;
        }
    };
    let fields = [("source", source), ("target", target), ("permissions", permissions)];
    Some(vec![mapping(node, fields.map(|(key, value)| (key, Value::Str(value.to_owned()))))])
}

/// A name in the list form of `depends_on`.
pub(super) fn dependency(node: &Node) -> Node {
    mapping(node, [("condition", Value::Str("service_started".into())), ("required", Value::Bool(true))])
}

/// A name in the list form of `networks` and `models`.
pub(super) fn nothing(node: &Node) -> Node {
    node.here(Value::Null)
}

/// A string or a number in `ssh`, `provenance` and their like stays what it is.
const VOLUME_FORM: &str = "write \"NAME:/target\", \"./dir:/target:ro\", \"/target\", or type:, source:, target:";

/// `[SOURCE:]TARGET[:OPTIONS]`.
pub(super) fn volume(node: &Node, walk: &mut Conform<'_>) -> Option<Vec<Node>> {
    let Value::Str(text) = &node.value else {
        walk.fault(node.span, format!("a volume must be a string or a mapping, not {}", node.value.kind()), None);
        return None;
    };
    match split_volume(text) {
        Ok(parts) => Some(vec![parts.into_node(node, walk)]),
        Err(reason) => {
            walk.fault(node.span, format!("`{text}` is not a volume: {reason}"), Some(VOLUME_FORM.into()));
            None
        }
    }
}

/// A single letter, then `:` and a separator: Compose takes it for a drive on every platform.
fn begins_with_drive(text: &str) -> bool {
    let Some((letter, rest)) = text.split_once(':') else { return false };
    letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic() && rest.starts_with(['\\', '/'])
}

struct ShortVolume<'t> {
    source: Option<&'t str>,
    target: &'t str,
    options: Vec<&'t str>,
}

fn split_volume(text: &str) -> Result<ShortVolume<'_>, &'static str> {
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() || parts.is_empty() {
        let drive = begins_with_drive(rest);
        let from = if drive { 2 } else { 0 };
        let end = rest[from..].find(':').map_or(rest.len(), |at| at + from);
        parts.push(&rest[..end]);
        match rest.get(end + 1..) {
            Some("") => return Err("it ends with `:`"),
            Some(tail) => rest = tail,
            None => break,
        }
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err("a part of it is empty");
    }
    match parts[..] {
        [target] => Ok(ShortVolume { source: None, target, options: Vec::new() }),
        [source, target] => Ok(ShortVolume { source: Some(source), target, options: Vec::new() }),
        [source, target, options] => {
            Ok(ShortVolume { source: Some(source), target, options: options.split(',').collect() })
        }
        _ => Err("it has more than three parts"),
    }
}

impl ShortVolume<'_> {
    fn into_node(self, at: &Node, walk: &mut Conform<'_>) -> Node {
        let is_bind = self.source.is_some_and(is_path);
        let text = |text: &str| Value::Str(text.to_owned());
        let mut fields = vec![("type", text(if is_bind { "bind" } else { "volume" }))];
        fields.extend(self.source.map(|source| ("source", text(source))));
        fields.push(("target", Value::Str(clean(self.target))));
        let mut bind = vec![("create_host_path", Value::Bool(true))];
        let mut volume = Vec::new();
        for option in self.options {
            match option {
                "ro" => fields.push(("read_only", Value::Bool(true))),
                "rw" => {}
                "nocopy" => volume.push(("nocopy", Value::Bool(true))),
                "z" | "Z" => bind.push(("selinux", text(option))),
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                    bind.push(("propagation", text(option)));
                }
                // The rest are for other platforms; Compose lets them pass.
                "cached" | "delegated" | "consistent" | "U" => {}
                other => {
                    let message = format!("unknown volume option `{other}` is left out");
                    let finding = super::super::diagnostic::Finding::warning(message).at(at.span).path(&walk.path);
                    walk.report.push(finding.help("known are ro, rw, nocopy, z, Z and the kinds of propagation"));
                }
            }
        }
        let (key, part) = if is_bind { ("bind", bind) } else { ("volume", volume) };
        fields.push((key, mapping(at, part).value));
        mapping(at, fields)
    }
}

/// What begins with `.`, `/`, `~` or a drive letter is a path; else it is a volume's name.
fn is_path(source: &str) -> bool {
    let drive = source.len() > 2 && source.as_bytes()[0].is_ascii_alphabetic() && source[1..].starts_with(":");
    source.starts_with(['.', '/', '~', '\\']) || drive
}

/// Takes `.`, doubled and trailing slashes out of a path; `..` stays for the checks to see.
pub(in super::super) fn clean(path: &str) -> String {
    if path.contains('\\') {
        return path.to_owned();
    }
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    let joined: std::path::PathBuf = parts.collect();
    joined.to_string_lossy().into_owned()
}
