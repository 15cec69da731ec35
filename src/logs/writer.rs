use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::frame::{Line, Stamp, Stream, Tail, frame, frame_line};
use super::generations::{list, name_of, path_of};
use super::mend::{end_earlier, mend, open_generation, opened_at};
use super::open_lines::OpenLines;

/// The most that is formatted before it is written: the formatted text of many short lines is far longer than they.
const BATCH: usize = 512 * 1024;

/// Says when a log goes on in a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file that has so many bytes or more is ended (`max-size`).
    pub max_size: u64,
    /// So many files are kept, at least one (`max-file`).
    pub max_files: u64,
}

/// Says what is kept of a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// All of it, in one file.
    Everything,
    /// The end of it, in several.
    Rotated(Rotation),
    /// Nothing: it is read, so that the container can go on writing, and forgotten.
    Nothing,
}

/// Appends one container's output to its log. There is one writer a log, and many readers.
///
/// It never fails and never waits for room: what cannot be written is counted, and the count is written when it can be.
#[derive(Debug)]
pub struct LogWriter {
    directory: PathBuf,
    file: File,
    generation: u64,
    /// The bytes of the file; only rotation relies on it.
    length: u64,
    /// The bytes of all earlier files.
    before: u64,
    rotation: Option<Rotation>,
    open: OpenLines,
    loss: Option<Loss>,
    /// Formatted records on their way to the file.
    batch: Vec<u8>,
}

/// Counts output that could not be written and was not reported yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loss {
    bytes: u64,
    errno: Option<i32>,
}

