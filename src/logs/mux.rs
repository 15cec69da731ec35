use std::collections::BTreeMap;
use std::io::{self, Write};

use super::clean::Cleaner;
use super::follow::{LogSink, SourceId};
use super::frame::{Line, Stamp, Stream};

/// So much is collected before it is written.
const BUFFER: usize = 128 * 1024;
/// A line in parts is put together before it is shown to something other than a terminal, up to this length.
const JOIN: usize = 1 << 20;
/// The colours of prefixes, in turn, as Compose has them: no red, which means errors.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Says how lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MuxOptions {
    /// Whether the container's name stands before each line.
    pub prefix: bool,
    /// Whether that name has a colour.
    pub colour: bool,
    /// Whether the time stands before each line.
    pub timestamps: bool,
    /// Whether the output is a terminal: what would act on it is escaped, and prompts show at once.
    pub terminal: bool,
}

impl Default for MuxOptions {
    fn default() -> Self {
        Self { prefix: true, colour: false, timestamps: false, terminal: false }
    }
}

/// Shows the logs of several containers as one text: `web-1  | hello`.
pub struct Mux<W> {
    out: W,
    /// Where standard error goes, if not to `out`.
    errors: Option<W>,
    /// Whether the buffer is for `errors`.
    to_errors: bool,
    options: MuxOptions,
    buffer: Vec<u8>,
    names: BTreeMap<SourceId, Name>,
    /// The length of the longest name.
    width: usize,
    /// The place of each name in [`COLOURS`].
    colours: BTreeMap<String, usize>,
    /// The line that was begun and not ended on the output.
    open: Option<Key>,
    /// The state of lines that come in parts.
    lines: BTreeMap<Key, Parts>,
}

type Key = (SourceId, Stream);

struct Name {
    text: String,
    colour: usize,
    /// The prefix as it is printed, for the present width.
    prefix: Vec<u8>,
}

#[derive(Default)]
struct Parts {
    /// Parts that are not shown yet.
    joined: Vec<u8>,
    /// When the first of them was written.
    stamp: Stamp,
    cleaner: Cleaner,
}

impl<W: Write> Mux<W> {
    /// Shows on `out`, which needs no buffer of its own.
    pub fn new(out: W, options: MuxOptions) -> Self {
        Self {
            out,
            errors: None,
            to_errors: false,
            options,
            buffer: Vec::new(),
            names: BTreeMap::new(),
            width: 0,
            colours: BTreeMap::new(),
            open: None,
            lines: BTreeMap::new(),
        }
    }

    /// Shows what containers write to standard error on an output of its own, as `up` does.
    pub fn with_errors(mut self, errors: W) -> Self {
        self.errors = Some(errors);
        self
    }

    /// Names a source. A name longer than those before widens the column from now on; a name that comes again, as that
    /// of a container made anew, keeps its colour.
    pub fn add_name(&mut self, source: SourceId, name: &str) {
        let text: String = name.chars().filter(|c| !c.is_control()).collect();
        let next = self.colours.len();
        let colour = *self.colours.entry(text.clone()).or_insert(next);
        self.width = self.width.max(text.chars().count());
        self.names.insert(source, Name { text, colour, prefix: Vec::new() });
        for name in self.names.values_mut() {
            name.prefix = render_prefix(name, self.width, self.options);
        }
    }

    /// Forgets a source that was removed from the reader, and ends its line. Its name keeps its place in the column.
    ///
    /// # Errors
    /// Those of the output.
    pub fn remove_name(&mut self, source: SourceId) -> io::Result<()> {
        let keys: Vec<Key> = self.lines.keys().filter(|key| key.0 == source).copied().collect();
        for key in keys {
            self.turn_to(key.1)?;
            self.flush_parts(key);
            if self.open == Some(key) {
                self.break_line();
            }
            self.lines.remove(&key);
        }
        self.names.remove(&source);
        Ok(())
    }

