//! One log being read: a place in one of its files, the record there, and the way to the next file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memchr::memchr;

use super::error::LogError;
use super::frame::{HEADER, Line, Stamp, Stream};
use super::generations::{list, number_of, path_of};
use super::mend::parse_opened;
use super::place::{LogQuery, Place, find_start};

/// What is read at a time; a record of ours always fits.
const BUFFER: usize = 64 * 1024;

/// Reads one log from a place on, record by record, without a copy and without memory for a record.
#[derive(Debug)]
pub(super) struct Cursor {
    directory: PathBuf,
    query: LogQuery,
    file: Option<OpenFile>,
    /// The file to open when there is none yet.
    wanted: u64,
    /// Where the next file should begin, in bytes of all files; unknown before the first.
    expected: Option<u64>,
    buffer: Vec<u8>,
    filled: Range<usize>,
    head: Option<Head>,
    /// Something of ours to tell, before the head.
    notice: Option<Vec<u8>>,
    last: Stamp,
    ended: bool,
    /// Whether the name of the file may now be another's, as after `rm log` or a rename over it.
    suspect: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    generation: u64,
    /// The bytes of all earlier files.
    before: u64,
    /// Where the buffer ends, in the file.
    position: u64,
}

/// Is the record at the cursor; ranges are within the buffer.
#[derive(Debug, Clone)]
struct Head {
    stamp: Stamp,
    stream: Stream,
    partial: bool,
    text: Range<usize>,
    next: usize,
}

impl Cursor {
    /// Finds where the query begins.
    pub(super) fn new(directory: &Path, query: LogQuery) -> Result<Self, LogError> {
        let failed = |source| LogError::Read { path: directory.to_owned(), source };
        let start = find_start(directory, &query).map_err(failed)?;
        let mut cursor = Self {
            directory: directory.to_owned(),
            query,
            file: None,
            wanted: start.generation,
            expected: None,
            buffer: Vec::new(),
            filled: 0..0,
            head: None,
            notice: None,
            last: Stamp::default(),
            ended: false,
            suspect: false,
        };
        cursor.open(start).map_err(failed)?;
        Ok(cursor)
    }

    /// Returns the time of the next record; `None` when all that is there was read.
    pub(super) fn peek(&mut self) -> Result<Option<Stamp>, LogError> {
        self.peek_io().map_err(|source| LogError::Read { path: self.directory.clone(), source })
    }

