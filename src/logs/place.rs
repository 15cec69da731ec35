//! Where in a log a reader begins: the last N lines, or a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::{memchr, memrchr};

use super::frame::{HEADER, Line, Stamp, Stream};
use super::generations::{list, path_of};

/// What is looked at in one read.
const BLOCK: u64 = 64 * 1024;

/// Says which part of a log is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only what was written then or later.
    pub since: Option<Stamp>,
    /// Only what was written then or earlier.
    pub until: Option<Stamp>,
}

/// Is a place in a log, at the start of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) generation: u64,
    pub(super) offset: u64,
}

/// Finds where a query begins.
pub(super) fn find_start(directory: &Path, query: &LogQuery) -> io::Result<Place> {
    let generations = list(directory)?;
    let mut start = Place { generation: generations.first().copied().unwrap_or(0), offset: 0 };
    if let Some(since) = query.since {
        start = start.max(find_time(directory, &generations, since)?);
    }
    if let Some(lines) = query.tail {
        start = start.max(find_tail(directory, &generations, lines)?);
    }
    Ok(start)
}

/// Opens a file; `None` when it was removed since it was listed.
fn open(directory: &Path, generation: u64) -> io::Result<Option<(File, u64)>> {
    match File::open(path_of(directory, generation)) {
        Ok(file) => {
            let length = file.metadata()?.len();
            Ok(Some((file, length)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds the last `wanted` lines, reading backwards.
fn find_tail(directory: &Path, generations: &[u64], wanted: u64) -> io::Result<Place> {
    let mut count = LineCount { wanted, found: 0, any: false };
    let mut start = Place { generation: generations.first().copied().unwrap_or(0), offset: 0 };
    for generation in generations.iter().rev().copied() {
        let Some((file, length)) = open(directory, generation)? else { break };
        if let Some(offset) = tail_in(&file, length, &mut count)? {
            return Ok(Place { generation, offset });
        }
        start = Place { generation, offset: 0 };
    }
    Ok(start)
}

/// Counts lines from the last backwards.
struct LineCount {
    wanted: u64,
    found: u64,
    any: bool,
}

impl LineCount {
    /// Takes the record before those seen; says whether it belongs to a line that is not wanted.
    fn exceeds(&mut self, header: &[u8]) -> bool {
        let Some(line) = Line::parse(header) else {
            self.found += 1;
            return self.found > self.wanted;
        };
        if !matches!(line.stream, Stream::Stdout | Stream::Stderr) {
            return false;
        }
        // A part belongs to the line that ends after it, but the last of all parts is a line that has no end yet.
        self.found += u64::from(!line.partial || !self.any);
        self.any = true;
        self.found > self.wanted
    }
}

/// Looks for the start of the wanted lines in one file; `None` when they begin before it.
fn tail_in(file: &File, length: u64, count: &mut LineCount) -> io::Result<Option<u64>> {
    // The end of the record being looked at, behind its newline.
    let Some(mut end) = last_newline(file, length)? else { return Ok(None) };
    let mut block = Block::default();
    while end > 0 {
        let start = block.line_start(file, end - 1)?;
        if count.exceeds(block.bytes(file, start, end - 1)?) {
            return Ok(Some(end));
        }
        end = start;
    }
    Ok(None)
}

/// Returns the place behind the last newline; what follows is still being written.
fn last_newline(file: &File, length: u64) -> io::Result<Option<u64>> {
    let mut block = Block::default();
    let start = block.line_start(file, length)?;
    Ok((start > 0).then_some(start))
}

/// Is the part of a file that was last read.
#[derive(Default)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// Returns where the line begins that goes on until `end`.
    fn line_start(&mut self, file: &File, end: u64) -> io::Result<u64> {
        let mut upper = end;
        while upper > 0 {
            if !(self.start < upper && upper <= self.end()) {
                self.load(file, upper.saturating_sub(BLOCK))?;
            }
            if upper > self.end() {
                // The file became shorter meanwhile.
                return Ok(0);
            }
            if let Some(at) = memrchr(b'\n', &self.bytes[..(upper - self.start) as usize]) {
                return Ok(self.start + at as u64 + 1);
            }
            upper = self.start;
        }
        Ok(0)
    }

    /// Returns the first bytes of a line, enough for its header.
    fn bytes(&mut self, file: &File, start: u64, end: u64) -> io::Result<&[u8]> {
        let end = end.min(start + HEADER as u64);
        if start < self.start || end > self.end() {
            self.load(file, end.saturating_sub(BLOCK).min(start))?;
        }
        let from = start.saturating_sub(self.start) as usize;
        let to = (end.saturating_sub(self.start) as usize).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn load(&mut self, file: &File, start: u64) -> io::Result<()> {
        self.bytes.resize(BLOCK as usize, 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match file.read_at(&mut self.bytes[filled..], start + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        self.bytes.truncate(filled);
        self.start = start;
        Ok(())
    }
}

/// Finds a place before which everything is older than `since`: halving, since a file is ordered by time.
fn find_time(directory: &Path, generations: &[u64], since: Stamp) -> io::Result<Place> {
    let mut start = Place { generation: generations.first().copied().unwrap_or(0), offset: 0 };
    for generation in generations.iter().copied() {
        let Some((file, length)) = open(directory, generation)? else { continue };
        let Some((first, _)) = stamp_from(&file, 0, length)? else { continue };
        if first >= since {
            break;
        }
        let (mut low, mut high) = (0, length);
        while high - low > BLOCK {
            let middle = low + (high - low) / 2;
            match stamp_from(&file, middle, high)? {
                Some((stamp, offset)) if stamp < since => low = offset,
                _ => high = middle,
            }
        }
        start = Place { generation, offset: low };
    }
    Ok(start)
}

/// Returns the first whole record at or behind `from` that begins before `to`: its time and place.
fn stamp_from(file: &File, from: u64, to: u64) -> io::Result<Option<(Stamp, u64)>> {
    let mut block = Block::default();
    block.load(file, from)?;
    let mut at = 0;
    if from > 0 {
        let Some(newline) = memchr(b'\n', &block.bytes) else { return Ok(None) };
        at = newline + 1;
    }
    while from + (at as u64) < to {
        let rest = &block.bytes[at..];
        let Some(length) = memchr(b'\n', rest) else { return Ok(None) };
        if let Some(line) = Line::parse(&rest[..length]) {
            return Ok(Some((line.stamp, from + at as u64)));
        }
        at += length + 1;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Tail, frame};
    use super::super::writer::{LogWriter, Rotation};
    use super::*;
    use std::time::{Duration, SystemTime};

    fn at(seconds: u64) -> Stamp {
        (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)).into()
    }

    /// Writes `line 0` … one second apart.
    fn write(directory: &Path, lines: u64, rotation: Option<Rotation>) {
        let mut writer = LogWriter::open(directory, rotation).unwrap();
        for n in 0..lines {
            writer.append(Stream::Stdout, format!("line {n}\n").as_bytes(), &at(n), Tail::Keep);
        }
    }

    fn text_at(directory: &Path, place: Place) -> String {
        let bytes = std::fs::read(path_of(directory, place.generation)).unwrap();
        let rest = &bytes[place.offset as usize..];
        let mut lines = rest.split(|b| *b == b'\n').filter_map(Line::parse);
        let first = lines.find(|line| line.stream == Stream::Stdout);
        first.map(|line| String::from_utf8_lossy(line.text).into_owned()).unwrap_or_default()
    }

    #[test]
    fn the_last_lines_are_found_across_blocks_and_files() {
        for rotation in [None, Some(Rotation { max_size: 50_000, max_files: 5 })] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), 4000, rotation);
            for wanted in [0, 1, 2, 100, 1500, 3999] {
                let query = LogQuery { tail: Some(wanted), ..LogQuery::default() };
                let place = find_start(dir.path(), &query).unwrap();
                let expected = if wanted == 0 { String::new() } else { format!("line {}", 4000 - wanted) };
                assert_eq!(text_at(dir.path(), place), expected, "{wanted} {rotation:?}");
            }
            let all = LogQuery { tail: Some(10_000), ..LogQuery::default() };
            assert_eq!(text_at(dir.path(), find_start(dir.path(), &all).unwrap()), "line 0");
        }
    }

    #[test]
    fn parts_are_of_the_line_they_begin() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Vec::new();
        for (text, tail) in
            [("a\n", Tail::Keep), ("b1", Tail::Part), ("b2\n", Tail::Keep), ("c1", Tail::Part), ("c2", Tail::Part)]
        {
            frame(Stream::Stdout, text.as_bytes(), &at(0), tail, usize::MAX, &mut log);
        }
        log.extend_from_slice(b"half a rec");
        std::fs::write(dir.path().join("log"), &log).unwrap();
        for (wanted, expected) in [(0, ""), (1, "c1"), (2, "b1"), (3, "a"), (4, "a")] {
            let query = LogQuery { tail: Some(wanted), ..LogQuery::default() };
            assert_eq!(text_at(dir.path(), find_start(dir.path(), &query).unwrap()), expected, "{wanted}");
        }
    }

    #[test]
    fn a_time_is_found_by_halving() {
        for rotation in [None, Some(Rotation { max_size: 150_000, max_files: 3 })] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), 6000, rotation);
            for second in [0, 1, 2999, 5999, 9000] {
                let query = LogQuery { since: Some(at(second)), ..LogQuery::default() };
                let place = find_start(dir.path(), &query).unwrap();
                let text = text_at(dir.path(), place);
                let found: u64 = text.strip_prefix("line ").map_or(6000, |n| n.parse().unwrap());
                assert!(found <= second, "nothing wanted is skipped");
                assert!(second.min(6000) - found < 2000, "and little else is read: {found} for {second}");
            }
        }
    }

    #[test]
    fn an_absent_log_begins_at_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let query = LogQuery { tail: Some(3), since: Some(at(0)), until: None };
        let none = Place { generation: 0, offset: 0 };
        assert_eq!(find_start(dir.path(), &query).unwrap(), none);
        std::fs::write(dir.path().join("log"), "").unwrap();
        assert_eq!(find_start(dir.path(), &query).unwrap(), none);
    }
}
