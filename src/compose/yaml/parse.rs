//! Parser events become the tree: anchors, aliases, merge keys, duplicate keys and every limit are dealt with here.

use std::borrow::Cow;
use std::collections::HashMap;

use indexmap::map::Entry as Slot;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use super::super::diagnostic::{Finding, Report};
use super::super::source::{FileId, Span};
use super::{Entry, Map, Node, NodeTag, Value, resolve_plain};

/// The deepest nesting; compose files need about ten.
const MAX_DEPTH: usize = 100;
/// The greatest number of nodes of one file, aliases counted with all they stand for.
pub(in super::super) const MAX_NODES: usize = 250_000;
/// How many nodes aliases may add.
const MAX_ALIASED: usize = 100_000;

/// How many bytes of text aliases may add.
const MAX_ALIASED_BYTES: usize = 4 << 20;

/// Parses a file: one tree for each of its documents. Faults go to the report; a syntax error ends the file.
pub(in super::super) fn parse(text: &str, file: FileId, report: &mut Report) -> Vec<Node> {
    if let Some(finding) = forbidden(text, file) {
        report.push(finding);
        return Vec::new();
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        file,
        report,
        anchors: HashMap::new(),
        open: Vec::new(),
        nodes: 0,
        bytes: 0,
        aliased: 0,
        aliased_bytes: 0,
    };
    let mut documents = Vec::new();
    loop {
        match reader.next() {
            Ok((Event::StreamEnd, _)) => return documents,
            Ok((Event::DocumentStart(_), _)) => match reader.document() {
                Ok(node) => documents.push(node),
                Err(fault) => {
                    reader.report.push(*fault);
                    return Vec::new();
                }
            },
            Ok(_) => {}
            Err(fault) => {
                reader.report.push(*fault);
                return Vec::new();
            }
        }
    }
}

/// Finds the first character that no file may have as it is: YAML 1.2 forbids control characters (section 5.1), and those that turn
/// the direction of text make a file read otherwise than it is meant. Escaped in double quotes both can be had.
fn forbidden(text: &str, file: FileId) -> Option<Finding> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let at = text.find(|c: char| !(' '..='~').contains(&c) && (is_control(c) || turns(c)))?;
    let c = text[at..].chars().next()?;
    let line = text[..at].matches('\n').count() as u32 + 1;
    let column = text[..at].rsplit('\n').next().map_or(0, |last| last.chars().count()) as u32;
    let (what, code) =
        (if turns(c) { "changes the direction of text" } else { "is a control character" }, u32::from(c));
    let escape = if code < 0x100 { format!("\\x{code:02x}") } else { format!("\\u{code:04x}") };
    let span = Span { file, line, column, end_line: line, end_column: column + 1 };
    let finding = Finding::error(format!("U+{code:04X} {what} and may not stand in a compose file")).at(span);
    Some(finding.help(format!("take it out, or write {escape} between double quotes where it is meant")))
}

/// An error that ends the file.
type Fatal = Box<Finding>;

struct Anchor {
    node: Node,
    size: usize,
    bytes: usize,
}

