//! `compose down`.

use std::fs::File;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::requests::carry_out;
use crate::cli::args::DownArgs;
use crate::cli::project::{CommandResult, ComposeContext};
use crate::supervisor::control::protocol::{Command, Down};

/// So long a keeper takes at most to end after its project.
const KEEPER_ENDS: Duration = Duration::from_secs(2);

/// Stops and removes a project's containers and networks. A project that has none is down.
///
/// # Errors
/// [`crate::cli::report::CliError`].
pub fn run(context: &ComposeContext<'_>, args: DownArgs) -> CommandResult {
    let project = context.name(&args.services)?;
    let DownArgs { services, volumes, remove_orphans, timeout } = args;
    let everything = services.is_empty();
    let request = Down { volumes, remove_orphans, timeout, services };
    let connector = context.connector(&project);
    // The keeper holds the project lock until it ends: what was started before us holds this file, the rest a later one.
    let running = connector.lock_file();
    carry_out(context, &project, Command::Down(request))?;
    if everything && let Some(lock) = running.or_else(|| connector.lock_file()) {
        // Nothing is left behind, our own three processes neither.
        wait_for_keeper(&lock);
    }
    if everything {
        connector.remove_supervision_cgroup();
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until nobody holds the lock. Not for ever: an `up` that somebody else began meanwhile may hold it, and keep it.
fn wait_for_keeper(lock: &File) {
    let deadline = Instant::now() + KEEPER_ENDS;
    while rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_micros(500));
    }
}
