//! Colours, where they are wanted.

use std::ffi::OsString;
use std::io::IsTerminal;

use super::args::AnsiMode;

/// Colours text, or leaves it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    on: bool,
}

/// Is a colour that we use, by its SGR parameter (ECMA-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the colour's name")]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Blue,
    Cyan,
    Bold,
}

impl Palette {
    /// Colours nothing.
    pub const PLAIN: Self = Self { on: false };

    /// Decides for a stream: `--ansi` first, then NO_COLOR (no-color.org) and a dumb terminal, then whether it is one.
    pub fn for_stream(stream: &impl IsTerminal, mode: AnsiMode, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let on = match mode {
            AnsiMode::Always => true,
            AnsiMode::Never => false,
            AnsiMode::Auto => {
                let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
                let dumb = env("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
                stream.is_terminal() && !set("NO_COLOR") && !dumb
            }
        };
        Self { on }
    }

    /// Says whether colours are wanted.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// Colours a text.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => "1",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Blue => "34",
            Colour::Cyan => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Shows control characters as escapes, so that text from elsewhere cannot drive the terminal; line ends stay.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
