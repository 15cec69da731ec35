//! Joins the trees of several files after the compose-spec's merge rules, which stand in the schema's table.

use super::diagnostic::{Finding, Report};
use super::key_path::KeyPath;
use super::schema::{Kind, Merge};
use super::yaml::{Entry, Map, Node, NodeTag, Value};

/// Puts a later tree over an earlier one. Both are in the one form that the schema makes.
pub(super) fn merge(base: &mut Node, over: Node, kind: &'static Kind, report: &mut Report) {
    Merger { report, path: KeyPath::default() }.node(base, over, kind, Merge::Deep);
}

/// Makes a tree that nothing is merged into: `!reset` values go, lists with keys keep the last item of each key.
pub(super) fn settle(node: &mut Node, kind: &'static Kind) {
    settle_as(node, kind, Merge::Deep);
}

struct Merger<'r> {
    report: &'r mut Report,
    path: KeyPath,
}

impl Merger<'_> {
    fn node(&mut self, base: &mut Node, mut over: Node, kind: &'static Kind, how: Merge) {
        if over.tag == NodeTag::Override || matches!(how, Merge::Replace) {
            settle_as(&mut over, kind, how);
            *base = over;
            return;
        }
        if over.is_null() {
            return;
        }
        if matches!(how, Merge::SameDriver) && differ_in_driver(base, &over) {
            settle_as(&mut over, kind, how);
            *base = over;
            return;
        }
        let replace = matches!(kind, Kind::Either(..)) && !matches!(over.value, Value::Seq(_));
        match (&mut base.value, over.value) {
            (Value::Map(map), Value::Map(more)) if !replace => self.map(map, more, kind),
            (Value::Seq(items), Value::Seq(more)) => {
                items.extend(more);
                settle_as(base, kind, how);
            }
            (Value::Map(_) | Value::Seq(_), value) if !replace => {
                let message = format!("this is {} here but something else in an earlier file", value.kind());
                let finding = Finding::error(message).at(over.span).path(&self.path);
                self.report.push(
                    finding.related("earlier", base.span).help("give both the same form, or tag this one `!override`"),
                );
            }
            (_, value) => {
                let mut node = Node { value, span: over.span, tag: NodeTag::None };
                settle_as(&mut node, kind, how);
                *base = node;
            }
        }
    }

    fn map(&mut self, map: &mut Map, more: Map, kind: &'static Kind) {
        for (key, mut entry) in more {
            if entry.node.tag == NodeTag::Reset {
                map.shift_remove(&key);
                continue;
            }
            let (child, how) = child_of(kind, &key);
            match map.get_mut(&key) {
                // A pair without a value takes the value away, as in Compose.
                Some(old) if matches!(kind, Kind::Pairs | Kind::Labels) => *old = entry,
                Some(old) => {
                    self.path.key(&key);
                    self.node(&mut old.node, entry.node, child, how);
                    self.path.pop();
                }
                None => {
                    settle_as(&mut entry.node, child, how);
                    map.insert(key, Entry { key: entry.key, node: entry.node });
                }
            }
        }
    }
}

/// The type of a key's value and how it is merged.
fn child_of(kind: &'static Kind, key: &str) -> (&'static Kind, Merge) {
    match kind {
        Kind::OrNull(kind) | Kind::Short(.., kind) | Kind::Either(_, kind) => child_of(kind, key),
        Kind::Object(table) => match table.field(key) {
            Some(field) => (field.kind, field.merge),
            None => (&Kind::Any, Merge::Deep),
        },
        Kind::Dict(kind) | Kind::Named(_, kind) | Kind::Names(_, kind) => (kind, Merge::Deep),
        _ => (&Kind::Any, Merge::Deep),
    }
}

fn item_of(kind: &'static Kind) -> &'static Kind {
    match kind {
        Kind::OrNull(kind) | Kind::Either(_, kind) => item_of(kind),
        Kind::List(kind) | Kind::OneOrMore(kind) | Kind::ShortList(.., kind) => kind,
        _ => &Kind::Any,
    }
}

fn differ_in_driver(base: &Node, over: &Node) -> bool {
    match (base.get("driver"), over.get("driver")) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    }
}

fn settle_as(node: &mut Node, kind: &'static Kind, how: Merge) {
    node.tag = NodeTag::None;
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|_, entry| entry.node.tag != NodeTag::Reset);
            for (key, entry) in map.iter_mut() {
                let (child, how) = child_of(kind, key);
                settle_as(&mut entry.node, child, how);
            }
        }
        Value::Seq(items) => {
            items.retain(|item| item.tag != NodeTag::Reset);
            let item = item_of(kind);
            for node in items.iter_mut() {
                settle_as(node, item, Merge::Deep);
            }
            if let Merge::Unique(key_of) = how
                && items.len() > 1
            {
                let unique: indexmap::IndexMap<String, Node> =
                    std::mem::take(items).into_iter().map(|item| (key_of(&item), item)).collect();
                items.extend(unique.into_values());
            }
        }
        _ => {}
    }
}
