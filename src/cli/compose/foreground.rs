//! `up` while it stays: one loop over signals, the supervisor, the logs and the reader of our output.
//!
//! The first SIGINT or SIGTERM stops the containers gracefully, and logs go on until all have ended; a second kills; a
//! third leaves. A closed standard output is as a SIGTERM: nobody sees what they write any more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::StreamExt;

use crate::cli::client::{Client, Heard};
use crate::cli::exit;
use crate::cli::follow::{log_directory, log_name};
use crate::cli::output::{ClaimingOutput, RawOutput, ReaderWatch};
use crate::cli::progress::{FRAME, ProgressScreen};
use crate::cli::project::{CommandResult, ComposeContext};
use crate::cli::report::{CliError, say};
use crate::cli::runtime::block_on;
use crate::cli::state;
use crate::logs::{Follower, LogQuery, Mux, MuxOptions};
use crate::spec::{ContainerId, ExitStatus, SignalNumber};
use crate::supervisor::control::protocol::{Command, ContainerStatus, ReplyBody, Selection, State};

/// Says what a foreground `up` shows and when it ends.
#[derive(Debug)]
pub(super) struct Attached {
    /// Services whose output is shown.
    pub(super) shown: BTreeSet<String>,
    /// Services whose containers must have ended before we end.
    pub(super) meant: BTreeSet<String>,
    /// Services that Ctrl-C stops; all where empty.
    pub(super) stopped: Vec<String>,
    /// Instead of each service's `stop_grace_period`.
    pub(super) timeout: Option<Duration>,
    /// The end of one container stops all.
    pub(super) aborts: bool,
    /// Whose status is ours; with `aborts` alone that of the first to end.
    pub(super) exit_code_from: Option<String>,
    /// How lines are shown.
    pub(super) options: MuxOptions,
}

/// Sends `up` and stays until all containers have ended.
///
/// # Errors
/// [`CliError`].
pub(super) fn run(context: &ComposeContext<'_>, project: &str, up: Command, attached: Attached) -> CommandResult {
    let connector = context.connector(project);
    block_on(async {
        let mut client = Client::open(&connector)?;
        let signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|source| CliError::Terminal { operation: "listen for signals", source })?;
        let screen = context.screen();
        let output = ClaimingOutput::new(RawOutput::stdout().map_err(CliError::Output)?, screen.claim());
        let follower = Follower::start(Mux::new(output, attached.options))?;
        client.send(Command::Watch, &[])?;
        let mut containers = BTreeMap::new();
        for container in state::listed(&mut client, &|message| context.warn(message)).await? {
            if attached.shown.contains(&container.service)
                && let Some(directory) = log_directory(&container)
            {
                // What it wrote before is for `logs`.
                follower.add(log_name(&container), directory, LogQuery { tail: Some(0), ..LogQuery::default() });
            }
            containers.insert(container.id.clone(), container);
        }
        let up = client.send(up, &[])?;
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let session = Session {
            context,
            attached,
            client,
            sources: Sources { signals, frames, reader: ReaderWatch::stdout(), follower },
            screen,
            containers,
            stage: Stage::Starting { up },
            interrupts: 0,
            is_mute: false,
            status: None,
        };
        session.run().await
    })
}

struct Session<'a> {
    context: &'a ComposeContext<'a>,
    attached: Attached,
    client: Client,
    sources: Sources,
    screen: ProgressScreen,
    containers: BTreeMap<ContainerId, ContainerStatus>,
    stage: Stage,
    /// Signals that were heard.
    interrupts: u32,
    /// Nobody reads what we write.
    is_mute: bool,
    /// The status that `--exit-code-from` or `--abort-on-container-exit` asks for.
    status: Option<ExitStatus>,
}

/// Everything that the loop waits for besides the supervisor.
struct Sources {
    signals: Signals,
    frames: Interval,
    reader: ReaderWatch,
    follower: Follower,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The request `up` is at work.
    Starting { up: u64 },
    /// It is done, and the list `list` will say what runs.
    Looking { list: u64 },
    /// Containers run.
    Running,
    /// The request `stop` is at work.
    Stopping { stop: u64 },
    /// It is done, and the list `list` will say how they ended.
    Closing { list: u64 },
    /// There is nothing to wait for.
    Over,
}

