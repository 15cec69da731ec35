//! Whether the parts of a merged file fit together: names that are referred to exist, nothing waits for itself, no two keys contradict.

use std::collections::BTreeMap;

use super::diagnostic::{Finding, Report, nearest, suggest};
use super::graph;
use super::schema::{Kind, ROOT};
use super::source::Span;
use super::yaml::{Map, Node, Value};

/// Checks a normalised tree.
pub(super) fn check(tree: &Node, inactive: &BTreeMap<String, Vec<String>>, report: &mut Report) {
    Check { tree, inactive, report }.run();
}

struct Check<'a> {
    tree: &'a Node,
    inactive: &'a BTreeMap<String, Vec<String>>,
    report: &'a mut Report,
}

impl<'a> Check<'a> {
    fn run(&mut self) {
        self.required(self.tree, &ROOT, &mut super::key_path::KeyPath::default());
        for (name, service, key) in self.group("services") {
            self.source(name, service, key);
            self.dependencies(name, service);
            self.references(name, service);
            self.scale(name, service);
            self.networks(name, service);
            self.device_requests(name, service);
        }
        self.container_names();
        self.cycles();
        for group in ["networks", "volumes"] {
            self.external(group);
        }
        self.file_objects("configs", &["file", "environment", "content"]);
        self.file_objects("secrets", &["file", "environment"]);
    }

    fn group(&self, group: &str) -> Vec<(&'a str, &'a Node, Span)> {
        let map = self.tree.get(group).and_then(Node::as_map);
        map.into_iter().flatten().map(|(name, entry)| (name.as_str(), &entry.node, entry.key)).collect()
    }

