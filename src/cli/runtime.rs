//! The client's own small runtime: one thread, ended without waiting for what it may still be blocked in.

use std::future::Future;

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
