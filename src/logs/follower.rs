use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::error::LogError;
use super::follow::{LogReader, LogSink, Progress, SourceId};
use super::frame::{Line, Stamp, Stream};
use super::mux::Mux;
use super::place::LogQuery;

/// Follows logs and shows them in a thread of its own: a terminal that is stopped or a pipe that is full holds up that
/// thread, and its owner still answers to Ctrl-C.
#[derive(Debug)]
pub struct Follower {
    requests: mpsc::UnboundedSender<Request>,
    ended: oneshot::Receiver<Result<(), LogError>>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Add { name: String, directory: PathBuf, query: LogQuery },
    Remove { directory: PathBuf },
    Say { text: String },
    Finish,
}

impl Follower {
    /// Starts the thread, which shows on `mux`.
    ///
    /// # Errors
    /// [`LogError::Thread`].
    pub fn start<W: Write + Send + 'static>(mux: Mux<W>) -> Result<Self, LogError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(LogError::Thread)?;
        // Not bounded: a sender that waits for a stopped terminal is what this thread is there to prevent; there is one
        // request for each event in the life of a container.
        let (requests, inbox) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || {
                let result = runtime.block_on(serve(inbox, mux));
                // Nobody may wait for it any more.
                let _ = end.send(result);
            })
            .map_err(LogError::Thread)?;
        Ok(Self { requests, ended, thread: Some(thread) })
    }

    /// Adds the log in a container's directory, shown as `name`.
    pub fn add(&self, name: &str, directory: &Path, query: LogQuery) {
        self.ask(Request::Add { name: name.to_owned(), directory: directory.to_owned(), query });
    }

    /// Removes a log when what is there of it was shown.
    pub fn remove(&self, directory: &Path) {
        self.ask(Request::Remove { directory: directory.to_owned() });
    }

    /// Prints a line of the caller's, after what containers wrote before.
    pub fn say(&self, text: &str) {
        self.ask(Request::Say { text: text.to_owned() });
    }

    /// Waits until the following ends by itself: the output is closed, or all logs are past their query's `until`.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`LogError::Show`] for an error of the output, [`LogError::Read`] and [`LogError::Watch`].
    pub async fn ended(&mut self) -> Result<(), LogError> {
        (&mut self.ended).await.unwrap_or(Ok(()))
    }

    /// Shows what is there and ends.
    ///
    /// # Errors
    /// As [`Follower::ended`].
    pub async fn finish(mut self) -> Result<(), LogError> {
        self.ask(Request::Finish);
        let result = self.ended().await;
        if let Some(thread) = self.thread.take() {
            // It has said its last word. A panic in it was printed by its hook.
            let _ = thread.join();
        }
        result
    }

    /// Sends a request; a thread that has ended needs none.
    fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}

async fn serve<W: Write>(mut inbox: mpsc::UnboundedReceiver<Request>, mux: Mux<W>) -> Result<(), LogError> {
    let mut show = Show { reader: LogReader::following(LogQuery::default())?, mux, shown: Vec::new() };
    loop {
        tokio::select! {
            biased;
            request = inbox.recv() => match request {
                Some(Request::Finish) | None => return show.finish(),
                Some(request) => show.take(request)?,
            },
            changed = show.reader.changed() => changed?,
        }
        while show.reader.read(&mut show.mux)? == Progress::More && inbox.is_empty() {}
        if show.reader.has_ended() && !show.reader.is_empty() && inbox.is_empty() {
            return show.finish();
        }
    }
}

struct Show<W> {
    reader: LogReader,
    mux: Mux<W>,
    shown: Vec<(PathBuf, SourceId)>,
}

impl<W: Write> Show<W> {
    fn take(&mut self, request: Request) -> Result<(), LogError> {
        match request {
            Request::Add { name, directory, query } => self.add(&name, directory, query)?,
            Request::Remove { directory } => {
                if let Some(at) = self.shown.iter().position(|(known, _)| *known == directory) {
                    let (_, id) = self.shown.swap_remove(at);
                    self.reader.remove_source(id);
                    self.catch_up()?;
                    self.mux.remove_name(id).map_err(LogError::Show)?;
                }
            }
            Request::Say { text } => {
                self.catch_up()?;
                self.mux.say(&text).map_err(LogError::Show)?;
            }
            Request::Finish => {}
        }
        Ok(())
    }

