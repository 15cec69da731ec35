//! The lines of a log file: `2026-11-23T10:00:00.000000000Z stdout F text`, as the Kubernetes CRI has them.
//!
//! The name of the stream always has six letters, so every header is [`HEADER`] bytes long: a parser compares bytes at
//! fixed places and a formatter copies a header that it made once for a whole chunk.

use std::io::Write;
use std::time::SystemTime;

use memchr::memchr;

/// The greatest length of a text in one record; longer lines travel as parts.
pub const PART: usize = 16 * 1024;
/// The length of what stands before the text.
pub const HEADER: usize = 40;
/// The length of a time.
const STAMP: usize = 30;
/// Stands for a time that cannot be told.
const EPOCH: &[u8; STAMP] = b"1970-01-01T00:00:00.000000000Z";

/// Is a time as it stands in the file; byte order is the order of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp([u8; STAMP]);

impl Stamp {
    /// Reads the clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Returns the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes a time from the start of a line.
    fn parse(line: &[u8]) -> Option<Self> {
        let text = line.first_chunk::<STAMP>()?;
        let marks = (text[4], text[7], text[10], text[13], text[16], text[19], text[29]);
        (marks == (b'-', b'-', b'T', b':', b':', b'.', b'Z')).then_some(Self(*text))
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self(*EPOCH)
    }
}

impl From<jiff::Timestamp> for Stamp {
    fn from(time: jiff::Timestamp) -> Self {
        let mut text = *EPOCH;
        let mut space = &mut text[..];
        // Years before 0 and after 9999 need more room: they become the epoch.
        let fits = write!(space, "{time:.9}").is_ok() && space.is_empty();
        if fits { Self(text) } else { Self::default() }
    }
}

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        jiff::Timestamp::try_from(time).map_or_else(|_| Self::default(), Self::from)
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Says where a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The container's standard output, or its terminal.
    Stdout,
    /// The container's standard error.
    Stderr,
    /// Ourselves: something about the log that its reader must know.
    Notice,
    /// Ourselves: the first record of a later file; the text is how many bytes the earlier ones had.
    Opened,
    /// Ourselves: the last record of a file; the text names the next.
    Rotate,
}

impl Stream {
    /// Returns the word in the file.
    pub const fn word(self) -> &'static [u8; 6] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
            Self::Notice => b"notice",
            Self::Opened => b"opened",
            Self::Rotate => b"rotate",
        }
    }

    fn parse(word: &[u8]) -> Option<Self> {
        let all = [Self::Stdout, Self::Stderr, Self::Notice, Self::Opened, Self::Rotate];
        all.into_iter().find(|stream| stream.word() == word)
    }
}

/// Is one record of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When its chunk was read.
    pub stamp: Stamp,
    /// Where it comes from.
    pub stream: Stream,
    /// Whether the line goes on in the stream's next record.
    pub partial: bool,
    /// What was written, without the newline.
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses a record given without its newline; `None` for anything else.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let stamp = Stamp::parse(line)?;
        let (header, text) = line.split_at_checked(HEADER)?;
        let partial = match header[38] {
            b'F' => false,
            b'P' => true,
            _ => return None,
        };
        let blanks = header[30] == b' ' && header[37] == b' ' && header[39] == b' ';
        let stream = Stream::parse(&header[31..37])?;
        blanks.then_some(Self { stamp, stream, partial, text })
    }
}

/// Says what becomes of the bytes behind the last newline of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// They are not taken: the rest of the line is expected any moment.
    Keep,
    /// They become a part: nothing came for a while.
    Part,
    /// They become a line: nothing will come.
    End,
}

/// Is what [`frame`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed {
    /// How many bytes of the chunk were taken.
    pub taken: usize,
    /// Whether the last record is a part, so that its line is open.
    pub open: bool,
}

/// Appends a chunk of a stream to `out` as records, until `out` has `limit` bytes or more.
///
/// The records depend on nothing but the arguments: who knows chunk and time can make the same bytes again.
pub fn frame(stream: Stream, chunk: &[u8], stamp: &Stamp, tail: Tail, limit: usize, out: &mut Vec<u8>) -> Framed {
    let full = header(stream, stamp, b'F');
    let part = header(stream, stamp, b'P');
    let mut at = 0;
    let mut open = false;
    while at < chunk.len() && out.len() < limit {
        let rest = &chunk[at..];
        if let Some(length) = memchr(b'\n', &rest[..rest.len().min(PART + 1)]) {
            out.extend_from_slice(&full);
            out.extend_from_slice(&rest[..=length]);
            at += length + 1;
            open = false;
            continue;
        }
        let (head, length) = match tail {
            _ if rest.len() > PART => (&part, PART),
            Tail::Keep => break,
            Tail::Part => (&part, rest.len()),
            Tail::End => (&full, rest.len()),
        };
        out.extend_from_slice(head);
        out.extend_from_slice(&rest[..length]);
        out.push(b'\n');
        at += length;
        open = head == &part;
    }
    Framed { taken: at, open }
}

