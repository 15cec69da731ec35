//! What a container may do to a terminal: print text and choose colours.
//!
//! Everything else that a terminal would act on, moves of the cursor, titles, another screen, is shown and not done: output
//! of a container must not rewrite the lines of another or what stands in front of its own.

/// The longest colour sequence that passes; longer ones serve nobody.
const LONGEST_SGR: usize = 40;

/// Cleans the text of one line, which may come in parts.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The beginning of a character or colour sequence whose rest is in the next part.
    held: Vec<u8>,
    /// Whether a colour is on.
    coloured: bool,
}

impl Cleaner {
    /// Appends a part of a line.
    pub(super) fn part(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() && is_plain(text) {
            out.extend_from_slice(text);
            return;
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(text);
        let kept = self.clean(&joined, false, out);
        joined.drain(..kept);
        self.held = joined;
    }

    /// Appends the last part of a line and leaves the terminal without colour.
    pub(super) fn end(&mut self, text: &[u8], out: &mut Vec<u8>) {
        // A terminal's line ends with `\r\n`.
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if self.held.is_empty() && is_plain(text) {
            out.extend_from_slice(text);
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(text);
            self.clean(&joined, true, out);
        }
        self.pause(out);
    }

    /// Ends the colour, because something else is printed next.
    pub(super) fn pause(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.coloured) {
            out.extend_from_slice(b"\x1b[0m");
        }
    }

    /// Appends what is harmless and escapes the rest; returns how many bytes were used. All are, at the end of a line.
    fn clean(&mut self, text: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let plain = rest.iter().position(|b| !is_plain_byte(*b)).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            at += plain;
            let rest = &text[at..];
            let used = match rest.first() {
                None => break,
                Some(0x1b) => self.escape(rest, last, out),
                Some(byte @ (..0x20 | 0x7f)) => {
                    out.extend_from_slice(&[b'^', byte ^ 0x40]);
                    Some(1)
                }
                Some(_) => character(rest, last, out),
            };
            match used {
                Some(count) => at += count,
                None => return at,
            }
        }
        at
    }

    /// Passes a colour sequence; shows the beginning of any other. `None` when its rest is not there yet.
    fn escape(&mut self, text: &[u8], last: bool, out: &mut Vec<u8>) -> Option<usize> {
        let parameters = text.iter().skip(2).take_while(|b| matches!(b, b'0'..=b'9' | b';' | b':')).count();
        let begins = text.get(1).is_none_or(|b| *b == b'[') && parameters < LONGEST_SGR;
        match text.get(2 + parameters) {
            Some(b'm') if begins => {
                let sequence = &text[..3 + parameters];
                out.extend_from_slice(sequence);
                self.coloured = !matches!(&sequence[2..sequence.len() - 1], b"" | b"0");
                Some(sequence.len())
            }
            None if begins && !last => None,
            _ => {
                out.extend_from_slice(b"^[");
                Some(1)
            }
        }
    }
}

