//! What a killed writer left: a record without its end, a full file that does not name the next.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::frame::{HEADER, Line, PART, Stamp, Stream, frame_line};
use super::generations::{name_of, path_of};
use super::open_lines::OpenLines;

/// Holds the last record of any file of ours.
const LAST_RECORDS: u64 = 2 * (PART + HEADER) as u64;

/// Opens a file of the log for appending; makes it if need be.
pub(super) fn open_generation(directory: &Path, generation: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    options.open(path_of(directory, generation))
}

/// Reads the last records of a file.
fn last_records(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_RECORDS)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Ends a half-written record, and tells which lines are open.
pub(super) fn mend(file: &mut File) -> io::Result<OpenLines> {
    let mut bytes = last_records(file)?;
    let start = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
    let cut = bytes.len() - start;
    if cut > 0 {
        if Line::parse(&bytes[start..]).is_some() {
            file.write_all(b"\n")?;
        } else {
            let length = file.metadata()?.len();
            file.set_len(length - cut as u64)?;
            bytes.truncate(start);
        }
    }
    let mut open = OpenLines::default();
    open.follow(&bytes);
    Ok(open)
}

/// Lets the last file but one name the last, where its writer was killed before it could.
pub(super) fn end_earlier(directory: &Path, earlier: u64, last: u64) -> io::Result<()> {
    let mut file = open_generation(directory, earlier)?;
    mend(&mut file)?;
    let bytes = last_records(&mut file)?;
    let ended = bytes.split(|b| *b == b'\n').filter_map(Line::parse).next_back();
    if ended.is_none_or(|line| line.stream != Stream::Rotate) {
        let mut record = Vec::new();
        frame_line(Stream::Rotate, name_of(last).as_bytes(), &Stamp::now(), &mut record);
        file.write_all(&record)?;
    }
    Ok(())
}

/// Reads from a file's first record how many bytes the earlier files had.
pub(super) fn opened_at(file: &mut File) -> io::Result<u64> {
    let mut start = [0; HEADER + 24];
    file.rewind()?;
    let mut filled = 0;
    while let count @ 1.. = file.read(&mut start[filled..])? {
        filled += count;
    }
    Ok(parse_opened(start[..filled].split(|b| *b == b'\n').next().unwrap_or_default()).unwrap_or(0))
}

/// Parses a first record; `None` for any other.
pub(super) fn parse_opened(line: &[u8]) -> Option<u64> {
    let line = Line::parse(line).filter(|line| line.stream == Stream::Opened)?;
    std::str::from_utf8(line.text).ok()?.parse().ok()
}
