//! What `config` prints: the whole project in its canonical form, as YAML or JSON.

use super::load::Merged;
use super::yaml::{Node, Value};

/// Is the canonical form of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(serde_json::Value);

impl Document {
    /// Returns it as a value.
    pub fn value(&self) -> &serde_json::Value {
        &self.0
    }

    /// Writes JSON with an indent of two.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_default()
    }

    /// Writes YAML.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(&self.0).unwrap_or_default()
    }
}

impl From<serde_json::Value> for Document {
    /// Takes a part of a project.
    fn from(value: serde_json::Value) -> Self {
        Self(value)
    }
}

/// Makes the canonical form.
pub(super) fn document(merged: &Merged) -> Document {
    Document(plain(&merged.tree))
}

fn plain(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Str(value) => value.as_str().into(),
        Value::Seq(items) => items.iter().map(plain).collect(),
        Value::Map(map) => map.iter().map(|(key, entry)| (key.clone(), plain(&entry.node))).collect(),
    }
}
