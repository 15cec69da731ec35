use indexmap::IndexMap;

use super::super::source::Span;

/// Is a mapping with string keys, in the order of the file.
pub(in super::super) type Map = IndexMap<String, Entry>;

/// Is one value of a mapping together with the place of its key.
#[derive(Clone, Debug)]
pub(in super::super) struct Entry {
    /// Where the key stands.
    pub(in super::super) key: Span,
    /// The value.
    pub(in super::super) node: Node,
}

/// Is one value and its place.
#[derive(Clone, Debug)]
pub(in super::super) struct Node {
    /// What it is.
    pub(in super::super) value: Value,
    /// Where it stands.
    pub(in super::super) span: Span,
    /// What its tag asks the merge to do.
    pub(in super::super) tag: NodeTag,
}

/// Is the compose-spec's own tag on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum NodeTag {
    /// None of them.
    #[default]
    None,
    /// `!reset`: the key is taken away, also what earlier files said.
    Reset,
    /// Its fault was reported; it is null, and nothing more is said about it.
    Faulty,
    /// `!override`: replaces what earlier files said.
    Override,
}

/// Is what a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Str(String),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping.
    Map(Map),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl Node {
    /// Makes a node without a tag.
    pub(in super::super) fn new(value: Value, span: Span) -> Self {
        Self { value, span, tag: NodeTag::None }
    }

    /// Makes text that stands where this node stands.
    pub(in super::super) fn text_here(&self, text: impl Into<String>) -> Self {
        Self::new(Value::Str(text.into()), self.span)
    }

    /// Makes another value that stands where this node stands.
    pub(in super::super) fn here(&self, value: Value) -> Self {
        Self::new(value, self.span)
    }

    /// Returns the mapping, if it is one.
    pub(in super::super) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the mapping, if it is one.
    pub(in super::super) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the items, if it is a sequence.
    pub(in super::super) fn as_seq(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the text, if it is text.
    pub(in super::super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a key, if this is a mapping that has it.
    pub(in super::super) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// Counts it and all below it.
    pub(in super::super) fn size(&self) -> usize {
        1 + match &self.value {
            Value::Seq(items) => items.iter().map(Self::size).sum(),
            Value::Map(map) => map.values().map(|entry| entry.node.size()).sum(),
            _ => 0,
        }
    }

    /// Counts the bytes of text in it, keys left out.
    pub(in super::super) fn text_bytes(&self) -> usize {
        match &self.value {
            Value::Str(text) => text.len(),
            Value::Seq(items) => items.iter().map(Self::text_bytes).sum(),
            Value::Map(map) => map.values().map(|entry| entry.node.text_bytes()).sum(),
            _ => 0,
        }
    }

    /// Says whether it is `null`.
    pub(in super::super) fn is_null(&self) -> bool {
        self.value == Value::Null
    }
}

impl Value {
    /// Names the type, as a message has it.
    pub(in super::super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a number",
            Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// Writes a scalar as text, the way Go prints it, because compose-spec's values are compared with what Compose prints.
    pub(in super::super) fn scalar_text(&self) -> Option<String> {
        Some(match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => super::scalar::float_text(*value),
            Self::Str(value) => value.clone(),
            Self::Null | Self::Seq(_) | Self::Map(_) => return None,
        })
    }
}
