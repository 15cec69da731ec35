use std::collections::BTreeMap;
use std::path::Path;

use super::super::model::NetworkMode;
use super::super::yaml::Node;
use super::reader::Reader;
use crate::spec::{CapabilitySet, KernelFiles, NamespaceRequest, NamespaceSource, SeccompRequest};

/// Builds `cap_add` or `cap_drop`.
pub(super) fn capabilities(reader: &mut Reader<'_>, key: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (index, node) in reader.items(key).iter().enumerate() {
        let Some(text) = node.as_str() else { continue };
        match CapabilitySet::canonical_name(text) {
            Some(name) => out.push(name),
            None => {
                let nearest = CapabilitySet::nearest_name(text).map(|name| format!("did you mean `{name}`?"));
                let help = nearest.unwrap_or_else(|| "see capabilities(7) for their names".to_owned());
                reader.fault(node, &format!("{key}[{index}]"), format!("unknown capability `{text}`"), Some(&help));
            }
        }
    }
    out
}

/// Is what `security_opt` and `privileged` say.
pub(super) struct Security {
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: SeccompRequest,
    pub(super) kernel_files: KernelFiles,
}

/// Builds `security_opt` and `privileged`; a filter that is named holds for a privileged container, too.
pub(super) fn security(reader: &mut Reader<'_>, dir: &Path) -> Security {
    let privileged = reader.flag("privileged");
    let (mut no_new_privileges, mut unmasked) = (false, false);
    let mut seccomp = if privileged { SeccompRequest::Unconfined } else { SeccompRequest::Default };
    for (index, node) in reader.items("security_opt").iter().enumerate() {
        let Some(text) = node.as_str() else { continue };
        let (key, value) = text.split_once(['=', ':']).map_or((text, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => no_new_privileges = true,
            ("no-new-privileges", Some("false")) => no_new_privileges = false,
            ("seccomp", Some(profile)) if !profile.is_empty() => {
                seccomp = match profile {
                    "default" | "builtin" => SeccompRequest::Default,
                    "ancestor" => SeccompRequest::Ancestor,
                    "unconfined" => SeccompRequest::Unconfined,
                    file => SeccompRequest::File(super::super::paths::cleaned(&dir.join(file))),
                }
            }
            // No such security module is used here, so there is nothing to switch off.
            ("systempaths", Some("unconfined")) => unmasked = true,
            ("apparmor", Some("unconfined")) | ("label", Some("disable")) => {}
            _ => {
                let help = "known are no-new-privileges:true, seccomp=default|ancestor|unconfined|FILE, systempaths=unconfined and apparmor=unconfined";
                let message = format!("`{text}` is a security option that is not supported");
                reader.fault(node, &format!("security_opt[{index}]"), message, Some(help));
            }
        }
    }
    let kernel_files = match (privileged, unmasked) {
        (true, _) => KernelFiles::Open,
        (false, true) => KernelFiles::Unmasked,
        (false, false) => KernelFiles::Protected,
    };
    Security { no_new_privileges, seccomp, kernel_files }
}

/// Builds `pid`, `ipc`, `uts` and `cgroup`; whatever else they could say is refused before.
pub(super) fn namespaces(reader: &Reader<'_>) -> NamespaceRequest {
    let source = |key| if reader.text(key) == Some("host") { NamespaceSource::Host } else { NamespaceSource::Private };
    NamespaceRequest {
        pid: source("pid"),
        ipc: source("ipc"),
        uts: source("uts"),
        cgroup: reader.text("cgroup") != Some("host"),
        ..NamespaceRequest::private()
    }
}

/// Builds `sysctls`: only those that belong to a namespace of the container's own.
pub(super) fn sysctls(
    reader: &mut Reader<'_>,
    mode: Option<&NetworkMode>,
    namespaces: &NamespaceRequest,
) -> BTreeMap<String, String> {
    let own_ipc = namespaces.ipc == NamespaceSource::Private;
    let mut out = BTreeMap::new();
    for (name, entry) in reader.get("sysctls").and_then(Node::as_map).into_iter().flatten() {
        let value = entry.node.value.scalar_text().unwrap_or_default();
        let own_network = matches!(mode, None | Some(NetworkMode::None));
        let problem = if value.contains(['\n', '\0']) {
            Some("has a value of more than one line".to_owned())
        } else if name.starts_with("net.") {
            (!own_network).then(|| "belongs to the network namespace, which is not the container's own".to_owned())
        } else if is_namespaced(name) {
            (!own_ipc).then(|| "belongs to the IPC namespace, which is not the container's own".to_owned())
        } else {
            Some("belongs to no namespace of the container: it would change the host".to_owned())
        };
        let odd = name.split('.').any(|part| part.is_empty()) || name.contains(['/', ' ', '\n']);
        let problem = if odd { Some("is not a name such as net.core.somaxconn".to_owned()) } else { problem };
        match problem {
            Some(problem) => {
                let help = "allowed are net.*, kernel.msg*, kernel.sem, kernel.shm*, kernel.domainname and fs.mqueue.*";
                reader.fault(
                    &entry.node,
                    &format!("sysctls.{name}"),
                    format!("the sysctl `{name}` {problem}"),
                    Some(help),
                );
            }
            None => {
                out.insert(name.clone(), value);
            }
        }
    }
    out
}

/// Those of the IPC and UTS namespaces (namespaces(7)).
fn is_namespaced(name: &str) -> bool {
    let ipc = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "domainname"];
    name.starts_with("fs.mqueue.") || name.strip_prefix("kernel.").is_some_and(|rest| ipc.contains(&rest))
}

/// Builds `user`: names or numbers, `USER[:GROUP]`.
pub(super) fn user(reader: &mut Reader<'_>) -> Option<String> {
    let node = reader.get("user")?;
    let text = node.as_str().filter(|text| !text.is_empty())?;
    let mut parts = text.split(':');
    let problem = match (parts.next(), parts.next(), parts.next()) {
        (_, _, Some(_)) => Some("has more than one `:`".to_owned()),
        (user, group, None) => user.into_iter().chain(group).find_map(account_problem),
    };
    match problem {
        None => Some(text.to_owned()),
        Some(problem) => {
            let help = "write a name or number, and a group after `:`: \"1000:1000\"";
            reader.fault(node, "user", format!("the user `{text}` {problem}"), Some(help));
            None
        }
    }
}

/// Says why a text is neither a number of the kernel's (4294967295 means "no change") nor a name of passwd(5).
pub(super) fn account_problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("has an empty part".into());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let in_range = text.parse::<u32>().is_ok_and(|id| id != u32::MAX);
        return (!in_range).then(|| format!("has the number {text}, and the greatest is 4294967294"));
    }
    let sound = !text.starts_with('-')
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'@' | b'\\'));
    (!sound).then(|| format!("has `{text}`, which is neither a name nor a number"))
}