enum Happening {
    Signal,
    ReaderGone,
    Heard(Option<Heard>),
    LogsEnded(Result<(), CliError>),
    Frame,
}

impl Session<'_> {
    async fn run(mut self) -> CommandResult {
        while self.stage != Stage::Over && self.interrupts < 3 {
            let happening = self.next().await?;
            self.handle(happening)?;
            if self.stage == Stage::Running && !self.any_runs() {
                self.stage = Stage::Over;
            }
        }
        self.show_the_rest().await
    }

    /// Waits for the next thing to happen. Every branch is cancel-safe.
    async fn next(&mut self) -> Result<Happening, CliError> {
        let Sources { signals, frames, reader, follower } = &mut self.sources;
        let is_mute = self.is_mute;
        Ok(tokio::select! {
            biased;
            _ = signals.next() => Happening::Signal,
            () = reader.gone(), if !is_mute => Happening::ReaderGone,
            heard = self.client.next() => Happening::Heard(heard?),
            ended = follower.ended(), if !is_mute => Happening::LogsEnded(ended.map_err(CliError::from)),
            _ = frames.tick() => Happening::Frame,
        })
    }

    fn handle(&mut self, happening: Happening) -> Result<(), CliError> {
        match happening {
            Happening::Signal => self.interrupt(),
            Happening::ReaderGone => self.lose_reader(),
            Happening::Heard(Some(heard)) => self.hear(heard),
            Happening::Heard(None) => {
                self.stage = Stage::Over;
                Ok(())
            }
            Happening::LogsEnded(Err(CliError::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.lose_reader()
            }
            Happening::LogsEnded(ended) => ended.and_then(|()| {
                let source = io::Error::other("the thread that shows logs is gone");
                Err(CliError::Terminal { operation: "show logs", source })
            }),
            Happening::Frame => {
                self.screen.tick();
                Ok(())
            }
        }
    }

    fn interrupt(&mut self) -> Result<(), CliError> {
        self.interrupts += 1;
        // What follows is no row.
        self.screen.claim().take();
        match self.interrupts {
            1 => {
                say("Gracefully Stopping... press Ctrl+C again to force\n");
                self.stop()
            }
            2 => {
                let services = self.attached.stopped.clone();
                self.client
                    .send(Command::Kill { which: Selection::Services(services), signal: SignalNumber::KILL }, &[])
                    .map(drop)
            }
            // The loop sees it.
            _ => Ok(()),
        }
    }

    fn stop(&mut self) -> Result<(), CliError> {
        if !matches!(self.stage, Stage::Stopping { .. } | Stage::Closing { .. } | Stage::Over) {
            let request = Command::Stop {
                which: Selection::Services(self.attached.stopped.clone()),
                timeout: self.attached.timeout,
            };
            self.stage = Stage::Stopping { stop: self.client.send(request, &[])? };
        }
        Ok(())
    }

    fn lose_reader(&mut self) -> Result<(), CliError> {
        self.is_mute = true;
        self.stop()
    }

    fn hear(&mut self, heard: Heard) -> Result<(), CliError> {
        match heard.body {
            ReplyBody::Progress(news) => self.screen.update(&news),
            ReplyBody::Warning { message } => {
                let context = self.context;
                self.screen.interrupt(|| context.warn(&message));
            }
            ReplyBody::Event(container) => self.note(*container)?,
            ReplyBody::Containers(found) => {
                let gone: Vec<ContainerId> =
                    self.containers.keys().filter(|id| !found.iter().any(|c| c.id == **id)).cloned().collect();
                gone.iter().for_each(|id| drop(self.containers.remove(id)));
                for container in found {
                    self.note(container)?;
                }
                match self.stage {
                    Stage::Looking { list } if list == heard.number => self.stage = Stage::Running,
                    Stage::Closing { list } if list == heard.number => self.stage = Stage::Over,
                    _ => {}
                }
            }
            ReplyBody::Done if self.stage == (Stage::Starting { up: heard.number }) => {
                // Events may still be on their way; a list of now cannot be.
                self.stage = Stage::Looking { list: self.client.send(Command::List, &[])? };
            }
            ReplyBody::Done if self.stage == (Stage::Stopping { stop: heard.number }) => {
                self.stage = Stage::Closing { list: self.client.send(Command::List, &[])? };
            }
            ReplyBody::Failed(failure) => {
                let is_ours = match self.stage {
                    Stage::Starting { up } => heard.number == up,
                    Stage::Stopping { stop } => heard.number == stop,
                    _ => false,
                };
                if is_ours || heard.number == 0 {
                    return Err(CliError::Refused(failure));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes news of a container: attaches to what is new, tells of what ended.
    fn note(&mut self, container: ContainerStatus) -> Result<(), CliError> {
        if self.containers.get(&container.id).is_some_and(|known| known.changes > container.changes) {
            // A list is of the moment when it is made; events that were on their way then come after it.
            return Ok(());
        }
        let before = self.containers.remove(&container.id);
        if container.state == State::Dead {
            if let Some(directory) = container.log.as_deref().and_then(Path::parent) {
                self.sources.follower.remove(directory);
            }
            return Ok(());
        }
        if self.attached.shown.contains(&container.service)
            && let Some(directory) = log_directory(&container)
        {
            // One that is known is left as it is.
            self.sources.follower.add(log_name(&container), directory, LogQuery::default());
        }
        if has_ended(before.as_ref(), &container) && self.attached.meant.contains(&container.service) {
            self.tell_end(&container)?;
        }
        self.containers.insert(container.id.clone(), container);
        Ok(())
    }

    fn tell_end(&mut self, container: &ContainerStatus) -> Result<(), CliError> {
        let restarts = container.state != State::Exited;
        if self.attached.shown.contains(&container.service) {
            let code = container.exit.map_or_else(|| "unknown".to_owned(), |exit| exit.to_string());
            let oom = if container.oom_killed { " (oom-killed)" } else { "" };
            let again = if restarts { " (restarting)" } else { "" };
            let text = format!("{} exited with code {code}{oom}{again}", log_name(container));
            self.sources.follower.say(&text);
        }
        if !restarts && self.attached.aborts {
            let is_asked_for = self.attached.exit_code_from.as_ref().is_none_or(|name| *name == container.service);
            if is_asked_for && self.status.is_none() {
                self.status = Some(container.exit.unwrap_or(ExitStatus::Unknown));
            }
            if self.interrupts == 0 {
                self.stop()?;
            }
        }
        Ok(())
    }

    fn any_runs(&self) -> bool {
        self.containers.values().any(|container| {
            self.attached.meant.contains(&container.service)
                && matches!(container.state, State::Running | State::Restarting)
        })
    }

    /// Shows everything that was written until the end; another signal leaves.
    async fn show_the_rest(self) -> Result<ExitCode, CliError> {
        let Sources { mut signals, follower, .. } = self.sources;
        let mut interrupts = self.interrupts;
        if !self.is_mute && interrupts < 3 {
            // Dropped in the middle, the rest is only not shown.
            tokio::select! {
                shown = follower.finish() => shown?,
                _ = signals.next() => interrupts += 1,
            }
        }
        Ok(match (interrupts, self.is_mute) {
            (2.., _) => ExitCode::from(exit::INTERRUPTED),
            (_, true) => ExitCode::from(exit::BROKEN_PIPE),
            (1, false) => ExitCode::SUCCESS,
            (0, false) => self.status.map_or(ExitCode::SUCCESS, |status| exit::from_status(status.code())),
        })
    }
}

/// Says whether a container's process ended between two looks.
fn has_ended(before: Option<&ContainerStatus>, now: &ContainerStatus) -> bool {
    let ran = before.is_none_or(|before| matches!(before.state, State::Running | State::Created));
    match now.state {
        State::Exited | State::Restarting => {
            ran && now.exit.is_some() || before.is_some_and(|before| before.finished_at != now.finished_at)
        }
        // It was quick: it ended and was started again.
        State::Running => {
            before.is_some_and(|before| before.state == State::Running && before.restarts != now.restarts)
        }
        State::Created | State::Dead => false,
    }
}
