//! `$VAR`, `${VAR}`, `${VAR:-default}` and their kin, in every string of a file.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Finding, Report};
use super::key_path::KeyPath;
use super::source::{Sources, Span};
use super::yaml::{Node, NodeTag, Value};

/// How deep `${A:-${B:-${C}}}` may go.
const MAX_NESTING: usize = 32;
/// How long one value may become.
const MAX_LENGTH: usize = 1 << 20;
/// How much text the files of one load may stand for.
pub(super) const MAX_TEXT: usize = 16 << 20;

/// Says what is wrong in one string: where its `$` stands (the how-manieth of the string) and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counts the `$` before it.
    pub(super) dollar: usize,
    /// How many characters belong to it.
    pub(super) length: usize,
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) help: Option<String>,
}

/// Puts values in place of variables; notes those that are not set.
pub(super) fn substitute(
    text: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut BTreeSet<String>,
) -> Result<String, Fault> {
    Template { whole: text, variables, unset }.expand(text, 0, 0)
}

struct Template<'t, 'v> {
    whole: &'t str,
    variables: &'v BTreeMap<String, String>,
    unset: &'v mut BTreeSet<String>,
}

impl<'t> Template<'t, '_> {
    /// Expands the part of the whole text that begins at byte `base`.
    fn expand(&mut self, part: &'t str, base: usize, depth: usize) -> Result<String, Fault> {
        let mut out = String::with_capacity(part.len());
        let mut rest = part;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let here = base + (part.len() - rest.len()) + at;
            let after = &rest[at + 1..];
            let used = match after.as_bytes().first() {
                Some(b'$') => {
                    out.push('$');
                    1
                }
                Some(b'{') => {
                    let end =
                        closing_brace(&after[1..]).ok_or_else(|| self.fault(here, after, "`${` is never closed"))?;
                    let value = self.braced(&after[1..=end], here + 2, depth)?;
                    out.push_str(&value);
                    end + 2
                }
                _ => {
                    let name = name_at(after);
                    if name.is_empty() {
                        return Err(self.fault(here, after, "no variable name follows `$`"));
                    }
                    out.push_str(&self.value(name));
                    name.len()
                }
            };
            if out.len() > MAX_LENGTH {
                return Err(self.fault(here, after, "the value becomes longer than 1 MiB"));
            }
            rest = &after[used..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Expands what stands between the braces.
    fn braced(&mut self, inner: &'t str, base: usize, depth: usize) -> Result<String, Fault> {
        if depth >= MAX_NESTING {
            return Err(self.fault(base - 2, inner, &format!("variables nested deeper than {MAX_NESTING} levels")));
        }
        let name = name_at(inner);
        if name.is_empty() {
            return Err(self.fault(base - 2, inner, "no variable name follows `${`"));
        }
        let rest = &inner[name.len()..];
        if rest.is_empty() {
            return Ok(self.value(name));
        }
        let value = self.variables.get(name);
        let (operator, argument, filled) = match rest.strip_prefix(':') {
            Some(rest) => (rest.chars().next(), rest.get(1..), value.filter(|text| !text.is_empty())),
            None => (rest.chars().next(), rest.get(1..), value),
        };
        let argument = argument.unwrap_or_default();
        let argument_base = base + inner.len() - argument.len();
        match (operator, filled) {
            (Some('-' | '?'), Some(text)) => Ok(text.clone()),
            (Some('+'), None) => Ok(String::new()),
            (Some('-'), None) | (Some('+'), Some(_)) => self.expand(argument, argument_base, depth + 1),
            (Some('?'), None) => {
                let said = self.expand(argument, argument_base, depth + 1)?;
                let message = format!("required variable {name} is missing a value");
                let message = if said.is_empty() { message } else { format!("{message}: {said}") };
                let mut fault = self.fault(base - 2, inner, &message);
                fault.help = Some(format!("set {name} in the environment or in the `.env` file"));
                Err(fault)
            }
            _ => Err(self.fault(
                base - 2,
                inner,
                &format!("`${{{name}` is followed by neither `}}` nor one of `:- - :? ? :+ +`"),
            )),
        }
    }

    fn value(&mut self, name: &str) -> String {
        match self.variables.get(name) {
            Some(value) => value.clone(),
            None => {
                self.unset.insert(name.to_owned());
                String::new()
            }
        }
    }

    fn fault(&self, at: usize, tail: &str, message: &str) -> Fault {
        let dollar = self.whole[..at].matches('$').count();
        let length = tail.find('}').map_or(1, |end| tail[..end].chars().count() + 2);
        let help = "write `$$` for a `$` that is meant as such";
        Fault { dollar, length, message: format!("invalid interpolation format: {message}"), help: Some(help.into()) }
            .without_prefix_for_required()
    }
}

impl Fault {
    /// A missing value is not a matter of format.
    fn without_prefix_for_required(mut self) -> Self {
        if let Some(rest) = self.message.strip_prefix("invalid interpolation format: required") {
            self.message = format!("required{rest}");
        }
        self
    }
}

/// `[_a-zA-Z][_a-zA-Z0-9]*` at the start of a text.
fn name_at(text: &str) -> &str {
    let end = text
        .bytes()
        .enumerate()
        .find(|(n, b)| !(*b == b'_' || b.is_ascii_alphabetic() || (*n > 0 && b.is_ascii_digit())))
        .map_or(text.len(), |(n, _)| n);
    &text[..end]
}

/// Where the brace is closed that was open before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Is how the files of a project use a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// The load fails where it has no value (`${V:?}`).
    pub required: bool,
    /// What stands for it where it has none (`${V:-default}`).
    pub default: Option<String>,
    /// What stands for it where it has one (`${V:+alternate}`).
    pub alternate: Option<String>,
}