impl LogWriter {
    /// Opens a container's log for appending; makes it if need be. The directory must be there.
    ///
    /// A record that a killed writer left half-written is ended first.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn open(directory: &Path, rotation: Option<Rotation>) -> Result<Self, LogError> {
        let failed = |source| LogError::Open { path: directory.to_owned(), source };
        let generations = list(directory).map_err(failed)?;
        let generation = generations.last().copied().unwrap_or(0);
        if let [.., earlier, last] = generations[..] {
            end_earlier(directory, earlier, last).map_err(failed)?;
        }
        let mut file = open_generation(directory, generation).map_err(failed)?;
        let open = mend(&mut file).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let before = opened_at(&mut file).map_err(failed)?;
        let directory = directory.to_owned();
        Ok(Self { directory, file, generation, length, before, rotation, open, loss: None, batch: Vec::new() })
    }

    /// Opens what takes everything and keeps nothing.
    ///
    /// # Errors
    /// [`LogError::Open`]: a host without /dev/null.
    pub fn nowhere() -> Result<Self, LogError> {
        let directory = PathBuf::from("/dev/null");
        let file = File::options().read(true).append(true).open(&directory);
        let file = file.map_err(|source| LogError::Open { path: directory.clone(), source })?;
        let (open, batch) = (OpenLines::default(), Vec::new());
        Ok(Self { directory, file, generation: 0, length: 0, before: 0, rotation: None, open, loss: None, batch })
    }

    /// Appends what is whole of a chunk and returns how many bytes were taken; `tail` says what becomes of the rest.
    pub fn append(&mut self, stream: Stream, chunk: &[u8], stamp: &Stamp, tail: Tail) -> usize {
        let mut batch = std::mem::take(&mut self.batch);
        let taken = self.append_with(&mut batch, stream, chunk, stamp, tail);
        self.batch = batch;
        taken
    }

    /// Does what [`LogWriter::append`] does, formatting in `batch`: writers of one thread can share its memory.
    pub fn append_with(
        &mut self,
        batch: &mut Vec<u8>,
        stream: Stream,
        chunk: &[u8],
        stamp: &Stamp,
        tail: Tail,
    ) -> usize {
        let mut taken = 0;
        while taken < chunk.len() {
            let room = self.room(stamp);
            batch.clear();
            let notice = self.frame_notice(stamp, batch);
            let limit = batch.len() + room;
            let framed = frame(stream, &chunk[taken..], stamp, tail, limit, batch);
            if framed.taken == 0 {
                break;
            }
            if self.write(batch, notice) {
                self.open.set(stream, framed.open);
            }
            taken += framed.taken;
        }
        taken
    }

    /// Appends a record of ours.
    pub fn note(&mut self, text: &str, stamp: &Stamp) {
        let mut batch = Vec::new();
        let notice = self.frame_notice(stamp, &mut batch);
        frame_line(Stream::Notice, text.replace('\n', " ").as_bytes(), stamp, &mut batch);
        self.write(&batch, notice);
    }

    /// Ends a stream's open line, if it has one: nothing more comes from it.
    pub fn close(&mut self, stream: Stream, stamp: &Stamp) {
        let mut only = OpenLines::default();
        only.set(
            stream,
            (stream == Stream::Stdout && self.open.stdout) || (stream == Stream::Stderr && self.open.stderr),
        );
        let mut batch = Vec::new();
        only.close(stamp, &mut batch);
        if !batch.is_empty() && self.write(&batch, 0) {
            self.open.set(stream, false);
        }
    }

    /// Says whether output was lost that the log does not tell of yet.
    pub fn has_unreported_loss(&self) -> bool {
        self.loss.is_some()
    }

    /// Tries to write down how much was lost; says whether nothing is left to report.
    pub fn report_loss(&mut self, stamp: &Stamp) -> bool {
        let mut batch = Vec::new();
        let notice = self.frame_notice(stamp, &mut batch);
        notice == 0 || self.write(&batch, notice)
    }

    /// Frames the report of what was lost, if anything was, and returns its length.
    fn frame_notice(&self, stamp: &Stamp, batch: &mut Vec<u8>) -> usize {
        let Some(loss) = self.loss else { return 0 };
        let start = batch.len();
        // The rest of an open line is among what was lost: what follows must not seem to belong to it.
        self.open.close(stamp, batch);
        let cause =
            loss.errno.map_or_else(|| "short write".to_owned(), |n| io::Error::from_raw_os_error(n).to_string());
        frame_line(
            Stream::Notice,
            format!("{} bytes of output lost here: {cause}", loss.bytes).as_bytes(),
            stamp,
            batch,
        );
        batch.len() - start
    }

    /// Writes records, the first `notice` bytes of which report a loss. Says whether all were written.
    fn write(&mut self, batch: &[u8], notice: usize) -> bool {
        let (written, error) = write_some(&self.file, batch);
        self.length += written as u64;
        let Some(error) = error else {
            if let Some(loss) = self.loss.take() {
                self.open = OpenLines::default();
                tracing::info!(log = %self.directory.display(), bytes = loss.bytes, "the log is written again");
            }
            return true;
        };
        let whole = memchr::memrchr(b'\n', &batch[..written]).map_or(0, |at| at + 1);
        self.cut((written - whole) as u64);
        self.open.follow(&batch[..whole]);
        if notice > 0 && whole >= notice {
            self.loss = None;
        }
        let lost = payload(&batch[whole.max(notice)..]);
        if self.loss.is_none() {
            tracing::warn!(log = %self.directory.display(), %error, "output is lost: the log cannot be written");
        }
        let bytes = self.loss.map_or(0, |loss| loss.bytes) + lost;
        self.loss = Some(Loss { bytes, errno: error.raw_os_error() });
        false
    }

    /// Takes the beginning of a record away from the end of the file.
    fn cut(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        // Shortening needs no room. Where it fails all the same, `mend` ends the record when the log is next opened.
        if let Ok(length) = self.file.metadata().map(|found| found.len().saturating_sub(bytes)) {
            let _ = self.file.set_len(length);
            self.length = length;
        }
    }

    /// Returns how many bytes fit into the file, at least one, after turning to a new file where this one is full.
    fn room(&mut self, stamp: &Stamp) -> usize {
        let Some(rotation) = self.rotation else { return BATCH };
        if self.length >= rotation.max_size
            && let Err(error) = self.rotate(rotation, stamp)
        {
            // A log that is too long is better than none.
            tracing::debug!(log = %self.directory.display(), %error, "the log goes on in its file");
            return BATCH;
        }
        usize::try_from(rotation.max_size.saturating_sub(self.length)).unwrap_or(BATCH).clamp(1, BATCH)
    }

    /// Turns to the next file. It is there before the old one names it, so that a follower finds it at once.
    fn rotate(&mut self, rotation: Rotation, stamp: &Stamp) -> io::Result<()> {
        let next = self.generation + 1;
        let mut last = Vec::new();
        frame_line(Stream::Rotate, name_of(next).as_bytes(), stamp, &mut last);
        let before = self.before + self.length + last.len() as u64;
        let mut first = Vec::new();
        frame_line(Stream::Opened, before.to_string().as_bytes(), stamp, &mut first);
        let file = open_generation(&self.directory, next)?;
        let ended =
            file.set_len(0).and_then(|()| (&file).write_all(&first)).and_then(|()| (&self.file).write_all(&last));
        if let Err(error) = ended {
            self.mend_after(last.len());
            let _ = fs::remove_file(path_of(&self.directory, next));
            return Err(error);
        }
        (self.file, self.generation, self.length, self.before) = (file, next, first.len() as u64, before);
        for old in list(&self.directory)? {
            if old + rotation.max_files.max(1) <= next {
                fs::remove_file(path_of(&self.directory, old))?;
            }
        }
        Ok(())
    }

    /// Takes the beginning of a last record away again.
    fn mend_after(&mut self, at_most: usize) {
        if let Ok(found) = self.file.metadata()
            && found.len() > self.length
            && found.len() - self.length <= at_most as u64
        {
            let _ = self.file.set_len(self.length);
        }
    }
}

