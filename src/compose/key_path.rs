//! The path of keys to a value, `services.web.ports[1]`, kept while a tree is walked.

use std::fmt::{self, Write};

/// Is a path that grows and shrinks; its text is made only when somebody asks.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyPath {
    text: String,
    ends: Vec<usize>,
}

impl KeyPath {
    /// Goes down to a key.
    pub(super) fn key(&mut self, key: &str) {
        self.ends.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(key);
    }

    /// Goes down to an item.
    pub(super) fn index(&mut self, index: usize) {
        self.ends.push(self.text.len());
        // Writing to a String cannot fail.
        write!(self.text, "[{index}]").unwrap_or_default();
    }

    /// Goes back up.
    pub(super) fn pop(&mut self) {
        let end = self.ends.pop().unwrap_or(0);
        self.text.truncate(end);
    }

    /// Returns the text.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