    /// Shows lines whose end never came, ends the last one, and writes all out.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(&mut self) -> io::Result<()> {
        let keys: Vec<Key> = self.lines.keys().copied().collect();
        for key in keys {
            self.turn_to(key.1)?;
            self.flush_parts(key);
        }
        self.break_line();
        self.lines.clear();
        self.flush_out()
    }

    /// Prints a line of ours between the others.
    ///
    /// # Errors
    /// Those of the output.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.turn_to(Stream::Notice)?;
        self.break_line();
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(b'\n');
        self.flush_out()
    }

    /// Gives back the output. What was not written out is lost: see [`Mux::finish`].
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Begins a line, or goes on with it where it stands last on the output.
    fn begin(&mut self, key: Key, line: &Line<'_>) {
        if self.open == Some(key) {
            return;
        }
        self.break_line();
        if self.options.prefix
            && let Some(name) = self.names.get(&key.0)
        {
            self.buffer.extend_from_slice(&name.prefix);
        }
        if self.options.timestamps {
            self.buffer.extend_from_slice(line.stamp.as_bytes());
            self.buffer.push(b' ');
        }
        if line.stream == Stream::Notice {
            self.buffer.extend_from_slice(b"mydocker: ");
        }
    }

    /// Ends the line that stands open, so that another can begin.
    fn break_line(&mut self) {
        if let Some(key) = self.open.take() {
            if let Some(parts) = self.lines.get_mut(&key) {
                parts.cleaner.pause(&mut self.buffer);
            }
            self.buffer.push(b'\n');
        }
    }

    /// Appends the text of a part to the open line.
    fn show_part(&mut self, key: Key, line: &Line<'_>) {
        self.begin(key, line);
        let parts = self.lines.entry(key).or_default();
        if self.options.terminal {
            parts.cleaner.part(line.text, &mut self.buffer);
        } else {
            self.buffer.extend_from_slice(line.text);
        }
        self.open = Some(key);
    }

    /// Appends the last text of a line.
    fn show_end(&mut self, key: Key, line: &Line<'_>) {
        self.begin(key, line);
        match self.lines.get_mut(&key) {
            Some(parts) if self.options.terminal => parts.cleaner.end(line.text, &mut self.buffer),
            None if self.options.terminal => Cleaner::default().end(line.text, &mut self.buffer),
            _ => self.buffer.extend_from_slice(line.text),
        }
        self.buffer.push(b'\n');
        self.open = None;
    }

    /// Shows the parts of a line that were put together so far.
    fn flush_parts(&mut self, key: Key) {
        let Some(parts) = self.lines.get_mut(&key) else { return };
        let (text, stamp) = (std::mem::take(&mut parts.joined), parts.stamp);
        if !text.is_empty() {
            self.show_part(key, &Line { stamp, stream: key.1, partial: true, text: &text });
        }
    }

    /// Takes a part where parts are put together: one that fits is kept.
    fn join_part(&mut self, key: Key, line: &Line<'_>) {
        let parts = self.lines.entry(key).or_default();
        if parts.joined.is_empty() {
            parts.stamp = line.stamp;
        }
        parts.joined.extend_from_slice(line.text);
        if parts.joined.len() >= JOIN {
            self.flush_parts(key);
        }
    }

    /// Takes the end of a line whose parts were put together.
    fn join_end(&mut self, key: Key, line: &Line<'_>) {
        self.flush_parts(key);
        self.show_end(key, line);
        self.lines.remove(&key);
    }

    fn write_out(&mut self) -> io::Result<()> {
        // What failed once is not tried again: the bytes would come twice.
        let out = self.errors.as_mut().filter(|_| self.to_errors).unwrap_or(&mut self.out);
        let result = out.write_all(&self.buffer);
        self.buffer.clear();
        result
    }

    /// Chooses the output for a stream. What is for the other is written before, so that a terminal that is both shows
    /// lines in their order.
    fn turn_to(&mut self, stream: Stream) -> io::Result<()> {
        let to_errors = self.errors.is_some() && stream == Stream::Stderr;
        if to_errors == self.to_errors {
            return Ok(());
        }
        self.break_line();
        self.flush_out()?;
        self.to_errors = to_errors;
        Ok(())
    }

    fn flush_out(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.errors.as_mut().filter(|_| self.to_errors).unwrap_or(&mut self.out).flush()
    }
}

impl<W: Write> LogSink for Mux<W> {
    fn line(&mut self, source: SourceId, line: &Line<'_>) -> io::Result<()> {
        let key = (source, line.stream);
        self.turn_to(line.stream)?;
        match (line.partial, self.options.terminal) {
            (true, true) => self.show_part(key, line),
            (true, false) => self.join_part(key, line),
            (false, false) if self.lines.contains_key(&key) => self.join_end(key, line),
            (false, _) => {
                self.show_end(key, line);
                if self.options.terminal && !self.lines.is_empty() {
                    self.lines.remove(&key);
                }
            }
        }
        if self.buffer.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }

