//! Keys of a service that say what it may do, but for its mounts.

use std::path::Path;

use super::super::yaml::{Node, Value};
use super::capabilities::{self, Shares};
use super::devices;
use super::finder::{Finder, Found, is_true};
use super::risk::RiskLevel::{self, High, Low, Medium};
use crate::spec::CapabilitySet;

/// Keys that can say `host`, and what is shared then.
const NAMESPACES: &[(&str, RiskLevel, &str)] = &[
    ("pid", High, "sees every process of this host and, as root, can end each of them"),
    ("ipc", Medium, "shares memory and queues with the programs of this host"),
    ("cgroup", Medium, "sees the cgroups of this host, and can change limits of others where they are writable"),
    ("userns_mode", Low, "has root's number for its root, whatever mapping is set for containers"),
    ("uts", Low, "sees the name of this host change; with SYS_ADMIN it can change it"),
];

/// Keys that are a risk as soon as they are there.
const KEYS: &[(&str, RiskLevel, &str, &str, &str)] = &[
    (
        "cgroup_parent",
        Medium,
        "cgroup",
        "stands in a cgroup of somebody else's: limits set for mydocker's containers do not hold for it",
        "limits of its own: `mem_limit:`, `cpus:`, `pids_limit:`",
    ),
    (
        "provider",
        High,
        "provider",
        "is no container: a program of this host is run for it",
        "a service with an `image:`",
    ),
    ("credential_spec", Low, "credential", "has credentials of this host", "a secret of its own"),
];