    fn add(&mut self, name: &str, directory: PathBuf, query: LogQuery) -> Result<(), LogError> {
        if self.shown.iter().any(|(known, _)| *known == directory) {
            return Ok(());
        }
        match self.reader.add_source_from(&directory, query) {
            Ok(id) => {
                self.mux.add_name(id, name);
                self.shown.push((directory, id));
                Ok(())
            }
            // One log that cannot be read is no reason to stop showing the others.
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                let text = format!("{name}: cannot {error}{}", source.unwrap_or_default());
                let line = Line { stamp: Stamp::now(), stream: Stream::Notice, partial: false, text: text.as_bytes() };
                self.mux.line(SourceId::none(), &line).map_err(LogError::Show)
            }
        }
    }

    /// Shows all that is in the files now. What the kernel has not reported yet counts too: the caller learnt on another
    /// way that a container has ended, and its last lines belong before what is said of it.
    fn catch_up(&mut self) -> Result<(), LogError> {
        self.reader.look_again();
        while self.reader.read(&mut self.mux)? == Progress::More {}
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LogError> {
        self.catch_up()?;
        self.mux.finish().map_err(LogError::Show)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Tail;
    use super::super::mux::MuxOptions;
    use super::super::writer::LogWriter;
    use super::*;
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};

    fn follower() -> (Follower, BufReader<File>) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mux = Mux::new(File::from(writer), MuxOptions::default());
        (Follower::start(mux).unwrap(), BufReader::new(File::from(reader)))
    }

    fn put(writer: &mut LogWriter, text: &str) {
        writer.append(Stream::Stdout, text.as_bytes(), &Stamp::now(), Tail::Keep);
    }

    fn next(output: &mut BufReader<File>) -> String {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    }

    #[tokio::test]
    async fn what_was_written_before_the_end_is_shown_before_it() {
        for round in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = LogWriter::open(dir.path(), None).unwrap();
            let (follower, mut output) = follower();
            follower.add("web", dir.path(), LogQuery::default());
            put(&mut writer, "first\n");
            assert_eq!(next(&mut output), "web  | first\n");
            put(&mut writer, "last\n");
            follower.say("web exited");
            assert_eq!(
                (next(&mut output), next(&mut output)),
                ("web  | last\n".into(), "web exited\n".into()),
                "{round}"
            );
            put(&mut writer, "later\n");
            follower.finish().await.unwrap();
            assert_eq!(next(&mut output), "web  | later\n", "{round}");
        }
    }

    #[tokio::test]
    async fn containers_come_and_go() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (follower, mut output) = follower();
        let mut writer = LogWriter::open(a.path(), None).unwrap();
        put(&mut writer, "before\n");
        follower.add("web-1", a.path(), LogQuery::default());
        follower.add("web-1", a.path(), LogQuery::default());
        assert_eq!(next(&mut output), "web-1  | before\n");
        put(&mut writer, "after\n");
        assert_eq!(next(&mut output), "web-1  | after\n");
        put(&mut writer, "last\n");
        follower.remove(a.path());
        follower.say("web-1 exited with code 0");
        follower.add("db-1", b.path(), LogQuery::default());
        let mut writer = LogWriter::open(b.path(), None).unwrap();
        put(&mut writer, "ready\n");
        let shown = [next(&mut output), next(&mut output), next(&mut output)].concat();
        assert_eq!(shown, "web-1  | last\nweb-1 exited with code 0\ndb-1   | ready\n");
        follower.add("no-1", Path::new("/proc/no/such"), LogQuery::default());
        follower.finish().await.unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let expected = "mydocker: no-1: cannot watch /proc/no/such: No such file or directory (os error 2)\n";
        assert_eq!(rest, expected);
    }

    #[tokio::test]
    async fn a_closed_output_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut follower, output) = follower();
        drop(output);
        let mut writer = LogWriter::open(dir.path(), None).unwrap();
        put(&mut writer, "nobody reads\n");
        follower.add("web-1", dir.path(), LogQuery::default());
        let error = follower.ended().await.unwrap_err();
        assert!(matches!(error, LogError::Show(source) if source.kind() == std::io::ErrorKind::BrokenPipe));
    }

    #[tokio::test]
    async fn a_full_output_holds_up_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (follower, mut output) = follower();
        let mut writer = LogWriter::open(dir.path(), None).unwrap();
        put(&mut writer, &"xxxxxxxxx\n".repeat(100_000));
        follower.add("web-1", dir.path(), LogQuery::default());
        follower.say("still answering");
        follower.ask(Request::Finish);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 100_001);
        assert!(text.ends_with("still answering\n"));
    }
}
