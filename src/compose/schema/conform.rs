//! Holds a tree to the table: every key known, every value of its type and in its one form afterwards.

use super::super::diagnostic::{Finding, Report, suggest};
use super::super::key_path::KeyPath;
use super::super::source::Span;
use super::super::yaml::{Entry, Map, Node, NodeTag, Value};
use super::{Field, Kind, Table, scalars, shell};

/// Walks one tree.
pub(in super::super) struct Conform<'r> {
    /// Where faults go.
    pub(in super::super) report: &'r mut Report,
    /// Where in the tree it is.
    pub(in super::super) path: KeyPath,
    /// A value with a variable in it is whatever it will be: nobody knows yet.
    pub(in super::super) takes_variables: bool,
}

impl Conform<'_> {
    /// Checks a node and writes it in its one form. What is wrong is reported and becomes null.
    pub(in super::super) fn check(&mut self, node: &mut Node, kind: &'static Kind) {
        self.check_example(node, kind, None);
    }

    fn check_example(&mut self, node: &mut Node, kind: &'static Kind, example: Option<&'static str>) {
        if matches!(node.tag, NodeTag::Reset | NodeTag::Faulty) || self.is_open(node) {
            return;
        }
        match kind {
            Kind::Any => {}
            Kind::OrNull(_) if node.is_null() => {}
            Kind::OrNull(kind) => self.check_example(node, kind, example),
            Kind::Either(one, other) => {
                let kind = if matches!(node.value, Value::Seq(_) | Value::Map(_)) { other } else { one };
                self.check_example(node, kind, example);
            }
            Kind::Str
            | Kind::Text
            | Kind::Bool
            | Kind::Int(..)
            | Kind::Number
            | Kind::Bytes(_)
            | Kind::Duration
            | Kind::Mode(_)
            | Kind::Word(_) => self.scalar(node, kind, example),
            Kind::Short(_, expand, long) => match node.value {
                Value::Map(_) => self.check(node, long),
                Value::Seq(_) | Value::Null => self.wrong(node, kind, example),
                _ => match expand(node, self) {
                    Some(expanded) => node.value = expanded.value,
                    None => node.value = Value::Null,
                },
            },
            Kind::Command => self.command(node, kind, example),
            Kind::Pairs | Kind::Labels => self.pairs(node, kind, example),
            Kind::Hosts => self.hosts(node, kind, example),
            _ => self.collection(node, kind, example),
        }
    }

    fn is_open(&self, node: &Node) -> bool {
        self.takes_variables && node.as_str().is_some_and(|text| text.contains('$'))
    }

    fn collection(&mut self, node: &mut Node, kind: &'static Kind, example: Option<&'static str>) {
        let span = node.span;
        match (kind, &mut node.value) {
            (Kind::List(item), Value::Seq(items)) => self.items(items, item),
            (Kind::OneOrMore(item), Value::Seq(items)) => self.items(items, item),
            (Kind::OneOrMore(_), Value::Null) => self.wrong(node, kind, example),
            (Kind::OneOrMore(item), _) => {
                let value = std::mem::replace(&mut node.value, Value::Null);
                let mut items = vec![Node::new(value, span)];
                self.items(&mut items, item);
                node.value = Value::Seq(items);
            }
            (Kind::ShortList(form, expand, long), Value::Seq(items)) => {
                let items = std::mem::take(items);
                node.value = Value::Seq(self.short_items(items, form, *expand, long));
            }
            (Kind::Dict(value), Value::Map(map)) => self.values(map, value),
            (Kind::Named(what, value), Value::Map(map)) => {
                self.names(map, what);
                self.values(map, value);
            }
            (Kind::Names(_, value), Value::Map(map)) => self.values(map, value),
            (Kind::Names(make, _), Value::Seq(items)) => {
                let items = std::mem::take(items);
                node.value = Value::Map(self.name_list(items, *make));
            }
            (Kind::Object(table), Value::Map(map)) => self.object(map, table),
            _ => self.wrong(node, kind, example),
        }
    }

    fn items(&mut self, items: &mut [Node], kind: &'static Kind) {
        for (index, item) in items.iter_mut().enumerate() {
            self.path.index(index);
            self.check(item, kind);
            self.path.pop();
        }
    }

    fn values(&mut self, map: &mut Map, kind: &'static Kind) {
        for (key, entry) in map.iter_mut() {
            self.path.key(key);
            self.check(&mut entry.node, kind);
            self.path.pop();
        }
    }

    fn short_items(
        &mut self,
        items: Vec<Node>,
        form: &str,
        expand: fn(&Node, &mut Self) -> Option<Vec<Node>>,
        long: &'static Kind,
    ) -> Vec<Node> {
        let mut out = Vec::with_capacity(items.len());
        for (index, mut item) in items.into_iter().enumerate() {
            self.path.index(index);
            match item.value {
                _ if self.is_open(&item) => out.push(item),
                Value::Map(_) => {
                    self.check(&mut item, long);
                    out.push(item);
                }
                Value::Null | Value::Seq(_) | Value::Bool(_) => {
                    let message = format!("this must be {form} or a mapping, not {}", item.value.kind());
                    self.fault(item.span, message, None);
                }
                _ => out.extend(expand(&item, self).unwrap_or_default()),
            }
            self.path.pop();
        }
        out
    }

    fn name_list(&mut self, items: Vec<Node>, make: fn(&Node) -> Node) -> Map {
        let mut map = Map::new();
        for (index, item) in items.into_iter().enumerate() {
            self.path.index(index);
            match &item.value {
                Value::Str(name) if map.contains_key(name) => {
                    let message = format!("`{name}` is there twice");
                    self.fault(item.span, message, Some("take one of the two away".into()));
                }
                Value::Str(name) => {
                    map.insert(name.clone(), Entry { key: item.span, node: make(&item) });
                }
                other => {
                    let message = format!("this must be a name, not {}", other.kind());
                    self.fault(item.span, message, None);
                }
            }
            self.path.pop();
        }
        map
    }

    fn names(&mut self, map: &Map, what: &str) {
        for (name, entry) in map {
            let problem = if name.is_empty() {
                "is empty"
            } else if name.len() > 200 {
                "is longer than 200 bytes"
            } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
                "has other characters than a-z A-Z 0-9 . _ -"
            } else if name.starts_with('-') {
                "begins with `-`, so that no command could name it"
            } else if name.bytes().all(|b| b == b'.') {
                "is a name of directories"
            } else {
                continue;
            };
            let shown: String = name.chars().take(40).collect();
            let message = format!("the {what} name `{shown}` {problem}");
            self.fault(entry.key, message, Some("names are made of letters, digits, `.`, `_` and `-`".into()));
        }
    }

    fn object(&mut self, map: &mut Map, table: &'static Table) {
        for (key, entry) in map.iter_mut() {
            if table.extensions && key.starts_with("x-") && table.field(key).is_none() {
                continue;
            }
            self.path.key(key);
            match table.field(key) {
                Some(Field { kind, example, .. }) => self.check_example(&mut entry.node, kind, *example),
                None => {
                    let known = table.fields.iter().map(|field| field.name);
                    let help = suggest(key, known).or_else(|| {
                        let own = "keys of your own begin with `x-`";
                        table.extensions.then(|| own.to_owned())
                    });
                    self.fault(entry.key, format!("unknown key `{key}` in {}", table.what), help);
                }
            }
            self.path.pop();
        }
    }

    fn scalar(&mut self, node: &mut Node, kind: &'static Kind, example: Option<&'static str>) {
        let value = match kind {
            Kind::Str => node.as_str().map(|_| None),
            Kind::Text => match &node.value {
                Value::Int(_) | Value::Float(_) => Some(node.value.scalar_text().map(Value::Str)),
                Value::Str(_) => Some(None),
                _ => None,
            },
            Kind::Bool => scalars::boolean(&node.value).map(|value| Some(Value::Bool(value))),
            Kind::Int(min, max) => scalars::integer(&node.value)
                .filter(|number| (min..=max).contains(&number))
                .map(|number| Some(Value::Int(number))),
            Kind::Mode(_) => scalars::mode(&node.value).map(|number| Some(Value::Int(number))),
            Kind::Number => scalars::number(&node.value).map(Some),
            Kind::Word(words) => node.as_str().filter(|text| words.contains(text)).map(|_| None),
            Kind::Bytes(minus_one) if is_scalar(node) => match scalars::bytes(&node.value, *minus_one) {
                Ok(bytes) => Some(Some(Value::Int(bytes))),
                Err(reason) => return self.refuse(node, reason, example),
            },
            Kind::Duration if is_scalar(node) => match scalars::duration(&node.value) {
                Ok(_) => Some(None),
                Err(reason) => return self.refuse(node, reason, example),
            },
            _ => None,
        };
        match value {
            Some(Some(value)) => node.value = value,
            Some(None) => {}
            None => self.wrong(node, kind, example),
        }
    }

    fn command(&mut self, node: &mut Node, kind: &'static Kind, example: Option<&'static str>) {
        match &mut node.value {
            Value::Null => {}
            Value::Seq(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.index(index);
                    self.check(item, &Kind::Str);
                    self.path.pop();
                }
            }
            Value::Str(text) => match shell::split(text) {
                Ok(words) => node.value = Value::Seq(words.into_iter().map(|word| node.text_here(word)).collect()),
                Err(reason) => self.refuse(node, format!("this cannot be split into words: {reason}"), example),
            },
            _ => self.wrong(node, kind, example),
        }
    }

    fn pairs(&mut self, node: &mut Node, kind: &'static Kind, example: Option<&'static str>) {
        match &mut node.value {
            Value::Map(map) => {
                for (key, entry) in map.iter_mut() {
                    self.path.key(key);
                    match entry.node.value.scalar_text() {
                        Some(text) => entry.node.value = Value::Str(text),
                        None if entry.node.is_null() => {}
                        None => {
                            let message = format!(
                                "`{key}` must be a boolean, null, number or string, not {}",
                                entry.node.value.kind()
                            );
                            self.fault(entry.node.span, message, None);
                            entry.node.value = Value::Null;
                        }
                    }
                    self.path.pop();
                }
            }
            Value::Seq(items) => {
                let items = std::mem::take(items);
                node.value = Value::Map(self.pair_list(items));
            }
            _ => return self.wrong(node, kind, example),
        }
        if let (Kind::Labels, Value::Map(map)) = (kind, &mut node.value) {
            for entry in map.values_mut().filter(|entry| entry.node.is_null()) {
                entry.node.value = Value::Str(String::new());
            }
        }
    }

    fn pair_list(&mut self, items: Vec<Node>) -> Map {
        let mut map = Map::new();
        for (index, item) in items.into_iter().enumerate() {
            self.path.index(index);
            match &item.value {
                Value::Str(text) => {
                    let (key, value) = match text.split_once('=') {
                        Some((key, value)) => (key, item.text_here(value)),
                        None => (text.as_str(), item.here(Value::Null)),
                    };
                    // As Compose: the last of several wins.
                    map.insert(key.to_owned(), Entry { key: item.span, node: value });
                }
                other => {
                    let message = format!("this must be a string `KEY=VALUE`, not {}", other.kind());
                    self.fault(item.span, message, None);
                }
            }
            self.path.pop();
        }
        map
    }

    fn hosts(&mut self, node: &mut Node, kind: &'static Kind, example: Option<&'static str>) {
        let mut out: Vec<Node> = Vec::new();
        match &node.value {
            Value::Seq(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.index(index);
                    match item.as_str().and_then(|text| text.split_once('=').or_else(|| text.split_once(':'))) {
                        Some((name, addresses)) => {
                            out.extend(addresses.split(',').map(|one| item.text_here(host_line(name, one))));
                        }
                        None => {
                            let help = "for example \"somehost=192.0.2.10\" or \"host=host-gateway\"";
                            self.fault(item.span, "this must be NAME=ADDRESS".into(), Some(help.into()));
                        }
                    }
                    self.path.pop();
                }
            }
            Value::Map(map) => {
                for (name, entry) in map {
                    let one = std::slice::from_ref(&entry.node);
                    for address in entry.node.as_seq().unwrap_or(one) {
                        match address.as_str() {
                            Some(text) => out.push(address.text_here(host_line(name, text))),
                            None => {
                                let message =
                                    format!("the address of `{name}` must be a string, not {}", address.value.kind());
                                self.fault(address.span, message, None);
                            }
                        }
                    }
                }
            }
            _ => return self.wrong(node, kind, example),
        }
        node.value = Value::Seq(out);
    }

    fn wrong(&mut self, node: &mut Node, kind: &Kind, example: Option<&'static str>) {
        let last = self.path.as_str().rsplit('.').next().unwrap_or_default().to_owned();
        let subject = if last.is_empty() { "the file".to_owned() } else { format!("`{last}`") };
        let got = match &node.value {
            Value::Str(text) if text.is_empty() => "an empty string".to_owned(),
            value => match value.scalar_text().filter(|text| text.len() < 40) {
                Some(text) if value.kind() == "a string" => format!("`{text}`"),
                Some(text) => format!("{} ({text})", value.kind()),
                None => value.kind().to_owned(),
            },
        };
        let mut help = example.map(|example| format!("for example `{example}`"));
        if let (Kind::Word(words), Some(text)) = (kind, node.as_str()) {
            help = suggest(text, words.iter().copied()).or(help);
        } else if matches!(kind, Kind::Str | Kind::List(Kind::Str))
            && let (Kind::Str, Some(text)) = (kind, node.value.scalar_text())
        {
            help = Some(format!("put it in quotes: \"{text}\""));
        }
        self.fault(node.span, format!("{subject} must be {}, not {got}", kind.expected()), help);
        node.value = Value::Null;
    }

    fn refuse(&mut self, node: &mut Node, message: String, example: Option<&'static str>) {
        self.fault(node.span, message, example.map(|example| format!("for example `{example}`")));
        node.value = Value::Null;
    }

    /// Reports an error at a place under the current path.
    pub(super) fn fault(&mut self, span: Span, message: String, help: Option<String>) {
        self.report.push(Finding::error(message).at(span).path(&self.path).maybe_help(help));
    }
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, Value::Null | Value::Seq(_) | Value::Map(_) | Value::Bool(_))
}

/// IPv6 addresses may stand in brackets.
fn host_line(name: &str, address: &str) -> String {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    format!("{name}={bare}")
}
