//! Goes through the merged tree, service by service, and keeps what it finds with its place.

use std::path::Path;

use super::super::diagnostic::Place;
use super::super::load::Merged;
use super::super::source::{Sources, Span};
use super::super::yaml::{Node, Value};
use super::host::Host;
use super::risk::{Risk, RiskLevel};

/// Collects the risks of one service.
pub(super) struct Finder<'a> {
    /// The whole file.
    pub(super) tree: &'a Node,
    /// The service.
    pub(super) name: &'a str,
    /// Its keys.
    pub(super) service: &'a Node,
    /// Where relative paths start from that the loader leaves as they are.
    pub(super) dir: &'a Path,
    /// What is known of the host.
    pub(super) host: &'a Host<'a>,
    found: &'a mut Vec<(Span, Risk)>,
}

/// Is what a service can do, to be kept with its place.
pub(super) struct Found {
    /// How much it gives away.
    pub(super) level: RiskLevel,
    /// One word for programs.
    pub(super) kind: &'static str,
    /// In a few words.
    pub(super) what: String,
    /// What the service can do.
    pub(super) effect: String,
    /// What to write instead.
    pub(super) instead: &'static str,
}

/// Finds what the services of a merged file can do to the host: the greatest first, each level in the order of the files.
pub(in super::super) fn risks_of(merged: &Merged, sources: &Sources, host: &Host<'_>) -> Vec<Risk> {
    let mut found = Vec::new();
    for (name, entry) in merged.tree.get("services").and_then(Node::as_map).into_iter().flatten() {
        let (tree, dir) = (&merged.tree, merged.dir.as_path());
        Finder { tree, name, service: &entry.node, dir, host, found: &mut found }.service();
    }
    found.sort_by_key(|(span, risk)| (risk.level, span.file, span.line, span.column));
    let mut out: Vec<Risk> = Vec::with_capacity(found.len());
    for (span, mut risk) in found {
        risk.place = Place::of(span, sources);
        // A range of ports is many entries of one text.
        let same = |old: &Risk| old.place == risk.place && old.service == risk.service && old.kind == risk.kind;
        if !(risk.kind == "port" && out.last().is_some_and(same)) {
            out.push(risk);
        }
    }
    out
}

impl<'a> Finder<'a> {
    /// Keeps something that a value says, at a path below the service.
    pub(super) fn add(&mut self, at: &Node, below: &str, found: Found) {
        let path = format!("services.{}.{below}", self.name);
        self.add_elsewhere(at, path, found);
    }

    /// Keeps something that a value outside of the service says.
    pub(super) fn add_elsewhere(&mut self, at: &Node, path: String, found: Found) {
        let Found { level, kind, what, effect, instead } = found;
        let (service, instead) = (self.name.to_owned(), instead.to_owned());
        self.found.push((at.span, Risk { level, kind, service, path, place: None, what, effect, instead }));
    }

    /// Returns the value of a key of the service; null is none.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.service.get(key).filter(|node| !node.is_null())
    }

    /// Returns the text under a key.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// Says whether a key is true.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_true)
    }

    /// Returns the items of a list.
    pub(super) fn items(&self, key: &str) -> &'a [Node] {
        self.get(key).and_then(Node::as_seq).unwrap_or_default()
    }

    /// Returns an object of the top level.
    pub(super) fn object(&self, group: &str, name: &str) -> Option<&'a Node> {
        self.tree.get(group)?.get(name)
    }
}

/// Says whether a value is `true`.
pub(super) fn is_true(node: &Node) -> bool {
    node.value == Value::Bool(true)
}
