use std::future::Future;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::error::LogError;
use super::pump::{ContainerOutput, Pump, PumpEnd};
use super::writer::{LogWriter, Retention};

/// Pumps the output of all containers in a thread of its own.
///
/// Writing to a slow disk makes the writer wait (the kernel slows down who dirties too many pages); whoever decides over
/// containers must not wait with it. Dropping it pauses all pumps: what they did not take stays in the pipes.
#[derive(Debug)]
pub struct Collector {
    requests: mpsc::UnboundedSender<Request>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Is one container's pump at work. Dropping it is as good as [`Collection::drain`], without waiting.
#[derive(Debug)]
pub struct Collection {
    drain: oneshot::Sender<()>,
    done: oneshot::Receiver<Result<PumpEnd, LogError>>,
}

struct Request {
    output: ContainerOutput,
    directory: PathBuf,
    retention: Retention,
    drain: oneshot::Receiver<()>,
    done: oneshot::Sender<Result<PumpEnd, LogError>>,
}

impl Collector {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`LogError::Thread`].
    pub fn start() -> Result<Self, LogError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(LogError::Thread)?;
        // Not bounded: there is one request for each start of a container, and they are few and small.
        let (requests, inbox) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || runtime.block_on(serve(inbox, stopped)))
            .map_err(LogError::Thread)?;
        Ok(Self { requests, stop, thread: Some(thread) })
    }

    /// Begins to carry a container's output into the log in a directory, which must be there.
    pub fn collect(&self, output: ContainerOutput, directory: PathBuf, retention: Retention) -> Collection {
        let (drain, drained) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        // Where the thread is gone, `done` says so.
        let _ = self.requests.send(Request { output, directory, retention, drain: drained, done: finished });
        Collection { drain, done }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed by its hook.
            let _ = thread.join();
        }
    }
}

impl Collection {
    /// Carries what is still in the pipes into the log and ends. To be called when the container has ended.
    ///
    /// # Errors
    /// [`LogError::Open`] and [`LogError::Output`] where the pump could not begin.
    pub async fn drain(self) -> Result<PumpEnd, LogError> {
        let _ = self.drain.send(());
        self.done.await.unwrap_or(Ok(PumpEnd::Paused))
    }

    /// Waits until the other ends are closed, which says nothing about the container's life. Cancel-safe.
    ///
    /// # Errors
    /// As [`Collection::drain`].
    pub async fn closed(&mut self) -> Result<PumpEnd, LogError> {
        (&mut self.done).await.unwrap_or(Ok(PumpEnd::Paused))
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<Request>, mut stop: watch::Receiver<bool>) {
    let mut pumps = JoinSet::new();
    loop {
        tokio::select! {
            request = inbox.recv() => match request {
                Some(request) => {
                    pumps.spawn(collect(request, stop.clone()));
                }
                None => break,
            },
            Some(_) = pumps.join_next() => {}
            () = stopped(&mut stop) => break,
        }
    }
    pumps.join_all().await;
}

async fn collect(request: Request, mut stop: watch::Receiver<bool>) {
    let Request { output, directory, retention, drain, done } = request;
    let result = match begin(output, &directory, retention) {
        Ok(mut pump) => {
            let end = tokio::select! {
                end = pump.run(ignore(drain)) => end,
                () = stopped(&mut stop) => PumpEnd::Paused,
            };
            if end == PumpEnd::Paused {
                pump.pause();
            }
            Ok(end)
        }
        Err(error) => Err(error),
    };
    // Nobody may wait for it any more.
    let _ = done.send(result);
}

fn begin(output: ContainerOutput, directory: &Path, retention: Retention) -> Result<Pump, LogError> {
    let writer = match retention {
        Retention::Everything => LogWriter::open(directory, None),
        Retention::Rotated(rotation) => LogWriter::open(directory, Some(rotation)),
        Retention::Nothing => LogWriter::nowhere(),
    }?;
    Pump::new(output, writer)
}

async fn ignore<T>(future: impl Future<Output = T>) {
    future.await;
}

/// Ready when the collector is dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::super::make_stdio_pipe;
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::{Duration, Instant};

    fn output() -> (ContainerOutput, File, File) {
        let (stdout, out) = make_stdio_pipe(0, 0).unwrap();
        let (stderr, err) = make_stdio_pipe(0, 0).unwrap();
        (ContainerOutput::Pipes { stdout, stderr }, out.into(), err.into())
    }

    #[tokio::test]
    async fn a_container_s_output_is_in_the_log_when_it_was_drained() {
        let dir = tempfile::tempdir().unwrap();
        let collector = Collector::start().unwrap();
        let (ours, mut out, _err) = output();
        let collection = collector.collect(ours, dir.path().to_owned(), Retention::Everything);
        out.write_all(b"the last words").unwrap();
        assert_eq!(collection.drain().await.unwrap(), PumpEnd::Drained);
        assert!(fs::read_to_string(dir.path().join("log")).unwrap().ends_with(" stdout F the last words\n"));
    }

    #[tokio::test]
    async fn what_is_not_kept_is_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let collector = Collector::start().unwrap();
        let (ours, mut out, _err) = output();
        let collection = collector.collect(ours, dir.path().to_owned(), Retention::Nothing);
        // More than a pipe holds.
        let chunk = vec![b'x'; 1 << 20];
        tokio::task::spawn_blocking(move || out.write_all(&chunk)).await.unwrap().unwrap();
        assert_eq!(collection.drain().await.unwrap(), PumpEnd::Drained);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_pause_leaves_the_line_open() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, mut out, _err) = output();
        let collector = Collector::start().unwrap();
        let mut collection = collector.collect(ours, dir.path().to_owned(), Retention::Everything);
        out.write_all(b"half").unwrap();
        let log = dir.path().join("log");
        let begun = Instant::now();
        while !fs::read_to_string(&log).is_ok_and(|text| text.ends_with("P half\n")) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
        drop(collector);
        assert_eq!(collection.closed().await.unwrap(), PumpEnd::Paused);
        assert!(fs::read_to_string(&log).unwrap().ends_with(" stdout P half\n"));
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_opened_is_an_error() {
        let collector = Collector::start().unwrap();
        let (ours, _out, _err) = output();
        let collection = collector.collect(ours, "/proc/no/such".into(), Retention::Everything);
        assert!(matches!(collection.drain().await, Err(LogError::Open { .. })));
    }
}