    /// Returns the record that [`Cursor::peek`] found.
    pub(super) fn line(&self) -> Option<Line<'_>> {
        if let Some(text) = &self.notice {
            return Some(Line { stamp: self.last, stream: Stream::Notice, partial: false, text });
        }
        let head = self.head.as_ref()?;
        let text = &self.buffer[head.text.clone()];
        Some(Line { stamp: head.stamp, stream: head.stream, partial: head.partial, text })
    }

    /// Goes past it.
    pub(super) fn advance(&mut self) {
        if self.notice.take().is_none()
            && let Some(head) = self.head.take()
        {
            self.last = head.stamp;
            self.filled.start = head.next;
        }
    }

    /// Says that nothing more can come, whatever is written.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Learns that a file with a name of this log was made: the one being read may have lost its name to it.
    pub(super) fn suspect_replacement(&mut self) {
        self.suspect = true;
    }

    fn peek_io(&mut self) -> io::Result<Option<Stamp>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if self.notice.is_some() {
                return Ok(Some(self.last));
            }
            if let Some(head) = &self.head {
                return Ok(Some(head.stamp));
            }
            match memchr(b'\n', &self.buffer[self.filled.clone()]) {
                Some(length) => self.take_record(self.filled.start + length)?,
                None if self.filled.len() == BUFFER => self.take_garbage(),
                None if !self.fill()? => return Ok(None),
                None => {}
            }
        }
    }

    /// Looks at the record that ends before `end`, where its newline is.
    fn take_record(&mut self, end: usize) -> io::Result<()> {
        let start = self.filled.start;
        let bytes = &self.buffer[start..end];
        let Some(line) = Line::parse(bytes) else {
            // No record of ours: shown as it is, since nothing that a log holds is kept from its reader.
            self.head = Some(self.raw(start..end, end + 1, false));
            return Ok(());
        };
        match line.stream {
            Stream::Opened => {
                let before = parse_opened(bytes);
                self.filled.start = end + 1;
                self.note_gap(before);
            }
            Stream::Rotate => {
                let next = number_of(line.text);
                self.filled.start = end + 1;
                self.turn_to(next)?;
            }
            Stream::Stdout | Stream::Stderr | Stream::Notice => {
                let Line { stamp, stream, partial, .. } = line;
                let text = start + HEADER..end;
                if self.query.until.is_some_and(|until| stamp > until) {
                    self.ended = true;
                } else if self.query.since.is_some_and(|since| stamp < since) {
                    self.filled.start = end + 1;
                } else {
                    self.head = Some(Head { stamp, stream, partial, text, next: end + 1 });
                }
            }
        }
        Ok(())
    }

    /// Takes a full buffer without a newline.
    fn take_garbage(&mut self) {
        let all = self.filled.clone();
        self.head = Some(self.raw(all.clone(), all.end, true));
    }

    fn raw(&self, text: Range<usize>, next: usize, partial: bool) -> Head {
        Head { stamp: self.last, stream: Stream::Stdout, partial, text, next }
    }

    fn note_gap(&mut self, before: Option<u64>) {
        if let (Some(before), Some(expected)) = (before, self.expected)
            && before > expected
        {
            let gone = before - expected;
            let text = format!("{gone} bytes of the log are gone: their file was removed before it could be read");
            self.notice = Some(text.into_bytes());
        }
        if let (Some(before), Some(open)) = (before, &mut self.file) {
            open.before = before;
        }
    }

    /// Leaves a file that is ended.
    fn turn_to(&mut self, next: Option<u64>) -> io::Result<()> {
        let Some(open) = self.file.take() else { return Ok(()) };
        self.expected = Some(open.before + open.position - self.filled.len() as u64);
        self.wanted = next.unwrap_or(open.generation + 1).max(open.generation + 1);
        self.filled = 0..0;
        self.open_wanted().map(drop)
    }

    /// Reads on; says whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.file.is_none() && !self.open_wanted()? {
            return Ok(false);
        }
        let Some(open) = &mut self.file else { return Ok(false) };
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.filled.start > 0 {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        loop {
            match open.file.read_at(&mut self.buffer[self.filled.end..], open.position) {
                Ok(0) => break,
                Ok(count) => {
                    open.position += count as u64;
                    self.filled.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Somebody emptied the file: what is in it now is new.
        if open.file.metadata()?.len() < open.position {
            open.position = 0;
            self.filled = 0..0;
            return Ok(true);
        }
        if std::mem::take(&mut self.suspect) && open.is_replaced(&self.directory) {
            self.wanted = open.generation;
            (self.file, self.expected, self.filled) = (None, None, 0..0);
            return self.open_wanted();
        }
        Ok(false)
    }

    /// Opens the wanted file, or the lowest after it where that was removed; says whether one is open.
    fn open_wanted(&mut self) -> io::Result<bool> {
        let wanted = self.wanted;
        if self.open(Place { generation: wanted, offset: 0 })? {
            return Ok(true);
        }
        let later = list(&self.directory)?.into_iter().find(|number| *number >= wanted);
        later.map_or(Ok(false), |generation| self.open(Place { generation, offset: 0 }))
    }

    fn open(&mut self, place: Place) -> io::Result<bool> {
        let Place { generation, offset } = place;
        let file = match File::open(path_of(&self.directory, generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let before = if offset > 0 { opened_at(&file)? } else { 0 };
        self.wanted = generation;
        self.file = Some(OpenFile { file, generation, before, position: offset });
        Ok(true)
    }
}

impl OpenFile {
    /// Says whether its name is another file's. One that has no name any more still names the next at its end.
    fn is_replaced(&self, directory: &Path) -> bool {
        let named = std::fs::metadata(path_of(directory, self.generation));
        let ours = self.file.metadata();
        matches!((named, ours), (Ok(named), Ok(ours)) if (ours.dev(), ours.ino()) != (named.dev(), named.ino()))
    }
}

fn opened_at(file: &File) -> io::Result<u64> {
    let mut start = [0; HEADER + 24];
    let count = file.read_at(&mut start, 0)?;
    Ok(parse_opened(start[..count].split(|b| *b == b'\n').next().unwrap_or_default()).unwrap_or(0))
}
