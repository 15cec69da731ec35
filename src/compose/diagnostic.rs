//! What is wrong with a file, said so that it can be mended: place, source line, caret, key path, help.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::source::{Sources, Span};

/// Says how bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, but not all of it means what it seems to.
    Warning,
}

/// Is one finding about a compose file. It owns all that its rendering needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where; `None` where no place in a file is to blame.
    pub place: Option<Place>,
    /// The key's path, `services.web.ports[1]`; empty where it has none.
    pub path: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Another place that belongs to it, with a word on it: the first of two duplicates.
    pub related: Option<(String, Place)>,
}

/// Is a place in a file together with its source line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// Just after the last column; where the place goes on over the line, the line's end.
    pub end_column: u32,
    /// The source line.
    pub text: String,
}

/// How much of a long source line is shown.
const SHOWN_WIDTH: usize = 120;

impl Diagnostic {
    /// Writes it out over several lines, without colours: the first is `file:line:column: error: message`.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_default();
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let message = escape(&self.message);
        match &self.place {
            Some(place) => {
                writeln!(out, "{}:{}:{}: {word}: {message}", escape(&place.file), place.line, place.column)?;
                place.write_line(out)?;
            }
            None => writeln!(out, "{word}: {message}")?,
        }
        if let Some((label, place)) = &self.related {
            writeln!(out, "  {}:{}:{}: {}", escape(&place.file), place.line, place.column, escape(label))?;
            place.write_line(out)?;
        }
        if !self.path.is_empty() {
            writeln!(out, "  in: {}", escape(&self.path))?;
        }
        if let Some(help) = &self.help {
            writeln!(out, "  help: {}", escape(help))?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render().trim_end())
    }
}

impl Place {
    /// Finds the source line of a span.
    pub(super) fn of(span: Span, sources: &Sources) -> Option<Self> {
        let file = sources.file(span.file)?;
        let text = file.line(span.line);
        let end = if span.end_line == span.line { span.end_column } else { text.chars().count() as u32 };
        let text: String = text.chars().take(4096).collect();
        Some(Self {
            file: file.shown.clone(),
            line: span.line,
            column: span.column + 1,
            end_column: end.max(span.column + 1) + 1,
            text,
        })
    }

    fn write_line(&self, out: &mut String) -> fmt::Result {
        let chars: Vec<char> = self.text.chars().collect();
        let start = (self.column as usize - 1).min(chars.len());
        let end = (self.end_column as usize - 1).clamp(start, chars.len());
        let from = if chars.len() <= SHOWN_WIDTH { 0 } else { start.saturating_sub(SHOWN_WIDTH / 2) };
        let to = chars.len().min(from + SHOWN_WIDTH);
        let before = escape(&chars[from..start.min(to)].iter().collect::<String>());
        let marked = escape(&chars[start.min(to)..end.min(to)].iter().collect::<String>());
        let after = escape(&chars[end.min(to)..to].iter().collect::<String>());
        let number = self.line.to_string();
        let pad = " ".repeat(number.len());
        let (left, right) = (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
        writeln!(out, "{pad} |")?;
        writeln!(out, "{number} | {left}{}{}{}{right}", before, marked.trim_end(), &after)?;
        let caret = "^".repeat(marked.trim_end().chars().count().max(1));
        writeln!(out, "{pad} | {}{caret}", " ".repeat(before.chars().count() + left.chars().count()))
    }
}

/// Makes text safe for a terminal: control characters and those that change the direction of writing are shown as escapes; a tab is a space.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Is a finding that still knows its span.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    severity: Severity,
    message: String,
    span: Option<Span>,
    path: String,
    help: Option<String>,
    related: Option<(String, Span)>,
}

impl Finding {
    /// Makes an error.
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// Makes a warning.
    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self { severity, message, span: None, path: String::new(), help: None, related: None }
    }

    /// Says where.
    pub(super) fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Says under which key.
    pub(super) fn path(mut self, path: impl fmt::Display) -> Self {
        self.path = path.to_string();
        self
    }

    /// Says what to write instead.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to write instead, where there is something to say.
    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Names a second place.
    pub(super) fn related(mut self, label: impl Into<String>, span: Span) -> Self {
        self.related = Some((label.into(), span));
        self
    }

    pub(super) fn resolve(self, sources: &Sources) -> Diagnostic {
        Diagnostic {
            severity: self.severity,
            message: self.message,
            place: self.span.and_then(|span| Place::of(span, sources)),
            path: self.path,
            help: self.help,
            related: self.related.and_then(|(label, span)| Some((label, Place::of(span, sources)?))),
        }
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
}

/// More errors than this, or more warnings, help nobody.
const MAX_FINDINGS: usize = 100;

impl Report {
    /// Takes a finding.
    pub(super) fn push(&mut self, finding: Finding) {
        if finding.severity == Severity::Error {
            self.errors += 1;
            if self.errors > MAX_FINDINGS {
                return;
            }
        } else {
            self.warnings += 1;
            if self.warnings > MAX_FINDINGS {
                return;
            }
        }
        self.findings.push(finding);
    }

    /// Says whether an error was among them.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Says whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.errors >= MAX_FINDINGS
    }

    /// Returns errors and warnings, each once, in the order in which they stand in the files.
    pub(super) fn finish(mut self, sources: &Sources) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        if self.errors > MAX_FINDINGS {
            self.findings.push(Finding::error(format!("and {} more errors", self.errors - MAX_FINDINGS)));
        }
        if self.warnings > MAX_FINDINGS {
            self.findings.push(Finding::warning(format!("and {} more warnings", self.warnings - MAX_FINDINGS)));
        }
        let place = |finding: &Finding| finding.span.map_or((u32::MAX, 0, 0), |s| (s.file, s.line, s.column));
        self.findings.sort_by_key(place);
        let mut all: Vec<Diagnostic> = Vec::with_capacity(self.findings.len());
        for finding in self.findings {
            let diagnostic = finding.resolve(sources);
            // An anchor that is used twice, or a base that two services extend, tells its faults once.
            let same = |other: &Diagnostic| other.message == diagnostic.message && other.place == diagnostic.place;
            if !(diagnostic.place.is_some() && all.iter().rev().take(16).any(same)) {
                all.push(diagnostic);
            }
        }
        all.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Finds the known word nearest to one that is not known, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (lower.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Makes the help `did you mean ...?`, or lists what there is where that is short.
pub(super) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<&str> = known.into_iter().take(9).collect();
    if all.is_empty() || all.len() > 8 {
        return None;
    }
    Some(format!("there is {}", listed(&all)))
}

/// Writes words as "`a`, `b` and `c`".
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => "nothing".into(),
        [one] => format!("`{one}`"),
        [head @ .., last] => {
            let head: Vec<String> = head.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", head.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["image", "init", "ports", "expose"];
        assert_eq!(nearest("imgae", known), Some("image"));
        assert_eq!(nearest("Port", known), Some("ports"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(suggest("zzz", known).unwrap(), "there is `image`, `init`, `ports` and `expose`");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(escape("a\u{1b}[2J\u{202e}b\u{7}"), "a\\e[2J\\u{202e}b\\u{7}");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let mut sources = Sources::default();
        let file = sources.add("f".into(), format!("{}HERE{}", "a".repeat(500), "b".repeat(500)));
        let span = Span { file, line: 1, column: 500, end_line: 1, end_column: 504 };
        let text = Finding::error("x").at(span).resolve(&sources).render();
        assert!(text.contains("aaHEREbb") && text.lines().all(|line| line.chars().count() < 140), "{text}");
    }
}
