//! The client's own small runtime: one thread, ended without waiting for what it may still be blocked in.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::report::CliError;

/// Runs a future to its end.
///
/// # Errors
/// [`CliError::Runtime`], and the future's own.
pub fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

/// Registers a descriptor with the runtime.
///
/// # Errors
/// What epoll_ctl(2) says.
#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe; our types name one descriptor all their life"
)]
pub(super) fn watched<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}