impl Finder<'_> {
    /// Finds what the service can do.
    pub(super) fn service(mut self) {
        let shares = Shares { network: self.shares_network(), pid: self.text("pid") == Some("host") };
        self.privileged();
        self.network();
        self.namespaces();
        self.mounts();
        self.devices();
        self.capabilities(shares);
        self.security();
        self.sysctls(shares);
        self.ports();
        self.memory();
        self.hooks();
        self.single_keys();
    }

    fn privileged(&mut self) {
        if let Some(node) = self.get("privileged").filter(|node| is_true(node)) {
            self.add(
                node,
                "privileged",
                Found {
                    level: High,
                    kind: "privileged",
                    what: "privileged".into(),
                    effect: "has every capability, every device and no filter: it is root of this host".into(),
                    instead: "name what is needed: `cap_add:`, `devices:`",
                },
            );
        }
        if let Some(node) = self.get("use_api_socket").filter(|node| is_true(node)) {
            self.add(
                node,
                "use_api_socket",
                Found {
                    level: High,
                    kind: "socket",
                    what: "use_api_socket".into(),
                    effect: "can make the engine start a privileged container".into(),
                    instead: "leave it out; a service that only watches can be given a proxy that lets nothing else pass",
                },
            );
        }
    }

    /// Returns what says that the service is on the host's network, with its path.
    fn host_network(&self) -> Option<(&Node, String)> {
        if let Some(node) = self.get("network_mode").filter(|node| node.as_str() == Some("host")) {
            return Some((node, "network_mode".into()));
        }
        let networks = self.get("networks").and_then(Node::as_map)?;
        networks.keys().find_map(|name| {
            let network = self.object("networks", name)?;
            let named_host = |key: &str| network.get(key).filter(|node| node.as_str() == Some("host"));
            let external = network.get("external").is_some_and(is_true);
            let node = named_host("driver").or_else(|| named_host("name").filter(|_| external))?;
            Some((node, format!("networks.{name}")))
        })
    }

    fn shares_network(&self) -> bool {
        self.host_network().is_some()
    }

    /// The default capabilities have NET_RAW, which is enough to read and forge what others send.
    fn network(&mut self) {
        let Some((node, path)) = self.host_network().map(|(node, path)| (node.clone(), path)) else { return };
        let (level, effect) = if self.has_capability("NET_RAW") || self.has_capability("NET_ADMIN") {
            (High, "hears and forges what every program of this host sends, and reaches what listens on 127.0.0.1 only")
        } else {
            (Medium, "reaches what listens on 127.0.0.1 only, and can take every port of this host")
        };
        let what = if path == "network_mode" {
            "network_mode: host".to_owned()
        } else {
            format!("{path}: the host's network")
        };
        let instead = "`ports:` for what others must reach; at least `cap_drop: [NET_RAW]`";
        self.add(&node, &path, Found { level, kind: "host_namespace", what, effect: effect.into(), instead });
    }

    fn has_capability(&self, name: &str) -> bool {
        let has = |key: &str, word: &str| {
            let words = self.items(key).iter().filter_map(Node::as_str);
            words.filter_map(CapabilitySet::canonical_name).any(|found| found == word)
        };
        let by_default = !has("cap_drop", "ALL") && name != "NET_ADMIN";
        let added = has("cap_add", name) || has("cap_add", "ALL");
        self.is_set("privileged") || added || by_default && !has("cap_drop", name)
    }

    fn namespaces(&mut self) {
        for (key, level, effect) in NAMESPACES {
            if let Some(node) = self.get(key).filter(|node| node.as_str() == Some("host")) {
                let found = Found {
                    level: *level,
                    kind: "host_namespace",
                    what: format!("{key}: host"),
                    effect: (*effect).into(),
                    instead: "leave it out: the container has a namespace of its own then",
                };
                self.add(node, key, found);
            }
        }
    }

    fn devices(&mut self) {
        for (index, node) in self.items("devices").iter().enumerate() {
            let Some(source) = node.get("source").filter(|source| source.as_str().is_some()) else { continue };
            let text = source.as_str().unwrap_or_default();
            let path = if text.starts_with('/') { self.host.resolved(Path::new(text)) } else { text.into() };
            if let Some((level, effect)) = devices::judge(&path) {
                let what = format!("device {text}");
                let instead = "a file, or the one device that is needed, with `:r` where it is only read";
                let found = Found { level, kind: "device", what, effect: effect.into(), instead };
                self.add(source, &format!("devices[{index}]"), found);
            }
        }
        for (index, node) in self.items("device_cgroup_rules").iter().enumerate() {
            let text = node.value.scalar_text().unwrap_or_default();
            if let Some((level, effect)) = devices::judge_rule(&text) {
                let what = format!("device rule {text}");
                let instead = "`devices:` with the one device that is needed";
                let found = Found { level, kind: "device_rule", what, effect: effect.into(), instead };
                self.add(node, &format!("device_cgroup_rules[{index}]"), found);
            }
        }
    }

    fn capabilities(&mut self, shares: Shares) {
        for (index, node) in self.items("cap_add").iter().enumerate() {
            let Some(name) = node.as_str().and_then(CapabilitySet::canonical_name) else { continue };
            if let Some((level, effect)) = capabilities::judge(&name, shares) {
                let what = format!("capability {name}");
                let instead = "leave it out, or do with it on the host what needs it";
                let found = Found { level, kind: "capability", what, effect: effect.into(), instead };
                self.add(node, &format!("cap_add[{index}]"), found);
            }
        }
    }

    fn security(&mut self) {
        for (index, node) in self.items("security_opt").iter().enumerate() {
            let Some((key, value)) = node.as_str().and_then(|text| text.split_once(['=', ':'])) else { continue };
            let (level, effect) = match (key, value) {
                ("systempaths", "unconfined") => (
                    High,
                    "can write below /proc/sys and to /proc/sysrq-trigger: it can run programs as root of this host, or stop it",
                ),
                ("seccomp", "unconfined") => {
                    (Medium, "can make every system call, also those whose faults lead to the kernel")
                }
                ("apparmor", "unconfined") => (Medium, "is not held by AppArmor, where this host has it"),
                ("label", "disable" | "type:spc_t") => (Medium, "is not held by SELinux, where this host has it"),
                _ => continue,
            };
            let found = Found {
                level,
                kind: "security_opt",
                what: format!("{key}={value}"),
                effect: effect.into(),
                instead: "leave it out; a profile of its own can let pass what is needed",
            };
            self.add(node, &format!("security_opt[{index}]"), found);
        }
    }

    fn sysctls(&mut self, shares: Shares) {
        let shares_ipc = self.text("ipc") == Some("host");
        for (name, entry) in self.get("sysctls").and_then(Node::as_map).into_iter().flatten() {
            let is_ipc = name.starts_with("fs.mqueue.")
                || ["kernel.msg", "kernel.sem", "kernel.shm"].iter().any(|begin| name.starts_with(begin));
            let own = match () {
                () if name.starts_with("net.") => !shares.network,
                () if is_ipc => !shares_ipc,
                () => {
                    matches!(name.as_str(), "kernel.hostname" | "kernel.domainname") && self.text("uts") != Some("host")
                }
            };
            if own {
                continue;
            }
            let runs = matches!(name.as_str(), "kernel.core_pattern" | "kernel.modprobe" | "kernel.hotplug");
            let (level, effect) = if runs {
                (High, "names a program that the kernel runs as root of this host")
            } else {
                (Medium, "changes a setting of the whole host")
            };
            let found = Found {
                level,
                kind: "sysctl",
                what: format!("sysctl {name}"),
                effect: effect.into(),
                instead: "set it on the host (sysctl.d(5)), where everybody sees it",
            };
            self.add(&entry.node, &format!("sysctls.{name}"), found);
        }
    }

    fn ports(&mut self) {
        let mut place = None;
        let mut number = 0;
        for node in self.items("ports") {
            // A range is many ports that stand at one place.
            number += usize::from(place.is_some() && place != Some(node.span));
            place = Some(node.span);
            let address = node.get("host_ip").and_then(Node::as_str).unwrap_or_default();
            if !matches!(address, "" | "0.0.0.0" | "::" | "[::]") {
                continue;
            }
            let text = |key: &str| node.get(key).and_then(|value| value.value.scalar_text());
            let target = text("target").unwrap_or_default();
            let published = text("published").filter(|text| !text.is_empty()).unwrap_or_else(|| "any".to_owned());
            let found = Found {
                level: Low,
                kind: "port",
                what: format!("port {published} for {target} on all addresses"),
                effect: "can be reached from every network that this host is on, past most firewalls".into(),
                instead: "an address before it: \"127.0.0.1:8080:80\"",
            };
            self.add(node, &format!("ports[{number}]"), found);
        }
    }

    fn memory(&mut self) {
        if let Some(node) = self.get("oom_score_adj")
            && let Value::Int(score) = node.value
            && score < 0
        {
            let found = Found {
                level: Medium,
                kind: "oom",
                what: format!("oom_score_adj: {score}"),
                effect: "is spared when memory is short: the kernel ends programs of this host in its place".into(),
                instead: "`mem_limit:` and `mem_reservation:`",
            };
            self.add(node, "oom_score_adj", found);
        }
        if let Some(node) = self.get("oom_kill_disable").filter(|node| is_true(node)) {
            let found = Found {
                level: Medium,
                kind: "oom",
                what: "oom_kill_disable".into(),
                effect: "hangs when its memory is full; without a limit the host does".into(),
                instead: "`mem_limit:` and a restart policy",
            };
            self.add(node, "oom_kill_disable", found);
        }
    }

    fn hooks(&mut self) {
        for key in ["post_start", "pre_stop"] {
            for (index, hook) in self.items(key).iter().enumerate() {
                if let Some(node) = hook.get("privileged").filter(|node| is_true(node)) {
                    let found = Found {
                        level: High,
                        kind: "privileged",
                        what: format!("privileged {key}"),
                        effect: "has a program in it with every capability".into(),
                        instead: "leave `privileged` out of the hook",
                    };
                    self.add(node, &format!("{key}[{index}].privileged"), found);
                }
            }
        }
    }

    fn single_keys(&mut self) {
        for (key, level, kind, effect, instead) in KEYS {
            if let Some(node) = self.get(key) {
                let text = node.as_str().map(|text| format!("{key}: {text}"));
                let what = text.unwrap_or_else(|| (*key).to_owned());
                self.add(node, key, Found { level: *level, kind, what, effect: (*effect).into(), instead });
            }
        }
    }
}