/// Passes a character that is not ASCII, or escapes it; `None` when its rest is not there yet.
fn character(text: &[u8], last: bool, out: &mut Vec<u8>) -> Option<usize> {
    let chunk = text.utf8_chunks().next()?;
    if let Some(character) = chunk.valid().chars().next() {
        if acts_on_terminal(character) {
            out.extend(character.escape_unicode().map(|c| c as u8));
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        return Some(character.len_utf8());
    }
    let invalid = chunk.invalid();
    // A character that breaks off where the part ends.
    let cut = invalid.len() == text.len() && std::str::from_utf8(text).is_err_and(|e| e.error_len().is_none());
    if cut && !last {
        return None;
    }
    for byte in invalid {
        out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
    }
    Some(invalid.len())
}

/// Names the controls beyond ASCII, and those that turn the direction of text around or break the line.
fn acts_on_terminal(character: char) -> bool {
    matches!(character, '\u{80}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\t')
}

fn is_plain(text: &[u8]) -> bool {
    // Without a branch the compiler looks at many bytes at once.
    text.iter().fold(true, |plain, byte| plain & is_plain_byte(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &[u8]) -> String {
        let mut out = Vec::new();
        Cleaner::default().end(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn colours_pass_and_are_ended() {
        assert_eq!(line(b"\x1b[31mred\x1b[0m plain"), "\x1b[31mred\x1b[0m plain");
        assert_eq!(line(b"\x1b[1;38;5;9mopen"), "\x1b[1;38;5;9mopen\x1b[0m");
        assert_eq!(line(b"\x1b[38:2::1:2:3mx\x1b[m"), "\x1b[38:2::1:2:3mx\x1b[m");
    }

    #[test]
    fn everything_else_is_shown() {
        for (text, shown) in [
            (&b"\x1b]0;title\x07"[..], "^[]0;title^G"),
            (b"\x1b[?1049h\x1b[2J\x1b[H", "^[[?1049h^[[2J^[[H"),
            (b"\x1b[1A\x1b[2Kdb-1  | ok", "^[[1A^[[2Kdb-1  | ok"),
            (b"\x1bPq\x1b\\", "^[Pq^[\\"),
            (b"50%\rdb | ok\r", "50%^Mdb | ok"),
            (b"a\0b\x08c\x7f", "a^@b^Hc^?"),
            (b"\xff\xfe \xc3", "\\xff\\xfe \\xc3"),
            ("\u{9b}2J \u{202e}txt \u{2028}".as_bytes(), "\\u{9b}2J \\u{202e}txt \\u{2028}"),
            (b"\x1b", "^["),
            (b"\x1b[31", "^[[31"),
            ("tab\tgr\u{fc}n \u{1f600}".as_bytes(), "tab\tgr\u{fc}n \u{1f600}"),
        ] {
            assert_eq!(line(text), shown);
        }
        let long = [b"\x1b[", &b"1;".repeat(40)[..], b"m"].concat();
        assert!(line(&long).starts_with("^[[1;"));
    }

    #[test]
    fn what_a_part_cuts_is_joined() {
        for text in ["\x1b[1;31mred\x1b[0m".as_bytes(), "gr\u{fc}n\u{1f600}\u{9b}".as_bytes(), b"\x1b[2J"] {
            for at in 0..=text.len() {
                let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
                cleaner.part(&text[..at], &mut out);
                cleaner.end(&text[at..], &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), line(text), "cut at {at}");
            }
        }
    }

    proptest! {
        /// Only text and colours reach a terminal, and no colour stays.
        #[test]
        fn nothing_harmful_passes(parts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0x1b), Just(b'['), Just(b'm'), any::<u8>()], 0..40), 1..6)) {
            let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
            for part in &parts { cleaner.part(part, &mut out) }
            cleaner.end(b"", &mut out);
            let text = String::from_utf8(out).unwrap();
            let mut rest = &text[..];
            let mut coloured = false;
            while let Some(at) = rest.find('\x1b') {
                let end = rest[at..].find('m').unwrap() + at;
                let parameters = rest[at..end].strip_prefix("\x1b[").unwrap();
                prop_assert!(parameters.bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':'));
                coloured = !matches!(parameters, "" | "0");
                prop_assert!(!rest[..at].chars().any(|c| c.is_control() && c != '\t'));
                rest = &rest[end + 1..];
            }
            prop_assert!(!coloured);
            prop_assert!(!rest.chars().any(|c| (c.is_control() && c != '\t') || acts_on_terminal(c)));
        }

        /// A line in one piece and the same line in parts look the same.
        #[test]
        fn parts_do_not_matter(text in prop::collection::vec(prop_oneof![Just(0x1b), Just(b'['), Just(b'm'), Just(b'1'), any::<u8>()], 0..60), cuts in prop::collection::vec(0_usize..60, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut cleaner, mut out, mut from) = (Cleaner::default(), Vec::new(), 0);
            for cut in cuts { cleaner.part(&text[from..cut], &mut out); from = cut }
            let rest = &text[from..];
            // A `\r` that ends the line is only known as such in the last part.
            prop_assume!(!rest.is_empty() || !text.ends_with(b"\r"));
            cleaner.end(rest, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), line(&text));
        }
    }
}
