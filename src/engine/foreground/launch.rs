//! The way of a container in the foreground from its clone to its program, and to its end.

use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::network::NetworkThread;
use super::{CREATE_DEADLINE, Console, ForegroundJob, MainProcess, MainSignals, StreamEnds};
use crate::container::{InitChannel, InitEvent};
use crate::engine::LaunchError;
use crate::engine::files::{Addresses, ContainerFiles};
use crate::spec::{ExitStatus, Mark, Moment, NamespaceSource, Stopwatch};

/// How far the container is on its way to its program.
pub(super) struct Launch {
    /// What waiting is noted in.
    watch: Stopwatch,
    /// Until the program runs.
    init: Option<InitChannel>,
    /// Until somebody carries them.
    ends: Option<StreamEnds>,
    created: bool,
    attached: bool,
    /// Its terminal is to have a size before its program runs.
    has_terminal: bool,
    started: bool,
    deadline: Instant,
}

/// Says which descriptors are ready.
struct Ready {
    ended: bool,
    signals: bool,
    init: bool,
    network: bool,
}

impl Launch {
    /// Has a thread note when the channel ends, where that is measured: we may have other things to do in that moment.
    pub(super) fn note_end_of_channel(&self) {
        let channel = self.init.as_ref().filter(|_| self.watch.is_on());
        let Some(channel) = channel.and_then(|init| init.as_fd().try_clone_to_owned().ok()) else { return };
        let watch = self.watch.clone();
        let body = move || {
            // POLLHUP is told of whether it is asked for or not.
            while poll(&mut [PollFd::new(&channel, PollFlags::empty())], None) == Err(Errno::INTR) {}
            watch.note(Moment::ChannelClosed);
        };
        // Without it the moment is the one in which we look.
        let _ = thread::Builder::new().name("clock".into()).spawn(body);
    }

    pub(super) fn new(job: &ForegroundJob<'_>, init: InitChannel, ends: StreamEnds) -> Self {
        let deadline = Instant::now() + CREATE_DEADLINE;
        Self {
            watch: job.watch.clone(),
            init: Some(init),
            ends: Some(ends),
            created: false,
            attached: job.networks.is_empty(),
            has_terminal: job.request.tty,
            started: false,
            deadline,
        }
    }

    /// Waits for the container's end.
    pub(super) fn wait(
        &mut self,
        job: &ForegroundJob<'_>,
        files: &ContainerFiles,
        mut process: MainProcess,
        network: Option<&NetworkThread>,
        signals: &MainSignals,
        console: &mut dyn Console,
    ) -> Result<ExitStatus, LaunchError> {
        loop {
            let mark = if self.init.is_some() { Mark::AwaitProgram } else { Mark::AwaitEnd };
            let ready = self.watch.wait(mark, || self.poll(&process, signals, network.filter(|_| !self.attached)))?;
            if let Some(network) = network.filter(|_| ready.network) {
                self.write_addresses(job, files, &network.outcome()?)?;
            }
            if ready.init || ready.ended {
                // Of a process that has ended its last words are there, or the end of the channel is.
                match self.hear(console, ready.ended) {
                    Err(LaunchError::Died) if process.is_ended_by_signal() => {}
                    outcome => outcome?,
                }
            }
            self.start_when_due()?;
            if ready.signals {
                process.take_signals(signals, self.init.is_none(), console)?;
            }
            if ready.ended {
                self.watch.note(Moment::Ended);
                return process.reap().map_err(LaunchError::Channel);
            }
        }
    }

    /// Says that the program may run, as soon as nothing is missing but what the process does itself: it need not wait for us.
    pub(super) fn start_when_due(&mut self) -> Result<(), LaunchError> {
        if self.started || !self.attached || self.has_terminal && !self.created {
            return Ok(());
        }
        self.started = true;
        let send = || self.init.as_mut().map_or(Ok(()), InitChannel::send_start);
        match self.watch.time(Mark::SendStart, send) {
            // It has ended: its last words say why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(LaunchError::Channel),
        }
    }

    fn poll(
        &self,
        process: &MainProcess,
        signals: &MainSignals,
        network: Option<&NetworkThread>,
    ) -> Result<Ready, LaunchError> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(process.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.init.iter().map(|init| PollFd::from_borrowed_fd(init.as_fd(), PollFlags::IN)));
        fds.extend(network.map(|network| PollFd::from_borrowed_fd(network.ready(), PollFlags::IN)));
        let left = self.init.as_ref().map(|_| self.deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Err(LaunchError::Deadline(CREATE_DEADLINE)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(LaunchError::Channel(errno.into())),
        }
        let mut is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |there: bool| there && is_ready.next().unwrap_or(false);
        Ok(Ready {
            ended: next(true),
            signals: next(true),
            init: next(self.init.is_some()),
            network: next(network.is_some()),
        })
    }

    fn write_addresses(
        &mut self,
        job: &ForegroundJob<'_>,
        files: &ContainerFiles,
        addresses: &Addresses,
    ) -> Result<(), LaunchError> {
        self.attached = true;
        if job.networks.is_empty() || job.request.namespaces.network != NamespaceSource::Private {
            return Ok(());
        }
        Ok(files.write_hosts(job.request, addresses)?)
    }

    /// Takes what the new process says: one event, or all of them where it has ended.
    pub(super) fn hear(&mut self, console: &mut dyn Console, to_the_end: bool) -> Result<(), LaunchError> {
        while let Some(init) = &mut self.init {
            match init.recv().map_err(LaunchError::Channel)? {
                InitEvent::Created { warnings, terminal } => {
                    self.created = true;
                    warnings.iter().for_each(|warning| console.warn(warning));
                    let ends = StreamEnds { terminal, ..self.ends.take().unwrap_or_default() };
                    if !ends.is_empty() {
                        console.connect(ends).map_err(LaunchError::Console)?;
                    }
                }
                // A request has no hooks.
                InitEvent::HooksDue | InitEvent::SeccompListener(_) => {
                    return Err(LaunchError::Channel(std::io::ErrorKind::InvalidData.into()));
                }
                InitEvent::Executed => {
                    self.watch.note_program();
                    self.init = None;
                }
                InitEvent::Failed(failure) => return Err(LaunchError::Init(failure)),
                InitEvent::Died => return Err(LaunchError::Died),
            }
            if !to_the_end {
                break;
            }
        }
        Ok(())
    }
}
