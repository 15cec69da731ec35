//! Sending one request and showing what comes of it.

use tokio::time::{MissedTickBehavior, interval};

use crate::cli::client::Client;
use crate::cli::progress::{FRAME, ProgressScreen};
use crate::cli::project::ComposeContext;
use crate::cli::report::CliError;
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::supervisor::control::protocol::{Command, ReplyBody};

/// Starts the supervisor if need be, sends one request and shows its progress until it is done.
///
/// # Errors
/// [`CliError`].
pub(super) fn carry_out(context: &ComposeContext<'_>, project: &str, command: Command) -> Result<(), CliError> {
    block_on(async {
        let mut client = Client::open(&context.connector(project))?;
        let number = client.send(command, &[])?;
        let mut screen = context.screen();
        follow_request(context, &mut client, number, &mut screen).await
    })
}

/// As [`carry_out`], for requests about containers that exist: where there are none, nothing is started and nothing done.
///
/// # Errors
/// [`CliError`].
pub(super) fn carry_out_on_existing(
    context: &ComposeContext<'_>,
    project: &str,
    command: Command,
) -> Result<bool, CliError> {
    let connector = context.connector(project);
    if block_on(state::containers(&connector, &|message| context.warn(message)))?.is_empty() {
        return Ok(false);
    }
    carry_out(context, project, command)?;
    Ok(true)
}

/// Shows what comes of a request until its last reply.
///
/// # Errors
/// [`CliError`].
pub(super) async fn follow_request(
    context: &ComposeContext<'_>,
    client: &mut Client,
    number: u64,
    screen: &mut ProgressScreen,
) -> Result<(), CliError> {
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        // Both branches are cancel-safe: a frame in part stays in the client, a tick that is lost is a picture less.
        tokio::select! {
            heard = client.next() => {
                let Some(heard) = heard? else {
                    let source = std::io::ErrorKind::UnexpectedEof.into();
                    return Err(CliError::Connection { project: String::new(), source });
                };
                match heard.body {
                    ReplyBody::Progress(news) => screen.update(&news),
                    ReplyBody::Warning { message } => screen.interrupt(|| context.warn(&message)),
                    ReplyBody::Failed(failure) if heard.number == number => return Err(CliError::Refused(failure)),
                    ReplyBody::Done if heard.number == number => return Ok(()),
                    _ => {}
                }
            }
            _ = frames.tick() => screen.tick(),
        }
    }
}
