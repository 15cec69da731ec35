use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::cursor::Cursor;
use super::error::LogError;
use super::frame::{Line, Stamp};
use super::generations::number_of;
use super::place::LogQuery;
use super::pump::wait_on;

/// After so many bytes a reader lets its caller look around.
const TURN: usize = 1 << 20;
/// So much of one line is shown before another container gets its turn.
const STICKY: usize = 1 << 20;

/// Names a source of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

impl SourceId {
    /// Names no source.
    pub(super) fn none() -> Self {
        Self(0)
    }

    /// Makes a name that no reader gave.
    #[cfg(test)]
    pub(super) fn for_tests(number: u64) -> Self {
        Self(number)
    }
}

/// Takes what a reader reads.
pub trait LogSink {
    /// Takes one record. Those of one source come in the order of its log.
    ///
    /// # Errors
    /// End the reading.
    fn line(&mut self, source: SourceId, line: &Line<'_>) -> io::Result<()>;

    /// Learns that nothing more is there now: what is held back should be shown.
    ///
    /// # Errors
    /// End the reading.
    fn caught_up(&mut self) -> io::Result<()>;
}

/// Says whether a reader has more at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    More,
    /// All that is there now was read.
    CaughtUp,
}

/// Reads the logs of several containers as one, by time, and follows them as they grow.
#[derive(Debug)]
pub struct LogReader {
    query: LogQuery,
    sources: BTreeMap<SourceId, Source>,
    last_id: u64,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Source {
    cursor: Cursor,
    watch: Option<i32>,
    /// Whether everything was read when last looked at, and nothing was reported since.
    idle: bool,
    /// Whether it goes when it is read to its end.
    leaving: bool,
}

/// Is one inotify instance for all sources (inotify(7)).
#[derive(Debug)]
struct Watch {
    fd: AsyncFd<OwnedFd>,
}

impl LogReader {
    /// Makes a reader of what is there; it cannot wait for more.
    pub fn new(query: LogQuery) -> Self {
        Self { query, sources: BTreeMap::new(), last_id: 0, watch: None }
    }

    /// Makes a reader that can follow. To be called within a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`LogError::Watch`].
    pub fn following(query: LogQuery) -> Result<Self, LogError> {
        let failed = |source| LogError::Watch { path: PathBuf::from("logs"), source };
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let fd = wait_on(fd).map_err(failed)?;
        Ok(Self { watch: Some(Watch { fd }), ..Self::new(query) })
    }

    /// Adds a container's log, which may have no file yet, but must have its directory if the reader follows.
    ///
    /// # Errors
    /// [`LogError::Watch`] and [`LogError::Read`].
    pub fn add_source(&mut self, directory: &Path) -> Result<SourceId, LogError> {
        self.add_source_from(directory, self.query)
    }

    /// Adds a log of which another part is wanted: all of it, say, where the container was made while we followed.
    ///
    /// # Errors
    /// As [`LogReader::add_source`].
    pub fn add_source_from(&mut self, directory: &Path, query: LogQuery) -> Result<SourceId, LogError> {
        // Watched before it is read: what comes between is read twice by nobody and missed by nobody.
        let watch = self.watch.as_ref().map(|watch| watch.add(directory)).transpose()?;
        let cursor = Cursor::new(directory, query)?;
        self.last_id += 1;
        let id = SourceId(self.last_id);
        self.sources.insert(id, Source { cursor, watch, idle: false, leaving: false });
        Ok(id)
    }

