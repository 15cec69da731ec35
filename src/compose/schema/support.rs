//! Says, for a merged file, which of its keys mydocker does not act on: once for each kind of key, or as an error.

use std::collections::BTreeSet;

use super::super::diagnostic::{Finding, Report};
use super::super::key_path::KeyPath;
use super::super::source::Span;
use super::super::yaml::{Node, Value};
use super::{Kind, Support, Table};

/// Walks a merged tree.
pub(in super::super) fn check_support(node: &Node, kind: &'static Kind, report: &mut Report) {
    Walk { report, path: KeyPath::default(), told: BTreeSet::new() }.kind(node, kind);
}

struct Walk<'r> {
    report: &'r mut Report,
    path: KeyPath,
    told: BTreeSet<(&'static str, &'static str)>,
}

impl Walk<'_> {
    fn kind(&mut self, node: &Node, kind: &'static Kind) {
        match (kind, &node.value) {
            (Kind::OrNull(kind) | Kind::Short(.., kind) | Kind::Either(_, kind), _) => self.kind(node, kind),
            (Kind::Object(table), Value::Map(map)) => {
                for (key, entry) in map {
                    self.path.key(key);
                    self.field(&entry.node, entry.key, key, table);
                    self.path.pop();
                }
            }
            (Kind::Dict(value) | Kind::Named(_, value) | Kind::Names(_, value), Value::Map(map)) => {
                for (key, entry) in map {
                    self.path.key(key);
                    self.kind(&entry.node, value);
                    self.path.pop();
                }
            }
            (Kind::List(item) | Kind::OneOrMore(item) | Kind::ShortList(.., item), Value::Seq(items)) => {
                for (index, node) in items.iter().enumerate() {
                    self.path.index(index);
                    self.kind(node, item);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, node: &Node, key_span: Span, key: &str, table: &'static Table) {
        let Some(field) = table.field(key) else { return };
        if asks_for_nothing(node) {
            return;
        }
        match field.support {
            Support::Acts => self.kind(node, field.kind),
            Support::Silent => {}
            Support::Ignored => {
                if self.told.insert((table.what, field.name)) {
                    let message = format!("`{key}` is not acted on yet and is left out");
                    self.report.push(Finding::warning(message).at(key_span).path(&self.path));
                }
            }
            Support::Refused { because, unless } => {
                if node.as_str().is_some_and(|text| text.is_empty() || unless.contains(&text)) {
                    return;
                }
                let message = format!("`{key}` is not supported yet, and without it {because}");
                self.report.push(Finding::error(message).at(key_span).path(&self.path));
            }
        }
    }
}

fn asks_for_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Seq(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}
