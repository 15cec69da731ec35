//! The loop: reap, restart, keep. No policy, no parsing of anything but our own messages.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::protocol::{BootReply, FromSupervisor, KeeperBoot, Orphan, ToShim, ToSupervisor};
use super::role::{Role, become_role, spawn_role};
use crate::spec::ExitStatus;
use crate::store::ProcessIdentity;
use crate::sys::wait::{Children, peek, reap, reap_blocking};
use crate::sys::{Channel, Received, parse_message, send_message};

/// So many statuses may be on their way to a supervisor at once; more wait here. A stopped supervisor
/// can thus never block the keeper on a full socket.
const ORPHANS_IN_FLIGHT: usize = 64;
/// A role that lived this long is restarted at once when it dies; one that did not waits.
const SETTLED: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How many stored descriptors go on one frame.
const FDS_PER_FRAME: usize = 60;

/// Runs a keeper until nothing of its project runs any more.
///
/// # Errors
/// Only while it starts: a broken boot frame, or roles that cannot be spawned.
pub fn run() -> io::Result<()> {
    let mut client = become_role(Role::Keeper)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let frame = client.recv()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let boot: KeeperBoot = parse_message(&frame)?;
    let [lock, executable]: [OwnedFd; 2] =
        frame.fds.try_into().map_err(|_| io::Error::other("the boot frame lacks its two descriptors"))?;
    let mut keeper = Keeper::start(boot, client, lock, executable)?;
    while !keeper.finished {
        keeper.turn()?;
    }
    keeper.end()
}

/// A child in one of the two roles, or the time at which it is started again.
enum Seat {
    Running { pid: i32, channel: Channel, since: Instant, failures: u32 },
    Waiting { until: Instant, failures: u32 },
}

impl Seat {
    fn vacant() -> Self {
        Self::Waiting { until: Instant::now(), failures: 0 }
    }

    fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Running { channel, .. } => Some(channel),
            Self::Waiting { .. } => None,
        }
    }

    fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } => Some(*pid),
            Self::Waiting { .. } => None,
        }
    }

    fn is_due(&self) -> bool {
        matches!(self, Self::Waiting { until, .. } if *until <= Instant::now())
    }

    /// What becomes of the seat when its process has died: the first death costs no wait.
    fn vacate(&mut self) {
        let Self::Running { since, failures, .. } = self else { return };
        let failures = if since.elapsed() >= SETTLED { 0 } else { *failures };
        let wait = match failures {
            0 => Duration::ZERO,
            n => LONGEST_WAIT.min(Duration::from_millis(100) * 2_u32.saturating_pow(n - 1)),
        };
        *self = Self::Waiting { until: Instant::now() + wait, failures: failures + 1 };
    }
}

struct Keeper {
    boot: KeeperBoot,
    client: Option<Channel>,
    /// Held, never looked at: whoever has the lock is the project's keeper.
    _lock: OwnedFd,
    executable: OwnedFd,
    signals: SignalFd,
    shim: Seat,
    supervisor: Seat,
    generation: u32,
    stored: BTreeMap<String, OwnedFd>,
    orphans: VecDeque<Orphan>,
    in_flight: usize,
    finished: bool,
}