    fn caught_up(&mut self) -> io::Result<()> {
        self.flush_out()
    }
}

/// Renders `web-1  | `, padded to the longest name and two blanks, as Compose does.
fn render_prefix(name: &Name, width: usize, options: MuxOptions) -> Vec<u8> {
    let plain = format!("{:width$}  | ", name.text);
    if options.colour {
        format!("\x1b[{}m{plain}\x1b[0m", COLOURS[name.colour % COLOURS.len()]).into_bytes()
    } else {
        plain.into_bytes()
    }
}

impl<W> std::fmt::Debug for Mux<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mux").field("options", &self.options).field("open", &self.open).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMINAL: MuxOptions = MuxOptions { prefix: true, colour: false, timestamps: false, terminal: true };
    const PIPE: MuxOptions = MuxOptions { terminal: false, ..TERMINAL };

    fn id(number: u64) -> SourceId {
        SourceId::for_tests(number)
    }

    fn mux(options: MuxOptions) -> Mux<Vec<u8>> {
        let mut mux = Mux::new(Vec::new(), options);
        mux.add_name(id(1), "web-1");
        mux.add_name(id(2), "database-1");
        mux
    }

    fn put(mux: &mut Mux<Vec<u8>>, source: u64, partial: bool, text: &[u8]) {
        mux.line(id(source), &Line { stamp: Stamp::default(), stream: Stream::Stdout, partial, text }).unwrap();
    }

    fn shown(mut mux: Mux<Vec<u8>>) -> String {
        mux.finish().unwrap();
        String::from_utf8_lossy(&mux.into_inner()).into_owned()
    }

    #[test]
    fn prefixes_are_padded_to_the_longest_name() {
        let mut mux = mux(PIPE);
        put(&mut mux, 1, false, b"hello");
        put(&mut mux, 2, false, b"ready");
        mux.add_name(id(3), "a-very-long-name-1");
        put(&mut mux, 1, false, b"again");
        assert_eq!(shown(mux), "web-1       | hello\ndatabase-1  | ready\nweb-1               | again\n");
    }

    #[test]
    fn colours_rotate_and_stay_with_a_name() {
        let mut mux = Mux::new(Vec::new(), MuxOptions { colour: true, ..PIPE });
        mux.add_name(id(1), "a");
        mux.add_name(id(2), "b");
        mux.remove_name(id(1)).unwrap();
        mux.add_name(id(3), "a");
        put(&mut mux, 3, false, b"x");
        put(&mut mux, 2, false, b"y");
        assert_eq!(shown(mux), "\x1b[36ma  | \x1b[0mx\n\x1b[33mb  | \x1b[0my\n");
    }

    #[test]
    fn time_and_notices_are_marked() {
        let mut mux = mux(MuxOptions { prefix: false, timestamps: true, ..PIPE });
        put(&mut mux, 1, false, b"x");
        mux.line(id(1), &Line { stamp: Stamp::default(), stream: Stream::Notice, partial: false, text: b"lost" })
            .unwrap();
        assert_eq!(shown(mux), "1970-01-01T00:00:00.000000000Z x\n1970-01-01T00:00:00.000000000Z mydocker: lost\n");
    }

    #[test]
    fn a_prompt_shows_at_once_on_a_terminal_and_its_line_goes_on() {
        let mut mux = mux(TERMINAL);
        put(&mut mux, 1, true, b"name: ");
        mux.caught_up().unwrap();
        assert_eq!(mux.out, b"web-1       | name: ");
        put(&mut mux, 1, false, b"bob");
        put(&mut mux, 1, true, b"age: ");
        put(&mut mux, 2, false, b"ready");
        put(&mut mux, 1, false, b"7");
        assert_eq!(shown(mux), "web-1       | name: bob\nweb-1       | age: \ndatabase-1  | ready\nweb-1       | 7\n");
    }

    #[test]
    fn parts_are_joined_elsewhere() {
        let mut mux = mux(PIPE);
        put(&mut mux, 1, true, b"age: ");
        put(&mut mux, 2, false, b"ready\r\x1b[2J\xff");
        put(&mut mux, 1, false, b"7");
        put(&mut mux, 1, true, b"bye");
        mux.finish().unwrap();
        assert_eq!(mux.into_inner(), b"database-1  | ready\r\x1b[2J\xff\nweb-1       | age: 7\nweb-1       | bye\n");
    }

    #[test]
    fn standard_error_can_have_its_own_output() {
        let (out, errors) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut mux = Mux::new(out.try_clone().unwrap(), TERMINAL).with_errors(errors.try_clone().unwrap());
        mux.add_name(id(1), "web-1");
        for (stream, partial, text) in [
            (Stream::Stdout, true, &b"to "[..]),
            (Stream::Stderr, false, b"no"),
            (Stream::Stdout, false, b"out"),
            (Stream::Stderr, true, b"why"),
        ] {
            mux.line(id(1), &Line { stamp: Stamp::default(), stream, partial, text }).unwrap();
        }
        mux.say("done").unwrap();
        mux.finish().unwrap();
        let text = |mut file: std::fs::File| {
            let mut text = String::new();
            std::io::Seek::rewind(&mut file).unwrap();
            std::io::Read::read_to_string(&mut file, &mut text).unwrap();
            text
        };
        assert_eq!(text(out), "web-1  | to \nweb-1  | out\ndone\n");
        assert_eq!(text(errors), "web-1  | no\nweb-1  | why\n");
    }

    #[test]
    fn a_colour_left_open_ends_with_the_line() {
        let mut mux = mux(TERMINAL);
        put(&mut mux, 1, true, b"\x1b[31mred");
        put(&mut mux, 2, false, b"plain");
        put(&mut mux, 1, false, b"rest\x1b[1m");
        assert_eq!(
            shown(mux),
            "web-1       | \x1b[31mred\x1b[0m\ndatabase-1  | plain\nweb-1       | rest\x1b[1m\x1b[0m\n"
        );
    }

    #[test]
    fn a_removed_source_ends_its_line_and_colour() {
        let mut mux = mux(TERMINAL);
        put(&mut mux, 1, true, b"\x1b[31mbye");
        mux.remove_name(id(1)).unwrap();
        put(&mut mux, 2, false, b"on");
        assert_eq!(shown(mux), "web-1       | \x1b[31mbye\x1b[0m\ndatabase-1  | on\n");
    }

    #[test]
    fn a_line_without_end_needs_no_memory_for_all_of_it() {
        let mut mux = mux(PIPE);
        for _ in 0..1000 {
            put(&mut mux, 1, true, &[b'x'; 16 * 1024]);
        }
        let held: usize = mux.lines.values().map(|parts| parts.joined.capacity()).sum();
        assert!(held + mux.buffer.capacity() < 6 << 20);
        put(&mut mux, 1, false, b"");
        let text = shown(mux);
        assert_eq!((text.lines().count(), text.len()), (1, "web-1       | ".len() + 1000 * 16 * 1024 + 1));
    }

    proptest! {
        /// Whatever two containers write, each line of the output is one line of one of them, behind its prefix, and in order.
        #[test]
        fn no_line_is_cut_or_mixed(
            entries in prop::collection::vec((1_u64..3, any::<bool>(), prop::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..20)), 0..50),
        ) {
            let mut mux = mux(PIPE);
            let mut expected: [Vec<Vec<u8>>; 2] = Default::default();
            let mut open: [Vec<u8>; 2] = Default::default();
            for (source, partial, text) in &entries {
                put(&mut mux, *source, *partial, text);
                let at = *source as usize - 1;
                open[at].extend_from_slice(text);
                if !partial { expected[at].push(std::mem::take(&mut open[at])) }
            }
            for at in 0..2 {
                if !open[at].is_empty() { expected[at].push(std::mem::take(&mut open[at])) }
            }
            mux.finish().unwrap();
            let out = mux.into_inner();
            let mut found: [Vec<Vec<u8>>; 2] = Default::default();
            for line in out.split_inclusive(|b| *b == b'\n') {
                let line = line.strip_suffix(b"\n").unwrap();
                if let Some(text) = line.strip_prefix(b"web-1       | ") { found[0].push(text.to_vec()) }
                else { found[1].push(line.strip_prefix(b"database-1  | ").unwrap().to_vec()) }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
