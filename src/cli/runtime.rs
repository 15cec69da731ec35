//! The client's own small runtime: one thread, ended without waiting for what it may still be blocked in.

use std::future::Future;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio_stream::StreamExt;

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

/// Runs a future until it ends, or until SIGINT or SIGTERM: then it is dropped, and the plugin that it waited for is killed.
///
/// # Errors
/// The future's own; [`CliError::Interrupted`].
pub async fn unless_interrupted<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|source| CliError::Terminal { operation: "listen for signals", source })?;
    tokio::select! {
        outcome = work => outcome,
        Some(signal) = signals.next() => Err(CliError::Interrupted { signal, left: None }),
    }
}