/// Appends one whole record.
pub fn frame_line(stream: Stream, text: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&header(stream, stamp, b'F'));
    out.extend_from_slice(text);
    out.push(b'\n');
}

fn header(stream: Stream, stamp: &Stamp, tag: u8) -> [u8; HEADER] {
    let mut header = [b' '; HEADER];
    header[..STAMP].copy_from_slice(&stamp.0);
    header[31..37].copy_from_slice(stream.word());
    header[38] = tag;
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Stamp {
        Stamp::from("2026-11-23T10:00:00.000000001Z".parse::<jiff::Timestamp>().unwrap())
    }

    fn framed(chunk: &[u8], tail: Tail) -> (String, Framed) {
        let mut out = Vec::new();
        let framed = frame(Stream::Stdout, chunk, &stamp(), tail, usize::MAX, &mut out);
        (String::from_utf8_lossy(&out).into_owned(), framed)
    }

    #[test]
    fn a_line_looks_as_the_cri_has_it() {
        let (text, framed) = framed(b"hello\nwor", Tail::Keep);
        assert_eq!(text, "2026-11-23T10:00:00.000000001Z stdout F hello\n");
        assert_eq!(framed, Framed { taken: 6, open: false });
    }

    #[test]
    fn tails_become_parts_or_lines() {
        let (text, part) = framed(b"name: ", Tail::Part);
        assert!(text.ends_with(" stdout P name: \n") && part.open);
        let (text, end) = framed(b"name: ", Tail::End);
        assert!(text.ends_with(" stdout F name: \n") && !end.open);
        let (text, line) = framed(b"\n", Tail::Part);
        assert!(text.ends_with(" stdout F \n") && !line.open);
    }

    #[test]
    fn only_lines_over_16_kib_are_cut() {
        let mut chunk = vec![b'x'; PART];
        assert_eq!(framed(&chunk, Tail::Keep).1.taken, 0);
        chunk.push(b'\n');
        assert_eq!(framed(&chunk, Tail::Keep).0.lines().count(), 1);
        chunk[PART] = b'y';
        let (text, framed) = framed(&chunk, Tail::Keep);
        assert_eq!((text.lines().count(), framed.taken, framed.open), (1, PART, true));
    }

    #[test]
    fn stamps_are_of_one_length_in_any_year() {
        for (time, text) in [
            (SystemTime::UNIX_EPOCH, "1970-01-01T00:00:00.000000000Z"),
            (SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_500_000_000), "1970-01-01T00:00:01.500000000Z"),
        ] {
            assert_eq!(Stamp::from(time).as_bytes(), text.as_bytes());
        }
        assert_eq!(Stamp::from(jiff::Timestamp::MIN), Stamp::default());
        assert!(Stamp::now() > stamp());
    }

    #[test]
    fn what_is_no_record_is_none() {
        for line in [
            &b""[..],
            b"2026-11-23T10:00:00.000000001Z",
            b"2026-11-23T10:00:00.000000001Z stdout F",
            b"2026-11-23T10:00:00.000000001Z stdout X text",
            b"2026-11-23T10:00:00.000000001Z stdaux F text",
            b"2026-11-23 10:00:00.000000001Z stdout F text",
        ] {
            assert_eq!(Line::parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        /// Whatever is written, in whatever chunks, joins to the same bytes again.
        #[test]
        fn nothing_is_lost(
            chunks in prop::collection::vec((prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), any::<bool>()), 0..20),
            repeat in 1_usize..60,
            limit in 500_usize..10_000,
        ) {
            let mut held = Vec::new();
            let mut file = Vec::new();
            let mut written = Vec::new();
            for (n, (chunk, silent)) in chunks.iter().enumerate() {
                let chunk = chunk.repeat(if n % 3 == 0 { repeat } else { 1 });
                written.extend_from_slice(&chunk);
                held.extend_from_slice(&chunk);
                let tail = if *silent { Tail::Part } else { Tail::Keep };
                loop {
                    let mut out = Vec::new();
                    let framed = frame(Stream::Stderr, &held, &stamp(), tail, limit, &mut out);
                    held.drain(..framed.taken);
                    file.extend_from_slice(&out);
                    if framed.taken == 0 { break }
                }
                prop_assert!(held.len() <= PART);
            }
            frame(Stream::Stderr, &held, &stamp(), Tail::Part, usize::MAX, &mut file);
            let mut joined = Vec::new();
            for line in file.split_inclusive(|b| *b == b'\n') {
                let line = Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
                prop_assert!(line.text.len() <= PART);
                joined.extend_from_slice(line.text);
                if !line.partial { joined.push(b'\n') }
            }
            prop_assert_eq!(joined, written);
        }

        #[test]
        fn the_parser_never_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Line::parse(&line);
        }
    }
}