    fn names(&self, group: &str) -> Vec<&'a str> {
        self.group(group).into_iter().map(|(name, ..)| name).collect()
    }

    fn fault(&mut self, span: Span, path: String, message: String, help: Option<String>) {
        self.report.push(Finding::error(message).at(span).path(path).maybe_help(help));
    }

    /// Keys without which a mapping means nothing.
    fn required(&mut self, node: &Node, kind: &'static Kind, path: &mut super::key_path::KeyPath) {
        match (kind, &node.value) {
            (Kind::OrNull(kind) | Kind::Short(.., kind) | Kind::Either(_, kind), _) => self.required(node, kind, path),
            (Kind::Object(table), Value::Map(map)) => {
                for key in table.required.iter().filter(|key| !map.contains_key(**key)) {
                    let message = format!("{} is missing `{key}`", table.what);
                    self.fault(node.span, path.to_string(), message, None);
                }
                for (key, entry) in map {
                    if let Some(field) = table.field(key) {
                        path.key(key);
                        self.required(&entry.node, field.kind, path);
                        path.pop();
                    }
                }
            }
            (Kind::Dict(value) | Kind::Named(_, value) | Kind::Names(_, value), Value::Map(map)) => {
                for (key, entry) in map {
                    path.key(key);
                    self.required(&entry.node, value, path);
                    path.pop();
                }
            }
            (Kind::List(item) | Kind::OneOrMore(item) | Kind::ShortList(.., item), Value::Seq(items)) => {
                for (index, node) in items.iter().enumerate() {
                    path.index(index);
                    self.required(node, item, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn source(&mut self, name: &str, service: &Node, key: Span) {
        let Some(map) = service.as_map() else { return };
        if !["image", "build", "provider", "extends"].iter().any(|key| map.contains_key(*key)) {
            let message = format!("service `{name}` has neither an image nor a build context specified");
            let help = "add `image: root_fs` (the default root filesystem) or `image: rootfs:DIR`";
            self.fault(key, format!("services.{name}"), message, Some(help.into()));
        }
    }

    fn dependencies(&mut self, name: &str, service: &Node) {
        for (other, entry) in service.get("depends_on").and_then(Node::as_map).into_iter().flatten() {
            let path = format!("services.{name}.depends_on.{other}");
            if self.tree.get("services").is_some_and(|services| services.get(other).is_some()) {
                continue;
            }
            let message = format!("service `{name}` depends on undefined service `{other}`");
            match self.inactive.get(other) {
                Some(profiles) => {
                    let message = format!(
                        "service `{name}` depends on `{other}`, which is left out: none of its profiles is active"
                    );
                    let help = format!("add `--profile {}`", profiles.join("` or `--profile "));
                    self.fault(entry.key, path, message, Some(help));
                }
                None => {
                    let help = suggest(other, self.names("services"));
                    self.fault(entry.key, path, message, help);
                }
            }
        }
    }

    fn references(&mut self, name: &str, service: &Node) {
        for (network, entry) in service.get("networks").and_then(Node::as_map).into_iter().flatten() {
            self.reference(name, "network", "networks", network, entry.key);
        }
        for (model, entry) in service.get("models").and_then(Node::as_map).into_iter().flatten() {
            self.reference(name, "model", "models", model, entry.key);
        }
        for mount in service.get("volumes").and_then(Node::as_seq).unwrap_or_default() {
            if mount.get("type").and_then(Node::as_str) == Some("bind") {
                let source = mount.get("source").and_then(Node::as_str).unwrap_or_default();
                if source.is_empty() {
                    let message = "invalid mount config for type `bind`: field Source must not be empty".to_owned();
                    self.fault(mount.span, format!("services.{name}.volumes"), message, None);
                }
            }
            if mount.get("type").and_then(Node::as_str) == Some("volume")
                && let Some(source) = mount.get("source")
                && let Some(text) = source.as_str().filter(|text| !text.is_empty())
            {
                self.reference(name, "volume", "volumes", text, source.span);
            }
        }
        for (what, group) in [("secret", "secrets"), ("config", "configs")] {
            for mount in service.get(group).and_then(Node::as_seq).unwrap_or_default() {
                if let Some(source) = mount.get("source")
                    && let Some(text) = source.as_str()
                {
                    self.reference(name, what, group, text, source.span);
                }
            }
        }
    }

    fn reference(&mut self, service: &str, what: &str, group: &str, name: &str, span: Span) {
        if self.tree.get(group).is_some_and(|objects| objects.get(name).is_some()) {
            return;
        }
        let help = match nearest(name, self.names(group)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `{group}: {{{name}: {{}}}}` at the top level"),
        };
        let message = format!("service `{service}` refers to undefined {what} `{name}`");
        self.fault(span, format!("services.{service}.{group}"), message, Some(help));
    }

    fn scale(&mut self, name: &str, service: &Node) {
        let count = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        let replicas_node = service.get("deploy").and_then(|deploy| deploy.get("replicas"));
        let (scale, replicas) = (count(service.get("scale")), count(replicas_node));
        if let (Some(one), Some(other), Some(node)) = (scale, replicas, replicas_node)
            && one != other
        {
            let message = format!(
                "services.{name}: can't set distinct values on `scale` ({one}) and `deploy.replicas` ({other})"
            );
            self.fault(node.span, format!("services.{name}.deploy.replicas"), message, None);
        }
        if let Some(node) = service.get("container_name")
            && scale.or(replicas).unwrap_or(1) > 1
        {
            let message = format!(
                "services.{name}: can't set container_name and {} as container name must be unique",
                if scale.is_some() { "scale" } else { "deploy.replicas" }
            );
            self.fault(node.span, format!("services.{name}.container_name"), message, None);
        }
    }

    fn networks(&mut self, name: &str, service: &Node) {
        if let (Some(mode), Some(networks)) = (service.get("network_mode"), service.get("networks"))
            && networks.as_map().is_some_and(|map| !map.is_empty())
        {
            let message = format!("service `{name}` declares mutually exclusive `network_mode` and `networks`");
            let finding = Finding::error(message).at(mode.span).path(format!("services.{name}.network_mode"));
            self.report.push(finding.related("networks", networks.span).help("take one of the two away"));
        }
        if let Some(mode) = service.get("network_mode")
            && mode.as_str().is_some_and(|text| text == "host")
            && let Some(ports) = service.get("ports").filter(|ports| ports.as_seq().is_some_and(|p| !p.is_empty()))
        {
            let message = format!(
                "service `{name}` publishes ports but is on the host's network, where they are published anyway"
            );
            self.report.push(Finding::warning(message).at(ports.span).path(format!("services.{name}.ports")));
        }
    }

    fn device_requests(&mut self, name: &str, service: &Node) {
        let requests = service
            .get("deploy")
            .and_then(|node| node.get("resources"))
            .and_then(|node| node.get("reservations"))
            .and_then(|node| node.get("devices"));
        for list in [requests, service.get("gpus")].into_iter().flatten() {
            for request in list.as_seq().unwrap_or_default() {
                if request.get("count").is_some() && request.get("device_ids").is_some() {
                    let message = "`count` and `device_ids` exclude one another".to_owned();
                    self.fault(request.span, format!("services.{name}"), message, None);
                }
            }
        }
    }

    fn container_names(&mut self) {
        let mut seen: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
        for (name, service, _) in self.group("services") {
            let Some(node) = service.get("container_name") else { continue };
            let Some(text) = node.as_str() else { continue };
            if let Some((other, first)) = seen.insert(text, (name, node.span)) {
                let message = format!("services `{other}` and `{name}` have the same container_name `{text}`");
                let finding = Finding::error(message).at(node.span).path(format!("services.{name}.container_name"));
                self.report.push(finding.related("first here", first));
            }
        }
    }

    fn cycles(&mut self) {
        let edges: BTreeMap<&str, Vec<&str>> = self
            .group("services")
            .into_iter()
            .map(|(name, service, _)| {
                let map = service.get("depends_on").and_then(Node::as_map);
                (name, map.into_iter().flat_map(Map::keys).map(String::as_str).collect())
            })
            .collect();
        for cycle in graph::cycles(&edges) {
            let (from, to) = (cycle[0], cycle.get(1).copied().unwrap_or(cycle[0]));
            let span = self
                .tree
                .get("services")
                .and_then(|services| services.get(from)?.get("depends_on")?.as_map()?.get(to))
                .map_or(self.tree.span, |entry| entry.key);
            let message = if cycle.len() == 1 {
                format!("service `{from}` depends on itself")
            } else {
                let names: Vec<&str> = cycle.iter().chain(&cycle[..1]).copied().collect();
                format!("dependency cycle detected: {}", names.join(" → "))
            };
            self.fault(span, format!("services.{from}.depends_on"), message, Some("take one of these away".into()));
        }
    }

    fn external(&mut self, group: &str) {
        for (name, object, _) in self.group(group) {
            if object.get("external").is_none_or(|node| node.value != Value::Bool(true)) {
                continue;
            }
            for (key, entry) in object.as_map().into_iter().flatten() {
                let harmless = matches!(key.as_str(), "external" | "name") || key.starts_with("x-");
                if !harmless {
                    let message = format!("{group}.{name}: conflicting parameters `external` and `{key}` specified");
                    let help = "an external object is made elsewhere: only `name:` goes with `external: true`";
                    self.fault(entry.key, format!("{group}.{name}.{key}"), message, Some(help.into()));
                }
            }
        }
    }

    fn file_objects(&mut self, group: &str, ways: &[&str]) {
        for (name, object, key) in self.group(group) {
            let Some(map) = object.as_map() else { continue };
            let given: Vec<&str> = ways.iter().copied().filter(|way| map.contains_key(*way)).collect();
            let path = format!("{group}.{name}");
            let all = format!("`{}`", ways.join("`, `"));
            if given.len() > 1 {
                self.fault(key, path, format!("{group}.{name}: {all} are mutually exclusive"), None);
            } else if given.is_empty() && map.get("external").is_none_or(|e| e.node.value != Value::Bool(true)) {
                self.fault(
                    key,
                    path,
                    format!("{} `{name}` must declare one of {all}", group.trim_end_matches('s')),
                    None,
                );
            }
        }
    }
}