    /// Removes a source once what is there of it was read.
    pub fn remove_source(&mut self, id: SourceId) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.leaving = true;
            source.idle = false;
        }
    }

    /// Makes the next read look at every source, whether anything was reported of it or not: for a last read, and for who
    /// knows from elsewhere that something was written.
    pub fn look_again(&mut self) {
        for source in self.sources.values_mut() {
            source.idle = false;
        }
    }

    /// Says whether no source is left.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Says whether no source can have more, because all are past the query's `until`.
    pub fn has_ended(&self) -> bool {
        self.sources.values().all(|source| source.cursor.has_ended())
    }

    /// Reads what is there, for at most about a mebibyte.
    ///
    /// # Errors
    /// [`LogError::Read`], and [`LogError::Show`] for an error of the sink.
    pub fn read(&mut self, sink: &mut impl LogSink) -> Result<Progress, LogError> {
        let mut budget = TURN;
        while budget > 0 {
            let Some((id, bound)) = self.choose()? else {
                self.let_go();
                sink.caught_up().map_err(LogError::Show)?;
                return Ok(Progress::CaughtUp);
            };
            if let Some(source) = self.sources.get_mut(&id) {
                let read = source.read_run(id, bound, budget, sink)?;
                budget = budget.saturating_sub(read);
            }
        }
        Ok(Progress::More)
    }

    /// Waits until something was written or a source was removed. Cancel-safe.
    ///
    /// # Errors
    /// [`LogError::Watch`]; a reader that cannot follow waits for ever.
    pub async fn changed(&mut self) -> Result<(), LogError> {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let failed = |source| LogError::Watch { path: PathBuf::from("logs"), source };
        loop {
            let mut guard = watch.fd.readable().await.map_err(failed)?;
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(guard.get_inner(), &mut space);
            let mut any = false;
            loop {
                match events.next() {
                    Ok(event) => any |= note_event(&mut self.sources, &event),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(failed(errno.into())),
                }
            }
            if any {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    /// Reads and waits for ever, or until an error or the end of what the query wants.
    ///
    /// # Errors
    /// As [`LogReader::read`] and [`LogReader::changed`].
    pub async fn follow(&mut self, sink: &mut impl LogSink) -> Result<(), LogError> {
        loop {
            while self.read(sink)? == Progress::More {
                tokio::task::yield_now().await;
            }
            if self.has_ended() && !self.is_empty() {
                return Ok(());
            }
            self.changed().await?;
        }
    }

    /// Chooses the source with the earliest record, and says until when it may go on before the next one's turn.
    fn choose(&mut self) -> Result<Option<(SourceId, Bound)>, LogError> {
        let (mut best, mut second): (Option<(Stamp, SourceId)>, Bound) = (None, None);
        for (id, source) in self.sources.iter_mut().filter(|(_, source)| !source.idle) {
            let Some(stamp) = source.cursor.peek()? else {
                source.idle = true;
                continue;
            };
            let key = (stamp, *id);
            if best.is_none_or(|best| key < best) {
                second = best;
                best = Some(key);
            } else if second.is_none_or(|second| key < second) {
                second = Some(key);
            }
        }
        Ok(best.map(|(_, id)| (id, second)))
    }

    /// Drops the sources that were to go and are read to their end.
    fn let_go(&mut self) {
        let watch = self.watch.as_ref();
        self.sources.retain(|_, source| {
            let stays = !(source.leaving && source.idle);
            if let (false, Some(watch), Some(number)) = (stays, watch, source.watch) {
                // The directory may be gone, and its watch with it.
                let _ = inotify::remove_watch(&watch.fd, number);
            }
            stays
        });
    }
}

/// Is the first record that belongs to another source.
type Bound = Option<(Stamp, SourceId)>;

impl Source {
    /// Reads records as long as they come before the bound; returns how many bytes they had.
    fn read_run(
        &mut self,
        id: SourceId,
        bound: Bound,
        budget: usize,
        sink: &mut impl LogSink,
    ) -> Result<usize, LogError> {
        let mut read = 0;
        let mut line_so_far = 0;
        while let Some(stamp) = self.cursor.peek()? {
            // Within a line that comes in parts the source keeps its turn, so that no other's line cuts it.
            let within_line = line_so_far > 0 && line_so_far < STICKY;
            if !within_line && (read >= budget || bound.is_some_and(|bound| (stamp, id) > bound)) {
                return Ok(read);
            }
            let Some(line) = self.cursor.line() else { break };
            sink.line(id, &line).map_err(LogError::Show)?;
            line_so_far = if line.partial { line_so_far + line.text.len().max(1) } else { 0 };
            read += line.text.len() + 1;
            self.cursor.advance();
        }
        self.idle = true;
        Ok(read)
    }
}

impl Watch {
    fn add(&self, directory: &Path) -> Result<i32, LogError> {
        let wanted = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.fd, directory, wanted)
            .map_err(|errno| LogError::Watch { path: directory.to_owned(), source: errno.into() })
    }
}

/// Wakes the sources that an event is about; says whether there are any.
fn note_event(sources: &mut BTreeMap<SourceId, Source>, event: &inotify::Event<'_>) -> bool {
    // More happened than the kernel remembers: anything may have changed.
    let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
    let named = event.file_name().is_some_and(|name| number_of(name.to_bytes()).is_some());
    let appeared = overflow || event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
    let mut any = false;
    for source in sources.values_mut() {
        if overflow || (named && source.watch == Some(event.wd())) {
            if appeared {
                source.cursor.suspect_replacement();
            }
            source.idle = false;
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Stream, Tail};
    use super::super::writer::{LogWriter, Rotation};
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    /// Collects texts with the number of their source.
    #[derive(Default)]
    struct Collected {
        lines: Vec<(SourceId, String)>,
        caught_up: usize,
    }

    impl LogSink for Collected {
        fn line(&mut self, source: SourceId, line: &Line<'_>) -> io::Result<()> {
            self.lines.push((source, String::from_utf8_lossy(line.text).into_owned()));
            Ok(())
        }

        fn caught_up(&mut self) -> io::Result<()> {
            self.caught_up += 1;
            Ok(())
        }
    }

    impl Collected {
        fn texts(&self) -> Vec<&str> {
            self.lines.iter().map(|(_, text)| &text[..]).collect()
        }
    }

    fn at(millis: u64) -> Stamp {
        (SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)).into()
    }

    fn put(writer: &mut LogWriter, millis: u64, text: &str) {
        writer.append(Stream::Stdout, text.as_bytes(), &at(millis), Tail::Part);
    }

    fn log() -> (tempfile::TempDir, LogWriter) {
        let dir = tempfile::tempdir().unwrap();
        let writer = LogWriter::open(dir.path(), None).unwrap();
        (dir, writer)
    }

    fn read_all(reader: &mut LogReader, sink: &mut Collected) {
        while reader.read(sink).unwrap() == Progress::More {}
    }

    #[test]
    fn logs_are_merged_by_time_and_lines_kept_whole() {
        let ((a, mut wa), (b, mut wb)) = (log(), log());
        put(&mut wa, 1, "a1\na2\n");
        put(&mut wb, 2, "b1\n");
        put(&mut wa, 3, "a3 ");
        put(&mut wb, 4, "b2\n");
        put(&mut wa, 5, "a4\n");
        put(&mut wb, 5, "b3\n");
        let mut reader = LogReader::new(LogQuery::default());
        reader.add_source(a.path()).unwrap();
        reader.add_source(b.path()).unwrap();
        let mut sink = Collected::default();
        read_all(&mut reader, &mut sink);
        assert_eq!(sink.texts(), ["a1", "a2", "b1", "a3 ", "a4", "b2", "b3"]);
        assert_eq!(sink.caught_up, 1);
    }

    #[test]
    fn a_query_bounds_what_is_read() {
        let (a, mut writer) = log();
        for n in 0..10 {
            put(&mut writer, n, &format!("{n}\n"));
        }
        let read = |query| {
            let mut reader = LogReader::new(query);
            reader.add_source(a.path()).unwrap();
            let mut sink = Collected::default();
            read_all(&mut reader, &mut sink);
            (sink.texts().concat(), reader.has_ended())
        };
        assert_eq!(read(LogQuery { since: Some(at(7)), ..LogQuery::default() }), ("789".to_owned(), false));
        assert_eq!(read(LogQuery { until: Some(at(2)), ..LogQuery::default() }), ("012".to_owned(), true));
        assert_eq!(read(LogQuery { tail: Some(4), since: Some(at(3)), until: Some(at(8)) }), ("678".to_owned(), true));
    }

    #[test]
    fn what_is_no_record_is_shown_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let garbage = [&b"not ours\n\n"[..], &[b'z'; 200_000], b"\nhalf"].concat();
        fs::write(dir.path().join("log"), &garbage).unwrap();
        let mut reader = LogReader::new(LogQuery::default());
        reader.add_source(dir.path()).unwrap();
        let mut sink = Collected::default();
        read_all(&mut reader, &mut sink);
        assert_eq!(sink.texts()[..2], ["not ours", ""]);
        assert_eq!(sink.texts()[2..].concat().len(), 200_000);
    }

    #[tokio::test]
    async fn a_follower_sees_each_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = LogReader::following(LogQuery::default()).unwrap();
        let source = reader.add_source(dir.path()).unwrap();
        let mut sink = Collected::default();
        read_all(&mut reader, &mut sink);
        let mut writer = LogWriter::open(dir.path(), None).unwrap();
        for n in 0..50 {
            put(&mut writer, n, &format!("{n}\n"));
            while sink.lines.len() <= usize::try_from(n).unwrap() {
                reader.changed().await.unwrap();
                read_all(&mut reader, &mut sink);
            }
            assert_eq!(sink.lines.last().unwrap().1, n.to_string());
        }
        put(&mut writer, 50, "last\n");
        reader.remove_source(source);
        read_all(&mut reader, &mut sink);
        assert!(reader.is_empty());
        assert_eq!(sink.lines.last().unwrap().1, "last");
    }

    #[tokio::test]
    async fn a_follower_goes_with_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_size: 300, max_files: 2 };
        let mut writer = LogWriter::open(dir.path(), Some(rotation)).unwrap();
        let mut reader = LogReader::following(LogQuery::default()).unwrap();
        reader.add_source(dir.path()).unwrap();
        let mut sink = Collected::default();
        for n in 0..200 {
            put(&mut writer, n, &format!("{n}\n"));
            reader.changed().await.unwrap();
            read_all(&mut reader, &mut sink);
        }
        let expected: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        assert_eq!(sink.texts(), expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_follower_that_missed_a_file_says_how_much() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_size: 300, max_files: 2 };
        let mut writer = LogWriter::open(dir.path(), Some(rotation)).unwrap();
        put(&mut writer, 0, "first\n");
        let mut reader = LogReader::following(LogQuery::default()).unwrap();
        reader.add_source(dir.path()).unwrap();
        let mut sink = Collected::default();
        read_all(&mut reader, &mut sink);
        for n in 1..100 {
            put(&mut writer, n, &format!("{n}\n"));
        }
        reader.changed().await.unwrap();
        read_all(&mut reader, &mut sink);
        let gone: Vec<&str> = sink.texts().into_iter().filter(|text| text.contains("gone")).collect();
        assert_eq!(gone.len(), 1, "{:?}", sink.texts());
        let bytes: u64 = gone[0].split(' ').next().unwrap().parse().unwrap();
        assert!(bytes > 3000 && bytes < 6000, "{bytes}");
        assert_eq!(sink.lines.last().unwrap().1, "99");
    }

    #[tokio::test]
    async fn an_emptied_and_a_replaced_file_are_read_anew() {
        let (dir, mut writer) = log();
        put(&mut writer, 0, "a long first line, longer than what follows\n");
        let mut reader = LogReader::following(LogQuery::default()).unwrap();
        reader.add_source(dir.path()).unwrap();
        let mut sink = Collected::default();
        read_all(&mut reader, &mut sink);
        fs::File::options().write(true).open(dir.path().join("log")).unwrap().set_len(0).unwrap();
        put(&mut writer, 1, "emptied\n");
        reader.changed().await.unwrap();
        read_all(&mut reader, &mut sink);
        assert_eq!(sink.lines.last().unwrap().1, "emptied");
        fs::remove_file(dir.path().join("log")).unwrap();
        let mut writer = LogWriter::open(dir.path(), None).unwrap();
        put(&mut writer, 2, "replaced\n");
        while sink.lines.last().unwrap().1 != "replaced" {
            reader.changed().await.unwrap();
            read_all(&mut reader, &mut sink);
        }
        assert_eq!(sink.lines.len(), 3);
    }
}