struct Reader<'t, 'r> {
    parser: Parser<'t, StrInput<'t>>,
    file: FileId,
    report: &'r mut Report,
    anchors: HashMap<usize, Anchor>,
    /// Anchors of the collections that are being read: an alias to one of them is a cycle.
    open: Vec<usize>,
    nodes: usize,
    /// Of all scalars.
    bytes: usize,
    aliased: usize,
    aliased_bytes: usize,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Fatal> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.span(span))),
            Some(Err(error)) => {
                let at = saphyr_parser::Span::empty(*error.marker());
                Err(Box::new(Finding::error(plain_words(error.info())).at(self.span(at)).help(
                    "YAML needs spaces (no tabs) before keys, a space after `:`, and quotes around text that begins with one of `@ * & ! % { [ `",
                )))
            }
            None => Ok((Event::StreamEnd, Span { file: self.file, line: 1, column: 0, end_line: 1, end_column: 0 })),
        }
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span {
            file: self.file,
            line: span.start.line().max(1) as u32,
            column: span.start.col() as u32,
            end_line: span.end.line().max(1) as u32,
            end_column: span.end.col() as u32,
        }
    }

    fn document(&mut self) -> Result<Node, Fatal> {
        let (event, span) = self.next()?;
        let node = match event {
            Event::DocumentEnd => return Ok(Node::new(Value::Null, span)),
            event => self.node(event, span, 0)?,
        };
        self.next()?;
        Ok(node)
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Fatal> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(Box::new(Finding::error(format!("more than {MAX_NODES} values in one file")).at(span)));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Fatal> {
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(Box::new(Finding::error(format!("nested deeper than {MAX_DEPTH} levels")).at(span)));
        }
        let (before, bytes_before) = (self.nodes, self.bytes);
        let (mut node, anchor, tag) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text, style, &tag, span), anchor, tag),
            Event::SequenceStart(anchor, tag) => (self.collection(anchor, |r| r.sequence(span, depth))?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.collection(anchor, |r| r.mapping(span, depth))?, anchor, tag),
            // The parser emits a node event wherever a node is due.
            _ => return Err(Box::new(Finding::error("a value is missing here").at(span))),
        };
        if anchor != 0 {
            let (size, bytes) = (1 + self.nodes - before, self.bytes - bytes_before);
            self.anchors.insert(anchor, Anchor { node: node.clone(), size, bytes });
        }
        node.tag = self.own_tag(tag.as_deref(), span);
        Ok(node)
    }

    fn collection(
        &mut self,
        anchor: usize,
        read: impl FnOnce(&mut Self) -> Result<Node, Fatal>,
    ) -> Result<Node, Fatal> {
        if anchor == 0 {
            return read(self);
        }
        self.open.push(anchor);
        let node = read(self)?;
        self.open.pop();
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Fatal> {
        if self.open.contains(&id) {
            return Err(Box::new(Finding::error("cycle: this alias stands inside the value it refers to").at(span)));
        }
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Box::new(Finding::error("this alias refers to no anchor").at(span)));
        };
        self.aliased += anchor.size;
        if self.aliased > MAX_ALIASED {
            let text = format!("aliases stand for more than {MAX_ALIASED} values");
            return Err(Box::new(Finding::error(text).at(span)));
        }
        self.aliased_bytes += anchor.bytes;
        if self.aliased_bytes > MAX_ALIASED_BYTES {
            let text = format!("aliases stand for more than {} MiB of text", MAX_ALIASED_BYTES >> 20);
            return Err(Box::new(Finding::error(text).at(span)));
        }
        let (node, size) = (anchor.node.clone(), anchor.size);
        self.bytes += anchor.bytes;
        self.count(size, span)?;
        Ok(node)
    }

    fn own_tag(&mut self, tag: Option<&Tag>, span: Span) -> NodeTag {
        match tag {
            Some(tag) if tag.handle == "!" => {
                match tag.suffix.as_str() {
                    "reset" => NodeTag::Reset,
                    "override" => NodeTag::Override,
                    other => {
                        self.report.push(Finding::error(format!("unknown tag `!{other}`")).at(span).help(
                            "compose files know the tags `!reset` and `!override`; quote text that begins with `!`",
                        ));
                        NodeTag::None
                    }
                }
            }
            _ => NodeTag::None,
        }
    }

    fn scalar(&mut self, text: Cow<'t, str>, style: ScalarStyle, tag: &Option<Cow<'t, Tag>>, span: Span) -> Node {
        self.bytes += text.len();
        let core = tag.as_deref().filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
        let value = match core {
            Some("str" | "binary") => Value::Str(text.into_owned()),
            Some(_) => resolve_plain(&text),
            None if style == ScalarStyle::Plain => resolve_plain(&text),
            None => Value::Str(text.into_owned()),
        };
        Node::new(value, span)
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Node, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Node::new(Value::Seq(items), joined(start, span)));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Node, Fatal> {
        let mut map = Map::new();
        let mut merges: Vec<(Span, Node)> = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                for (key_span, base) in merges {
                    self.merge_key(&mut map, key_span, base);
                }
                return Ok(Node::new(Value::Map(map), joined(start, key_span)));
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, key_span, depth + 1)?;
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if is_merge {
                match merges.first() {
                    Some((first, _)) => self.duplicate("<<", key_span, *first),
                    None => merges.push((key_span, node)),
                }
                continue;
            }
            let Some(key) = self.key(key, key_span) else { continue };
            match map.entry(key) {
                Slot::Vacant(slot) => {
                    slot.insert(Entry { key: key_span, node });
                }
                Slot::Occupied(slot) => {
                    let (name, first) = (slot.key().clone(), slot.get().key);
                    self.duplicate(&name, key_span, first);
                }
            }
        }
    }

    fn duplicate(&mut self, key: &str, span: Span, first: Span) {
        let message = format!("the key `{key}` is there twice; it is first in line {}", first.line);
        self.report
            .push(Finding::error(message).at(span).related("first here", first).help("take one of the two away"));
    }

    fn key(&mut self, key: Node, span: Span) -> Option<String> {
        match key.value {
            Value::Str(text) => Some(text),
            other => {
                let shown = other.scalar_text().unwrap_or_else(|| other.kind().to_owned());
                let message = format!("non-string key: {shown} is {}, a key must be a string", other.kind());
                self.report.push(Finding::error(message).at(span).help(format!("write \"{shown}\"")));
                None
            }
        }
    }

    /// `<<`: keys of the mapping itself win, then those of earlier bases.
    fn merge_key(&mut self, map: &mut Map, key: Span, base: Node) {
        let span = base.span;
        let bases = match base.value {
            Value::Seq(items) => items,
            value => vec![Node::new(value, span)],
        };
        for base in bases {
            match base.value {
                Value::Map(entries) => {
                    for (name, entry) in entries {
                        map.entry(name).or_insert(entry);
                    }
                }
                other => {
                    let message = format!("`<<` merges mappings, not {}", other.kind());
                    self.report.push(Finding::error(message).at(key).help("write `<<: *anchor` or `<<: [*one, *two]`"));
                }
            }
        }
    }
}