impl Keeper {
    fn start(boot: KeeperBoot, client: Channel, lock: OwnedFd, executable: OwnedFd) -> io::Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let mut keeper = Self {
            boot,
            client: Some(client),
            _lock: lock,
            executable,
            signals: SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags)?,
            shim: Seat::vacant(),
            supervisor: Seat::vacant(),
            generation: 0,
            stored: BTreeMap::new(),
            orphans: VecDeque::new(),
            in_flight: 0,
            finished: false,
        };
        keeper.fill_seats()?;
        Ok(keeper)
    }

    /// Waits for one thing to happen and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        self.wait_for_event()?;
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.reap();
        self.hear_supervisor();
        if !self.finished {
            self.fill_seats()?;
            self.send_orphans();
        }
        Ok(())
    }

    fn wait_for_event(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
        fds.extend(self.supervisor.channel().map(|channel| PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN)));
        let wait = [&self.shim, &self.supervisor]
            .into_iter()
            .filter_map(|seat| match seat {
                Seat::Waiting { until, .. } => Some(until.saturating_duration_since(Instant::now())),
                Seat::Running { .. } => None,
            })
            .min()
            .and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reaps every child that has ended. Those that are neither shim nor supervisor were containers of a dead shim.
    fn reap(&mut self) {
        // First a look: the start time can be read only while the process still has its place in /proc.
        while let Ok(Some(ended)) = peek(Children::Any) {
            let start_time = ProcessIdentity::of(ended.pid).ok().flatten().map_or(0, |identity| identity.start_time);
            // Cannot fail: it is a child of ours, and a zombie.
            let _ = reap(Children::Pid(ended.pid));
            let status = ExitStatus::from(ended);
            if self.shim.pid() == Some(ended.pid) {
                self.shim.vacate();
            } else if self.supervisor.pid() == Some(ended.pid) {
                // Its last words may still lie in the socket.
                self.drain_supervisor();
                self.lose_supervisor(status);
            } else {
                self.orphans.push_back(Orphan { pid: ended.pid, start_time, status });
            }
        }
    }

    /// A supervisor that gives up before it ever listened cannot be helped by starting another; a killed one can.
    fn lose_supervisor(&mut self, status: ExitStatus) {
        self.supervisor.vacate();
        self.in_flight = 0;
        if self.client.is_some() && !self.finished && !matches!(status, ExitStatus::Signal(_)) {
            self.give_up(format!("the supervisor ended with status {status} while it started"));
        }
    }

    fn hear_supervisor(&mut self) {
        if self.drain_supervisor() {
            return;
        }
        // It closed its channel, so it is dying or out of its mind; polling a closed channel would spin.
        let Some(pid) = self.supervisor.pid() else { return };
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let status = reap_blocking(Children::Pid(pid)).map_or(ExitStatus::Unknown, ExitStatus::from);
        self.lose_supervisor(status);
    }

    /// Obeys all that has come; says whether the channel is still open.
    fn drain_supervisor(&mut self) -> bool {
        loop {
            let Seat::Running { channel, .. } = &mut self.supervisor else { return true };
            match channel.try_recv() {
                Ok(Received::Frame(frame)) => match parse_message(&frame) {
                    Ok(message) => self.obey(message, frame.fds),
                    Err(error) => eprintln!("keeper: from the supervisor: {error}"),
                },
                Ok(Received::Nothing) => return true,
                Ok(Received::Closed) | Err(_) => return self.finished,
            }
        }
    }

    fn obey(&mut self, message: FromSupervisor, fds: Vec<OwnedFd>) {
        match message {
            FromSupervisor::Ready => self.answer_client(&BootReply::Ready),
            FromSupervisor::Failed { message } => self.give_up(message),
            FromSupervisor::Store { keys } => self.stored.extend(keys.into_iter().zip(fds)),
            FromSupervisor::Drop { keys } => {
                for key in keys {
                    self.stored.remove(&key);
                }
            }
            FromSupervisor::OrphanRecorded { pid } => {
                self.orphans.retain(|orphan| orphan.pid != pid);
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            FromSupervisor::Finish => self.finished = true,
        }
    }

    fn give_up(&mut self, message: String) {
        self.answer_client(&BootReply::Failed { message });
        self.finished = true;
    }

    /// Only the client that started us waits for an answer, and it may be gone.
    fn answer_client(&mut self, reply: &BootReply) {
        if let Some(client) = self.client.take() {
            let _ = send_message(&client, reply, &[]);
        }
    }

    /// Starts whoever is missing and is due, and introduces the two to each other over a new pair.
    fn fill_seats(&mut self) -> io::Result<()> {
        let (new_shim, new_supervisor) = (self.shim.is_due(), self.supervisor.is_due());
        // The supervisor first: it has more to do before the client can be answered.
        if new_supervisor {
            self.supervisor = self.fill(Role::Supervisor, &self.supervisor)?;
        }
        if new_shim {
            self.shim = self.fill(Role::Shim, &self.shim)?;
        }
        if !(new_shim || new_supervisor) {
            return Ok(());
        }
        let (for_shim, for_supervisor) = Channel::pair()?;
        // A send to a role that has died meanwhile fails; it is reaped and replaced in the next turn.
        if let Some(shim) = self.shim.channel() {
            let _ = send_message(shim, &ToShim::Supervisor, &[for_shim.as_fd()]);
        }
        if let Some(supervisor) = self.supervisor.channel() {
            if new_supervisor {
                let _ = self.brief(supervisor, for_supervisor.as_fd());
                self.generation += 1;
            } else {
                let _ = send_message(supervisor, &ToSupervisor::Shim, &[for_supervisor.as_fd()]);
            }
        }
        Ok(())
    }

    fn fill(&self, role: Role, before: &Seat) -> io::Result<Seat> {
        let failures = match before {
            Seat::Waiting { failures, .. } => *failures,
            Seat::Running { .. } => 0,
        };
        let (child, channel) = spawn_role(role, &self.boot.project, self.executable.as_fd())?;
        Ok(Seat::Running { pid: child.id().cast_signed(), channel, since: Instant::now(), failures })
    }

    /// Tells a new supervisor all that its predecessor knew here.
    fn brief(&self, supervisor: &Channel, shim: BorrowedFd<'_>) -> io::Result<()> {
        let boot = ToSupervisor::Boot { config: self.boot.config.clone(), generation: self.generation };
        send_message(supervisor, &boot, &[shim])?;
        let stored: Vec<_> = self.stored.iter().collect();
        for batch in stored.chunks(FDS_PER_FRAME) {
            let keys = batch.iter().map(|(key, _)| (*key).clone()).collect();
            let fds: Vec<_> = batch.iter().map(|(_, fd)| fd.as_fd()).collect();
            send_message(supervisor, &ToSupervisor::Stored { keys }, &fds)?;
        }
        send_message(supervisor, &ToSupervisor::BootEnd, &[])
    }

    fn send_orphans(&mut self) {
        let Some(supervisor) = self.supervisor.channel() else { return };
        for orphan in self.orphans.iter().take(ORPHANS_IN_FLIGHT).skip(self.in_flight) {
            if send_message(supervisor, &ToSupervisor::Orphan(*orphan), &[]).is_err() {
                return;
            }
            self.in_flight += 1;
        }
    }

    /// The last turn: the shim is told to go and both are reaped.
    fn end(self) -> io::Result<()> {
        if let Some(shim) = self.shim.channel() {
            let _ = send_message(shim, &ToShim::Exit, &[]);
        }
        let pids = [self.supervisor.pid(), self.shim.pid()];
        // Closing the channels ends a supervisor that has not noticed yet.
        drop(self);
        for pid in pids.into_iter().flatten() {
            let _ = reap_blocking(Children::Pid(pid));
        }
        Ok(())
    }
}
