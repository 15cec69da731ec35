//! Reads compose files without being fooled: no directory, FIFO, device or endless file is read, and what is read is UTF-8.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The greatest size of one file.
pub(super) const MAX_FILE_BYTES: u64 = 8 << 20;

/// Says why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// open(2), fstat(2) or read(2) failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, FIFO, socket or device.
    #[error("{}: it is {kind}, not a regular file", .path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// It is bigger than any real compose file.
    #[error("{}: it is bigger than {} MiB", .path.display(), MAX_FILE_BYTES >> 20)]
    TooBig {
        /// The file.
        path: PathBuf,
    },
    /// Its bytes are not UTF-8.
    #[error("{}:{line}:{column}: this byte is not UTF-8 text (0x{byte:02x})", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first wrong byte.
        line: usize,
        /// Its column, in characters.
        column: usize,
        /// The byte.
        byte: u8,
    },
}

impl SourceError {
    /// Says whether the file is just not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a whole regular file as text.
pub(super) fn read_text(path: &Path) -> Result<String, SourceError> {
    let failed = |source| SourceError::Io { path: path.to_owned(), source };
    // O_NONBLOCK: opening a FIFO for reading waits for a writer otherwise; O_NOCTTY: a terminal must not become ours.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed)?;
    let status = file.metadata().map_err(failed)?;
    let kind = status.file_type();
    let odd = [
        (kind.is_dir(), "a directory"),
        (kind.is_fifo(), "a FIFO"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device(), "a character device"),
        (kind.is_block_device(), "a block device"),
    ];
    if let Some((_, kind)) = odd.into_iter().find(|(is, _)| *is) {
        return Err(SourceError::NotRegular { path: path.to_owned(), kind });
    }
    if status.len() > MAX_FILE_BYTES {
        return Err(SourceError::TooBig { path: path.to_owned() });
    }
    let bytes = read_capped(file, status.len()).map_err(failed)?;
    decode(path, bytes)
}

/// Reads at most one byte more than the cap: the size said by fstat(2) is 0 for files of procfs and may have grown since.
fn read_capped(file: File, expected: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks size and encoding of what was read and takes a byte order mark away.
pub(super) fn decode(path: &Path, bytes: Vec<u8>) -> Result<String, SourceError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(SourceError::TooBig { path: path.to_owned() });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let sound = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
            let line = sound.matches('\n').count() + 1;
            let column = sound.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
            Err(SourceError::NotUtf8 { path: path.to_owned(), line, column, byte: error.as_bytes()[at] })
        }
    }
}

/// Says which file a [`Span`] lies in.
pub(super) type FileId = u32;

/// Is a place in a source file: lines count from 1, columns from 0, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The file.
    pub(super) file: FileId,
    /// The first line.
    pub(super) line: u32,
    /// The first character.
    pub(super) column: u32,
    /// The last line.
    pub(super) end_line: u32,
    /// Just after the last character.
    pub(super) end_column: u32,
}

/// Is one file that was read.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The name to show: as the user gave it, or relative to the working directory where that is shorter.
    pub(super) shown: String,
    /// Its text.
    pub(super) text: String,
    /// Where each line begins.
    lines: Vec<u32>,
}

/// Holds every file of one load.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// Adds a file and returns its number.
    pub(super) fn add(&mut self, shown: String, text: String) -> FileId {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u32 + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        self.files.push(SourceFile { shown, text, lines });
        (self.files.len() - 1) as FileId
    }

    /// Returns a file.
    pub(super) fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id as usize)
    }
}

impl SourceFile {
    /// Returns a line (counted from 1) without its end.
    pub(super) fn line(&self, number: u32) -> &str {
        let index = number.saturating_sub(1) as usize;
        let Some(start) = self.lines.get(index) else { return "" };
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| *next as usize);
        self.text[*start as usize..end].trim_end_matches(['\n', '\r'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_files_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, word) in [(dir.path(), "a directory"), (&fifo, "a FIFO"), (Path::new("/dev/zero"), "device")] {
            assert!(read_text(path).unwrap_err().to_string().contains(word), "{}", path.display());
        }
        assert!(read_text(&dir.path().join("none")).unwrap_err().is_not_found());
    }

    #[test]
    fn sizes_and_encodings_are_checked() {
        let path = Path::new("f");
        assert!(matches!(decode(path, vec![b' '; (8 << 20) + 1]), Err(SourceError::TooBig { .. })));
        let error = decode(path, b"a: 1\nb: \xff".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "f:2:4: this byte is not UTF-8 text (0xff)");
        assert_eq!(decode(path, "\u{feff}a".into()).unwrap(), "a");
    }

    #[test]
    fn lines_are_found() {
        let mut sources = Sources::default();
        let id = sources.add("f".into(), "one\r\ntwo\n".into());
        let file = sources.file(id).unwrap();
        assert_eq!((file.line(1), file.line(2), file.line(3), file.line(9)), ("one", "two", "", ""));
    }
}