/// Writes until an error; a loop, as a full disk and a signal cut writes short.
fn write_some(mut file: &File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Counts the bytes of output in records: texts, and a newline for each whole line.
fn payload(records: &[u8]) -> u64 {
    let lines = records.split(|b| *b == b'\n').filter_map(Line::parse);
    let output = lines.filter(|line| matches!(line.stream, Stream::Stdout | Stream::Stderr));
    output.map(|line| line.text.len() as u64 + u64::from(!line.partial)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::frame::PART;

    fn texts(directory: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for generation in list(directory).unwrap() {
            let bytes = fs::read(path_of(directory, generation)).unwrap();
            for line in bytes.split_inclusive(|b| *b == b'\n') {
                let line = Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
                let word = std::str::from_utf8(line.stream.word()).unwrap();
                let tag = if line.partial { 'P' } else { 'F' };
                all.push(format!("{word} {tag} {}", String::from_utf8_lossy(line.text)));
            }
        }
        all
    }

    #[test]
    fn runs_append_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        for run in ["one\n", "two\n"] {
            let mut writer = LogWriter::open(dir.path(), None).unwrap();
            assert_eq!(writer.append(Stream::Stdout, run.as_bytes(), &Stamp::now(), Tail::Keep), 4);
        }
        assert_eq!(texts(dir.path()), ["stdout F one", "stdout F two"]);
    }

    #[test]
    fn a_killed_writer_s_last_record_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), None).unwrap();
        writer.append(Stream::Stdout, b"one\nab", &Stamp::now(), Tail::Part);
        let whole = fs::read(dir.path().join("log")).unwrap();
        for cut in 1..whole.len() {
            fs::write(dir.path().join("log"), &whole[..cut]).unwrap();
            let mut writer = LogWriter::open(dir.path(), None).unwrap();
            writer.close(Stream::Stdout, &Stamp::now());
            let found = texts(dir.path());
            assert!(
                found.iter().all(|line| !line.starts_with("stdout P") || line.contains('a') || line.ends_with("P "))
            );
            assert!(found.last().is_none_or(|line| line.starts_with("stdout F")), "{found:?}");
        }
    }

    #[test]
    fn an_open_line_is_ended_by_close() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), None).unwrap();
        writer.append(Stream::Stderr, b"> ", &Stamp::now(), Tail::Part);
        writer.close(Stream::Stdout, &Stamp::now());
        writer.close(Stream::Stderr, &Stamp::now());
        writer.close(Stream::Stderr, &Stamp::now());
        writer.note("stopped\nhere", &Stamp::now());
        assert_eq!(texts(dir.path()), ["stderr P > ", "stderr F ", "notice F stopped here"]);
    }

    #[test]
    fn files_are_ended_by_size_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_size: 200, max_files: 3 };
        let mut writer = LogWriter::open(dir.path(), Some(rotation)).unwrap();
        let input: String = (0..40).map(|n| format!("line {n}\n")).collect();
        writer.append(Stream::Stdout, input.as_bytes(), &Stamp::now(), Tail::Keep);
        let kept = list(dir.path()).unwrap();
        assert_eq!(kept.len(), 3);
        let found = texts(dir.path());
        assert_eq!(found.last().unwrap(), "stdout F line 39");
        let trailers = found.iter().filter(|line| line.starts_with("rotate")).count();
        assert_eq!(trailers, 2);
        for pair in kept.windows(2) {
            let size = |n| fs::metadata(path_of(dir.path(), n)).unwrap().len();
            let at = |n| opened_at(&mut File::open(path_of(dir.path(), n)).unwrap()).unwrap();
            assert_eq!(at(pair[1]), at(pair[0]) + size(pair[0]));
            assert!(size(pair[0]) < 200 + 100);
        }
        let before = writer.before;
        drop(writer);
        assert_eq!(LogWriter::open(dir.path(), Some(rotation)).unwrap().before, before);
    }

    #[test]
    fn a_missing_last_record_is_written_at_the_next_open() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log"), "").unwrap();
        fs::write(dir.path().join("log.1"), "").unwrap();
        LogWriter::open(dir.path(), None).unwrap();
        LogWriter::open(dir.path(), None).unwrap();
        assert_eq!(texts(dir.path()), ["rotate F log.1"]);
    }

    #[test]
    fn payload_counts_newlines_of_whole_lines() {
        let mut records = Vec::new();
        frame(Stream::Stdout, b"ab\n\nc", &Stamp::now(), Tail::Part, usize::MAX, &mut records);
        frame_line(Stream::Notice, b"not output", &Stamp::now(), &mut records);
        assert_eq!(payload(&records), 5);
    }

    /// Runs in a thread with a mount namespace of its own, on a file system that holds `kib`.
    fn on_small_disk(kib: usize, test: impl FnOnce(&Path) + Send + 'static) {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().to_owned();
        let thread = std::thread::spawn(move || {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            let size = format!("size={kib}k");
            mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(&size[..])).unwrap();
            test(&path);
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_full_disk_costs_output_and_the_log_says_how_much() {
        on_small_disk(64, |dir| {
            fs::write(dir.join("ballast"), vec![0; 40 * 1024]).unwrap();
            let mut writer = LogWriter::open(dir, None).unwrap();
            let mut written = 0;
            for n in 0..1000 {
                let line = format!("line {n:04}\n");
                assert_eq!(writer.append(Stream::Stdout, line.as_bytes(), &Stamp::now(), Tail::Keep), line.len());
                written += line.len() as u64;
            }
            assert!(writer.has_unreported_loss() && !writer.report_loss(&Stamp::now()));
            fs::remove_file(dir.join("ballast")).unwrap();
            assert!(writer.report_loss(&Stamp::now()));
            writer.append(Stream::Stdout, b"back\n", &Stamp::now(), Tail::Keep);
            let found = texts(dir);
            assert_eq!(found.last().unwrap(), "stdout F back");
            let notice = &found[found.len() - 2];
            let lost: u64 = notice.strip_prefix("notice F ").unwrap().split(' ').next().unwrap().parse().unwrap();
            let kept: u64 =
                found[..found.len() - 2].iter().map(|l| l.len() as u64 - "stdout F ".len() as u64 + 1).sum();
            assert!(lost > 0 && kept > 0);
            assert_eq!(lost + kept, written);
        });
    }

    #[test]
    fn a_line_that_was_cut_by_a_full_disk_is_ended() {
        on_small_disk(64, |dir| {
            let mut writer = LogWriter::open(dir, None).unwrap();
            writer.append(Stream::Stderr, b"begun ", &Stamp::now(), Tail::Part);
            fs::write(dir.join("ballast"), vec![0; 60 * 1024]).unwrap();
            writer.append(Stream::Stderr, &[b'x'; 3 * PART], &Stamp::now(), Tail::Part);
            fs::remove_file(dir.join("ballast")).unwrap();
            writer.append(Stream::Stderr, b"after\n", &Stamp::now(), Tail::Keep);
            let found = texts(dir);
            let (last, before) = found.split_last().unwrap();
            assert_eq!(last, "stderr F after");
            assert_eq!(before[before.len() - 2], "stderr F ", "the open line ends before the notice");
            assert!(before.last().unwrap().starts_with("notice F 49152 bytes"), "{before:?}");
        });
    }

    #[test]
    fn a_file_that_cannot_be_followed_by_another_grows_on() {
        on_small_disk(64, |dir| {
            let mut writer = LogWriter::open(dir, Some(Rotation { max_size: 300, max_files: 2 })).unwrap();
            // A directory in the place of the next file.
            fs::create_dir(dir.join("log.1")).unwrap();
            for n in 0..20 {
                writer.append(Stream::Stdout, format!("{n}\n").as_bytes(), &Stamp::now(), Tail::Keep);
            }
            fs::remove_dir(dir.join("log.1")).unwrap();
            writer.append(Stream::Stdout, b"next\n", &Stamp::now(), Tail::Keep);
            assert_eq!(list(dir).unwrap(), [0, 1]);
            let found = texts(dir);
            assert_eq!(found.iter().filter(|line| line.starts_with("stdout")).count(), 21);
        });
    }
}
