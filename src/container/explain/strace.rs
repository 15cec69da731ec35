//! System calls in the notation of strace(1) with `-y`, which names what a descriptor is open on.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;

use crate::spec::CapabilitySet;
use crate::sys::mount::{MountChange, attribute_names};

/// Is a system call as strace(1) writes it. `…` stands for what is known only when the call is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The call with its arguments.
    pub call: String,
    /// When it is made; always where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Cow<'static, str>>,
}

/// Is a list of calls in the making.
#[derive(Debug, Default)]
pub(super) struct Calls(pub(super) Vec<Call>);

impl Calls {
    pub(super) fn one(call: impl Into<String>) -> Self {
        let mut calls = Self::default();
        calls.add(call);
        calls
    }

    pub(super) fn add(&mut self, call: impl Into<String>) {
        self.0.push(Call { call: call.into(), when: None });
    }

    pub(super) fn when(&mut self, when: &'static str, call: impl Into<String>) {
        self.0.push(Call { call: call.into(), when: Some(Cow::Borrowed(when)) });
    }

    /// The same calls, made under a condition: that of each, where it has one.
    pub(super) fn only(mut self, when: &'static str) -> Self {
        for call in &mut self.0 {
            call.when.get_or_insert(Cow::Borrowed(when));
        }
        self
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

impl<const N: usize> From<[&str; N]> for Calls {
    fn from(calls: [&str; N]) -> Self {
        let mut list = Self::default();
        calls.into_iter().for_each(|call| list.add(call));
        list
    }
}

/// A string as strace(1) prints it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            0x0b => out.push_str("\\v"),
            0x0c => out.push_str("\\f"),
            b' '..=b'~' => out.push(char::from(byte)),
            // Three digits where a digit follows, else as few as will do.
            _ if bytes.peek().is_some_and(u8::is_ascii_digit) => out.push_str(&format!("\\{byte:03o}")),
            _ => out.push_str(&format!("\\{byte:o}")),
        }
    }
    out.push('"');
    out
}

/// A list of strings, as in execve(2): the first 32 of them.
pub(super) fn list(texts: &[String]) -> String {
    let shown: Vec<_> = texts.iter().take(32).map(|text| quoted(text)).collect();
    format!("[{}{}]", shown.join(", "), if texts.len() > 32 { ", ..." } else { "" })
}

pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A descriptor that is open on `path`.
pub(super) fn fd(path: &Path) -> String {
    format!("…<{}>", path.display())
}

pub(super) fn open_tree(at: &str, path: &str, recursive: bool) -> String {
    let empty = if path == "\"\"" { "|AT_EMPTY_PATH" } else { "" };
    let depth = if recursive { "|AT_RECURSIVE" } else { "" };
    format!("open_tree({at}, {path}, OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC{empty}{depth})")
}

/// Clones the mount that a descriptor is open on.
pub(super) fn clone_mount(on: &str, recursive: bool) -> String {
    open_tree(on, "\"\"", recursive)
}

/// Attaches a mount over what a descriptor is open on.
pub(super) fn move_mount(target: &str) -> String {
    format!("move_mount(…, \"\", {target}, \"\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)")
}

pub(super) fn mount_setattr(mount: &str, change: &MountChange<'_>) -> String {
    change_mount(mount, change, "0")
}

/// The same with the user namespace that ids are mapped by.
pub(super) fn map_ids(change: &MountChange<'_>) -> String {
    change_mount("…", &MountChange { set: libc::MOUNT_ATTR_IDMAP, ..*change }, "…")
}

fn change_mount(mount: &str, change: &MountChange<'_>, namespace: &str) -> String {
    let depth = if change.recursive { "|AT_RECURSIVE" } else { "" };
    let (set, clear) = (attribute_names(change.set), attribute_names(change.clear));
    let propagation = match change.propagation {
        0 => "0",
        libc::MS_PRIVATE => "MS_PRIVATE",
        libc::MS_SHARED => "MS_SHARED",
        libc::MS_SLAVE => "MS_SLAVE",
        _ => "MS_UNBINDABLE",
    };
    format!(
        "mount_setattr({mount}, \"\", AT_EMPTY_PATH{depth}, {{attr_set={set}, attr_clr={clear}, propagation={propagation}, userns_fd={namespace}}}, 32)"
    )
}

pub(super) fn fsopen(fstype: &str) -> String {
    format!("fsopen({}, FSOPEN_CLOEXEC)", quoted(fstype))
}

pub(super) fn fsconfig(key: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("fsconfig(…, FSCONFIG_SET_STRING, {}, {}, 0)", quoted(key), quoted(value)),
        None => format!("fsconfig(…, FSCONFIG_SET_FLAG, {}, NULL, 0)", quoted(key)),
    }
}

/// Makes the file system that was configured.
pub(super) const CREATE: &str = "fsconfig(…, FSCONFIG_CMD_CREATE, NULL, NULL, 0)";

pub(super) fn fsmount(attributes: u64) -> String {
    format!("fsmount(…, FSMOUNT_CLOEXEC, {})", attribute_names(attributes))
}

/// A write of a whole value.
pub(super) fn write(file: &str, value: &str) -> String {
    format!("write({file}, {}, {})", quoted(value), value.len())
}

/// The members of a set of capabilities.
pub(super) fn capabilities(set: CapabilitySet) -> String {
    let names: Vec<_> = set.names().map(|name| format!("1<<{name}")).collect();
    if names.is_empty() { "0".to_owned() } else { names.join("|") }
}

/// A limit of a resource.
pub(super) fn limit(value: u64) -> String {
    match value {
        u64::MAX => "RLIM64_INFINITY".to_owned(),
        value if value > 1024 && value.is_multiple_of(1024) => format!("{}*1024", value / 1024),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_strace_s() {
        assert_eq!(quoted("a \"b\"\\\n\u{1}2\u{1}x"), r#""a \"b\"\\\n\0012\1x""#);
        assert_eq!(quoted("ä"), r#""\303\244""#);
        assert_eq!(list(&["a".to_owned(), "b c".to_owned()]), r#"["a", "b c"]"#);
    }

    #[test]
    fn numbers_are_strace_s() {
        let told = [u64::MAX, 64, 1024, 2048].map(limit);
        assert_eq!(told, ["RLIM64_INFINITY", "64", "1024", "2*1024"]);
        let change = MountChange { set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV, ..MountChange::default() };
        assert_eq!(
            mount_setattr("…", &change),
            "mount_setattr(…, \"\", AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV, attr_clr=0, propagation=0, userns_fd=0}, 32)"
        );
    }
}