/// Gathers the variables in every string of a tree that was not interpolated. Several uses of one variable make one entry.
pub(super) fn variables_in(node: &Node, found: &mut BTreeMap<String, Variable>) {
    match &node.value {
        Value::Str(text) => variables_of(text, 0, found),
        Value::Seq(items) => items.iter().for_each(|item| variables_in(item, found)),
        Value::Map(map) => map.values().for_each(|entry| variables_in(&entry.node, found)),
        _ => {}
    }
}

fn variables_of(text: &str, depth: usize, found: &mut BTreeMap<String, Variable>) {
    let mut rest = text;
    while let Some(at) = rest.find('$').filter(|_| depth < MAX_NESTING) {
        let after = &rest[at + 1..];
        let (name, used) = match after.as_bytes().first() {
            Some(b'$') => ("", 1),
            Some(b'{') => match closing_brace(&after[1..]) {
                Some(end) => (&after[1..=end], end + 2),
                None => return,
            },
            _ => (name_at(after), name_at(after).len()),
        };
        rest = &after[used..];
        let (name, operation) = name.split_at(name_at(name).len());
        if name.is_empty() {
            continue;
        }
        let variable = found.entry(name.to_owned()).or_default();
        let operation = operation.strip_prefix(':').unwrap_or(operation);
        let argument = operation.get(1..).unwrap_or_default();
        match operation.as_bytes().first() {
            Some(b'?') => variable.required = true,
            Some(b'-') => variable.default = Some(argument.to_owned()),
            Some(b'+') => variable.alternate = Some(argument.to_owned()),
            _ => {}
        }
        variables_of(argument, depth + 1, found);
    }
}

/// Interpolates every string value of a tree; unset variables are gathered with their first place.
pub(super) struct Interpolator<'a> {
    /// What variables there are.
    pub(super) variables: &'a BTreeMap<String, String>,
    /// The files, for places inside strings.
    pub(super) sources: &'a Sources,
    /// Where faults go.
    pub(super) report: &'a mut Report,
    /// Variables without a value, each told once a load.
    pub(super) unset: &'a mut BTreeMap<String, Span>,
    /// How many bytes of text there are in the whole load so far.
    pub(super) text: &'a mut usize,
}

