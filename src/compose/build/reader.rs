use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::super::diagnostic::{Finding, Report};
use super::super::yaml::{Node, Value};

/// Reads typed values out of one mapping of the tree.
pub(super) struct Reader<'a> {
    /// The mapping.
    pub(super) node: &'a Node,
    /// Its path.
    pub(super) path: String,
    /// Where faults go.
    pub(super) report: &'a mut Report,
}

impl<'a> Reader<'a> {
    /// Returns the value of a key; null is none.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| !node.is_null())
    }

    /// Returns text.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// Returns owned text.
    pub(super) fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    /// Returns a boolean; false where it is not there.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| node.value == Value::Bool(true))
    }

    /// Returns a whole number.
    pub(super) fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)?.value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// Returns the items of a list.
    pub(super) fn items(&self, key: &str) -> &'a [Node] {
        self.get(key).and_then(Node::as_seq).unwrap_or_default()
    }

    /// Returns a list of texts.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.items(key).iter().filter_map(Node::as_str).map(str::to_owned).collect()
    }

    /// Returns a mapping of texts; null becomes `None`.
    pub(super) fn optional_pairs(&self, key: &str) -> BTreeMap<String, Option<String>> {
        let map = self.get(key).and_then(Node::as_map);
        map.into_iter().flatten().map(|(key, entry)| (key.clone(), entry.node.value.scalar_text())).collect()
    }

    /// Returns a mapping of texts; null becomes an empty text.
    pub(super) fn pairs(&self, key: &str) -> BTreeMap<String, String> {
        self.optional_pairs(key).into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }

    /// Parses text.
    pub(super) fn parse<T: FromStr>(&mut self, key: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let node = self.get(key)?;
        let text = node.value.scalar_text()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(node, key, error.to_string(), None);
                None
            }
        }
    }

    /// Parses an address or the like; the error says what it should be.
    pub(super) fn parse_as<T: FromStr>(&mut self, key: &str, what: &str) -> Option<T> {
        let node = self.get(key)?;
        let text = node.as_str()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.fault(node, key, format!("`{text}` is not {what}"), None);
                None
            }
        }
    }

    /// Reads below a key.
    pub(super) fn below<'b>(&'b mut self, key: &str) -> Option<Reader<'b>>
    where
        'a: 'b,
    {
        let node = self.get(key)?;
        Some(Reader { node, path: format!("{}.{key}", self.path), report: self.report })
    }

    /// Reports an error at a node under a key.
    pub(super) fn fault(&mut self, at: &Node, key: &str, message: String, help: Option<&str>) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        let help = help.map(str::to_owned);
        self.report.push(Finding::error(message).at(at.span).path(path).maybe_help(help));
    }

    /// Reports a warning at a node under a key.
    pub(super) fn warn(&mut self, at: &Node, key: &str, message: String, help: Option<&str>) {
        let path = format!("{}.{key}", self.path);
        let help = help.map(str::to_owned);
        self.report.push(Finding::warning(message).at(at.span).path(path).maybe_help(help));
    }
}
