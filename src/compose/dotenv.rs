//! `.env` and `env_file`: lines of `KEY=VALUE` with a shell's quotes.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::Finding;
use super::interpolate::substitute;
use super::source::{FileId, Span};

/// Reads a file. Variables in values come from `outer` first, then from the lines before; a key without `=` takes its value from `outer`.
pub(super) fn parse(
    text: &str,
    file: FileId,
    outer: &BTreeMap<String, String>,
    raw: bool,
) -> Result<BTreeMap<String, String>, Box<Finding>> {
    let mut reader = Reader { rest: text, line: 1, file, outer, known: outer.clone(), found: BTreeMap::new() };
    while !reader.rest.is_empty() {
        reader.entry(raw)?;
    }
    Ok(reader.found)
}

struct Reader<'t> {
    rest: &'t str,
    line: u32,
    file: FileId,
    outer: &'t BTreeMap<String, String>,
    known: BTreeMap<String, String>,
    found: BTreeMap<String, String>,
}

impl<'t> Reader<'t> {
    /// Takes the rest of the line.
    fn take_line(&mut self) -> &'t str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.trim_end_matches('\r')
    }

    fn entry(&mut self, raw: bool) -> Result<(), Box<Finding>> {
        let number = self.line;
        let line = self.rest.split('\n').next().unwrap_or_default();
        let bare = line.trim_start();
        if bare.trim_end().is_empty() || bare.starts_with('#') {
            self.take_line();
            return Ok(());
        }
        let bare = bare.strip_prefix("export ").map_or(bare, str::trim_start);
        let Some(at) = bare.find(['=', ':']).filter(|_| !raw || bare.contains('=')) else {
            self.take_line();
            let key = self.checked_key(bare.split(" #").next().unwrap_or(bare).trim(), number)?;
            if let Some(value) = self.outer.get(key) {
                self.found.insert(key.to_owned(), value.clone());
            }
            return Ok(());
        };
        let key = self.checked_key(bare[..at].trim_end(), number)?.to_owned();
        let skipped = line.len() - bare.len() + at + 1;
        self.rest = &self.rest[skipped..];
        let value = if raw { self.take_line().to_owned() } else { self.value(number)? };
        self.known.entry(key.clone()).or_insert_with(|| value.clone());
        if !self.outer.contains_key(&key) {
            self.known.insert(key.clone(), value.clone());
        }
        self.found.insert(key, value);
        Ok(())
    }

    fn checked_key<'k>(&self, key: &'k str, line: u32) -> Result<&'k str, Box<Finding>> {
        let sound = !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'[' | b']'));
        if sound { Ok(key) } else { Err(self.fault(line, format!("`{key}` is not a variable name"))) }
    }

    fn value(&mut self, line: u32) -> Result<String, Box<Finding>> {
        let trimmed = self.rest.trim_start_matches([' ', '\t']);
        match trimmed.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                self.rest = &trimmed[1..];
                self.quoted(quote, line)
            }
            _ => {
                let text = self.take_line();
                let text = text.trim_start();
                let end = if text.starts_with('#') { 0 } else { comment_start(text) };
                self.expand(text[..end].trim_end(), line)
            }
        }
    }

    /// A quoted value may go over several lines; only a comment may follow it.
    fn quoted(&mut self, quote: char, line: u32) -> Result<String, Box<Finding>> {
        let mut escaped = false;
        let end = self.rest.char_indices().find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else {
            return Err(self.fault(line, format!("the quote {quote} is never closed")));
        };
        let inner = &self.rest[..end];
        self.line += inner.matches('\n').count() as u32;
        self.rest = &self.rest[end + 1..];
        let tail = self.take_line().trim();
        if !(tail.is_empty() || tail.starts_with('#')) {
            return Err(self.fault(line, format!("`{tail}` follows the closing quote")));
        }
        if quote == '\'' { Ok(inner.replace("\\'", "'")) } else { self.expand(&unescape(inner), line) }
    }

    fn expand(&self, text: &str, line: u32) -> Result<String, Box<Finding>> {
        if !text.contains('$') {
            return Ok(text.to_owned());
        }
        substitute(text, &self.known, &mut BTreeSet::new()).map_err(|fault| self.fault(line, fault.message))
    }

    fn fault(&self, line: u32, message: String) -> Box<Finding> {
        let span = Span { file: self.file, line, column: 0, end_line: line, end_column: 0 };
        Box::new(Finding::error(message).at(span).help("lines are KEY=VALUE, KEY=\"VALUE\", KEY='VALUE' or # comments"))
    }
}

/// Where ` #` begins a comment.
fn comment_start(text: &str) -> usize {
    let bytes = text.as_bytes();
    (1..bytes.len()).find(|at| bytes[*at] == b'#' && bytes[at - 1].is_ascii_whitespace()).unwrap_or(bytes.len())
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> BTreeMap<String, String> {
        let outer = [("OUT".to_owned(), "o".to_owned())].into();
        parse(text, 0, &outer, false).unwrap()
    }

    #[test]
    fn lines_are_read_as_compose_reads_them() {
        let found = read(
            "# c\nexport A=1 # c\nB = \"x\\n$A #\"  # c\nC='$A'\nD=a#b\nE=\nOUT\nNONE\nF=${B:-z}${Q:-q}\nG=\"two\nlines\"\nH: h\n",
        );
        let wanted = [
            ("A", "1"),
            ("B", "x\n1 #"),
            ("C", "$A"),
            ("D", "a#b"),
            ("E", ""),
            ("OUT", "o"),
            ("F", "x\n1 #q"),
            ("G", "two\nlines"),
            ("H", "h"),
        ];
        assert_eq!(found, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn faults_are_told() {
        for text in ["A=\"x", "a b=c", "A='x' y", "=x", "A=${"] {
            assert!(parse(text, 0, &BTreeMap::new(), false).is_err(), "{text}");
        }
        let raw = parse("A=\"$x\" # c\n", 0, &BTreeMap::new(), true).unwrap();
        assert_eq!(raw["A"], "\"$x\" # c");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[A-C=:#'\"$\\\\{}\n \t€]{0,40}") {
            let _ = parse(&text, 0, &BTreeMap::new(), false);
        }
    }
}