impl Interpolator<'_> {
    /// Works through a tree in place.
    pub(super) fn run(&mut self, node: &mut Node, path: &mut KeyPath) {
        let span = node.span;
        match &mut node.value {
            Value::Str(text) if text.contains('$') => match self.string(text, span, path) {
                Some(value) => *text = value,
                None => *node = Node { value: Value::Null, span, tag: NodeTag::Faulty },
            },
            Value::Seq(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.index(index);
                    self.run(item, path);
                    path.pop();
                }
            }
            Value::Map(map) => {
                for (key, entry) in map.iter_mut() {
                    path.key(key);
                    self.run(&mut entry.node, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    /// Returns the text with values in place of variables.
    fn string(&mut self, text: &str, span: Span, path: &KeyPath) -> Option<String> {
        let mut unset = BTreeSet::new();
        let mut done = substitute(text, self.variables, &mut unset);
        for name in unset {
            self.unset.entry(name).or_insert(span);
        }
        if let Ok(value) = &done {
            let was_said = *self.text > MAX_TEXT;
            *self.text += value.len().saturating_sub(text.len());
            if was_said {
                return None;
            }
            if *self.text > MAX_TEXT {
                let message =
                    format!("with the values of variables there are more than {} MiB of text", MAX_TEXT >> 20);
                done = Err(Fault { dollar: 0, length: 1, message, help: None });
            }
        }
        match done {
            Ok(value) => Some(value),
            Err(fault) => {
                // Finding the place means reading the line: not for errors that nobody will see.
                let at =
                    if self.report.is_full() { span } else { self.place_of_dollar(span, fault.dollar, fault.length) };
                self.report.push(Finding::error(fault.message).at(at).path(path).maybe_help(fault.help));
                None
            }
        }
    }

    /// Finds the n-th `$` of a scalar in its source: quotes, escapes and folding move everything else but leave the `$` in order.
    fn place_of_dollar(&self, span: Span, dollar: usize, length: usize) -> Span {
        let Some(file) = self.sources.file(span.file) else { return span };
        let mut left = dollar;
        for number in span.line..=span.end_line.max(span.line) {
            let skip = if number == span.line { span.column as usize } else { 0 };
            for (column, c) in file.line(number).chars().enumerate().skip(skip) {
                if c != '$' {
                    continue;
                }
                if left == 0 {
                    let column = column as u32;
                    let end_column = column + length as u32;
                    return Span { line: number, column, end_line: number, end_column, ..span };
                }
                left -= 1;
            }
        }
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let variables = [("A", "1"), ("E", ""), ("LONG_name2", "n")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        substitute(text, &variables.into(), &mut BTreeSet::new()).map_err(|fault| fault.message)
    }

    #[test]
    fn every_form_works() {
        for (text, value) in [
            ("a$A-b", "a1-b"),
            ("${A}", "1"),
            ("$LONG_name2.x", "n.x"),
            ("$$A $${A}", "$A ${A}"),
            ("${U:-d}${U-d}${E:-d}${E-d}", "ddd"),
            ("${A:+y}${E:+y}${E+y}${U+y}", "yy"),
            ("${U:-${V:-${A}}}", "1"),
            ("${U:-a}b}", "ab}"),
            ("${U:-$$x}", "$x"),
            ("${A:?m}", "1"),
            ("$U", ""),
            ("${E?m}", ""),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn every_fault_is_told() {
        for (text, message) in [
            ("${U:?give me U}", "required variable U is missing a value: give me U"),
            ("${E:?}", "required variable E is missing a value"),
            ("${A", "invalid interpolation format: `${` is never closed"),
            ("$", "invalid interpolation format: no variable name follows `$`"),
            ("$1", "invalid interpolation format: no variable name follows `$`"),
            ("${}", "invalid interpolation format: no variable name follows `${`"),
            ("${A!}", "invalid interpolation format: `${A` is followed by neither `}` nor one of `:- - :? ? :+ +`"),
            ("${A:}", "invalid interpolation format: `${A` is followed by neither `}` nor one of `:- - :? ? :+ +`"),
        ] {
            assert_eq!(expand(text), Err(message.to_owned()), "{text}");
        }
        let deep = format!("{}x{}", "${U:-".repeat(100), "}".repeat(100));
        assert!(expand(&deep).unwrap_err().contains("nested deeper"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[$ {}:?+AU€x-]{0,40}|\\PC{0,40}") {
            let _ = expand(&text);
        }
    }
}