fn joined(start: Span, end: Span) -> Span {
    Span { end_line: end.end_line, end_column: end.end_column, ..start }
}

/// The parser's message in lower case, without its full stop.
fn plain_words(info: &str) -> String {
    let mut text = info.trim_end_matches('.').to_owned();
    if let Some(first) = text.get(..1) {
        let lower = first.to_lowercase();
        text.replace_range(..1, &lower);
    }
    format!("this is not YAML: {text}")
}

#[cfg(test)]
mod tests {
    use super::super::super::source::Sources;
    use super::*;

    fn read(text: &str) -> (Vec<Node>, Vec<String>) {
        let (mut sources, mut report) = (Sources::default(), Report::default());
        let file = sources.add("f".into(), text.into());
        let documents = parse(text, file, &mut report);
        let (errors, _) = report.finish(&sources);
        (documents, errors.iter().map(|e| e.render().lines().next().unwrap().to_owned()).collect())
    }

    #[test]
    fn places_are_kept() {
        let (documents, errors) = read("a:\n  b: [1, \"x y\"]\n");
        assert!(errors.is_empty());
        let item = &documents[0].get("a").unwrap().get("b").unwrap().as_seq().unwrap()[1];
        assert_eq!((item.span.line, item.span.column, item.span.end_column), (2, 9, 14));
    }

    #[test]
    fn merge_keys_and_anchors_work() {
        let (documents, errors) = read("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 9\n");
        assert_eq!(errors, Vec::<String>::new());
        let z = documents[0].get("z").unwrap();
        let number = |key| z.get(key).unwrap().value.scalar_text().unwrap();
        assert_eq!((number("a"), number("b"), number("c")), ("9".into(), "2".into(), "4".into()));
    }

    #[test]
    fn faults_are_told_with_their_places() {
        let cases = [
            ("a: 1\na: 2\n", "f:2:1: error: the key `a` is there twice; it is first in line 1"),
            ("a: &a [*a]\n", "f:1:8: error: cycle: this alias stands inside the value it refers to"),
            ("1: a\n", "f:1:1: error: non-string key: 1 is a number, a key must be a string"),
            ("a: !foo 1\n", "f:1:4: error: unknown tag `!foo`"),
            (
                "a: b\n c\u{202e}d\n",
                "f:2:3: error: U+202E changes the direction of text and may not stand in a compose file",
            ),
            ("a: b # \u{1b}[2J\n", "f:1:8: error: U+001B is a control character and may not stand in a compose file"),
            ("a: 1\n<<: 3\n", "f:2:1: error: `<<` merges mappings, not a number"),
        ];
        for (text, message) in cases {
            assert_eq!(read(text).1, [message], "{text}");
        }
    }

    #[test]
    fn hostile_files_end_soon() {
        let laugh = (1..10).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            let line: Vec<String> = (0..9).map(|_| format!("*a{}", n - 1)).collect();
            format!("{text}a{n}: &a{n} [{}]\n", line.join(","))
        });
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        let deep_block: String = (0..400).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        let wide = "- a\n".repeat(600_000);
        let quadratic = format!("a: &a {}\nb: [{}*a]\n", "x".repeat(100_000), "*a,".repeat(20_000));
        for text in [laugh, deep, deep_block, wide, quadratic] {
            let start = std::time::Instant::now();
            assert_eq!(read(&text).1.len(), 1, "{}", &text[..40]);
            assert!(start.elapsed().as_secs() < 5);
        }
    }

    #[test]
    fn odd_characters_can_be_escaped() {
        let (documents, errors) = read("\u{feff}a: \"\\u202e \\x1b[1m\" # שלום\r\n".trim_start_matches('\u{feff}'));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(documents[0].get("a").unwrap().as_str(), Some("\u{202e} \u{1b}[1m"));
    }

    #[test]
    fn several_documents_are_several_trees() {
        assert_eq!(read("a: 1\n---\nb: 2\n").0.len(), 2);
        assert_eq!(read("").0.len(), 0);
    }
}
