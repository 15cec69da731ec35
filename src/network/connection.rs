//! Connections to the kernel's side of rtnetlink(7), on threads of their own.
//!
//! A netlink request is carried out inside sendto(2): deleting a veth pair waits there for an RCU grace period, 17 ms. So
//! the connection lives on its own thread with its own small runtime, and the caller's runtime never waits in the kernel.

use std::future::Future;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::NetworkError;
use super::link::{Links, failed};

/// How long the kernel may take until an address or an interface of something that has ended is free.
const UNTIL_FREE: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Is the connection to the host's own namespace, opened at the first use: who needs no network pays for none.
#[derive(Debug, Default)]
pub(super) struct HostLinks {
    thread: OnceLock<LinkThread>,
    starting: Mutex<()>,
}

impl HostLinks {
    /// Returns the connection.
    pub(super) fn get(&self) -> Result<&Links, NetworkError> {
        if self.thread.get().is_none() {
            let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.thread.get().is_none() {
                let _ = self.thread.set(LinkThread::start()?);
            }
        }
        self.thread.get().map(|thread| &thread.links).ok_or(NetworkError::WorkerLost("open a netlink socket"))
    }
}

/// Owns the thread that the connection to the host's own namespace lives on.
#[derive(Debug)]
struct LinkThread {
    links: Links,
    /// Ends the thread when it is dropped.
    open: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LinkThread {
    /// Opens a connection to the namespace that the calling thread stands in.
    fn start() -> Result<Self, NetworkError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (open, closed) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("netlink".to_owned())
            .spawn(move || {
                let answer = |opened| drop(sender.send(opened));
                serve_connection(answer, closed);
            })
            .map_err(|source| failed("start the netlink thread", source))?;
        let links = receiver.recv().map_err(|_| NetworkError::WorkerLost("open a netlink socket"))??;
        Ok(Self { links, open: Some(open), thread: Some(thread) })
    }
}

impl Drop for LinkThread {
    /// Ends the thread; the connection alone would live on although all its handles are gone.
    fn drop(&mut self) {
        self.open = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve_connection(answer: impl FnOnce(Result<Links, NetworkError>), closed: oneshot::Receiver<()>) {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return answer(Err(error)),
    };
    runtime.block_on(async {
        match rtnetlink::new_connection() {
            Ok((connection, handle, _)) => {
                answer(Ok(Links { handle }));
                tokio::select! {
                    () = connection => {}
                    _ = closed => {}
                }
            }
            Err(source) => answer(Err(failed("open a netlink socket", source))),
        }
    });
}

fn small_runtime() -> Result<tokio::runtime::Runtime, NetworkError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| failed("start the netlink runtime", source))
}

/// Does `work` with a connection to the calling thread's namespace and blocks until it is done.
///
/// This is for the short-lived threads that enter a container's namespace.
pub(super) fn with_links<T, F: Future<Output = T>>(work: impl FnOnce(Links) -> F) -> Result<T, NetworkError> {
    let runtime = small_runtime()?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| failed("open a netlink socket", source))?;
        let work = work(Links { handle });
        tokio::select! {
            biased;
            () = connection => Err(NetworkError::WorkerLost("send a netlink request")),
            done = work => Ok(done),
        }
    })
}

/// Does `work` again while the kernel answers that something is taken, by one of `errnos`: it takes a namespace apart in its own
/// time, and until then what was in it has its addresses.
pub(super) async fn until_free<F: Future<Output = Result<(), E>>, E: HasErrno>(
    errnos: &[i32],
    work: impl Fn() -> F,
) -> Result<(), E> {
    let deadline = Instant::now() + UNTIL_FREE;
    loop {
        match work().await {
            Err(error) if error.errno().is_some_and(|errno| errnos.contains(&errno)) && Instant::now() < deadline => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Is an error that may have come from the kernel.
pub(super) trait HasErrno {
    /// Returns the number, see errno(3).
    fn errno(&self) -> Option<i32>;
}

impl HasErrno for io::Error {
    fn errno(&self) -> Option<i32> {
        self.raw_os_error()
    }
}

impl HasErrno for NetworkError {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
