//! The loop: clone, watch, tell, reap. It never waits for a file system, a process or the network.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::protocol::{ShimChild, ShimReply, ShimRequest};
use crate::container::{ExecFds, ExecPending, ExecRequest, SpawnError, SpawnFds, SpawnRequest, spawn_exec, spawn_init};
use crate::keeper::{Role, ToShim, become_role};
use crate::spec::{ExitStatus, Stopwatch};
use crate::sys::wait::{Children, peek, reap};
use crate::sys::{Channel, Child, Frame, Received, parse_message, send_message};

/// So many ends may be untold or unrecorded at once; the other zombies wait. A stopped supervisor can thus never
/// block the shim on a full socket.
const ENDS_IN_FLIGHT: usize = 64;

/// Runs the shim of a project until its keeper lets it go.
///
/// # Errors
/// Only while it starts.
pub fn run() -> io::Result<()> {
    let keeper = become_role(Role::Shim)?;
    let mut shim =
        Shim { keeper: Some(keeper), supervisor: None, children: Vec::new(), entering: Vec::new(), finished: false };
    while !shim.finished {
        shim.turn()?;
    }
    Ok(())
}

/// How far a child is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// A zombie of which this supervisor does not know yet.
    Ended,
    /// A zombie that the supervisor was told of.
    Told,
}

struct Tracked {
    key: String,
    child: Child,
    stage: Stage,
}

/// An exec whose process in between is at work.
struct Entering {
    token: u64,
    key: String,
    pending: ExecPending,
}

struct Shim {
    keeper: Option<Channel>,
    supervisor: Option<Channel>,
    children: Vec<Tracked>,
    entering: Vec<Entering>,
    finished: bool,
}

impl Shim {
    /// Waits for one thing to happen and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        self.wait_for_event()?;
        self.hear_keeper();
        self.hear_supervisor();
        self.finish_entering();
        self.find_ended();
        self.tell_ended();
        // Nobody is left to serve or to be served.
        self.finished |= self.keeper.is_none() && self.supervisor.is_none() && self.children.is_empty();
        Ok(())
    }

    fn wait_for_event(&self) -> io::Result<()> {
        let running = self.children.iter().filter(|tracked| tracked.stage == Stage::Running);
        let sources = (self.keeper.iter().chain(&self.supervisor).map(AsFd::as_fd))
            .chain(self.entering.iter().map(|entering| entering.pending.as_fd()))
            .chain(running.map(|tracked| tracked.child.pidfd.as_fd()));
        let mut fds: Vec<_> = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn hear_keeper(&mut self) {
        while let Some(keeper) = &mut self.keeper {
            match keeper.try_recv() {
                Ok(Received::Frame(mut frame)) => match parse_message(&frame) {
                    Ok(ToShim::Supervisor) => self.serve(frame.fds.pop()),
                    Ok(ToShim::Exit) => self.finished = true,
                    Err(error) => eprintln!("shim: from the keeper: {error}"),
                },
                Ok(Received::Nothing) => return,
                // A dead keeper is no reason to go: the containers are our children.
                Ok(Received::Closed) | Err(_) => self.keeper = None,
            }
        }
    }

    /// Begins with a new supervisor: it hears of every child, and of every end that is not on record.
    fn serve(&mut self, socket: Option<OwnedFd>) {
        let Some(socket) = socket else { return };
        let children = self
            .children
            .iter()
            .map(|tracked| ShimChild { key: tracked.key.clone(), pid: pid_of(&tracked.child) })
            .collect();
        self.supervisor = Some(Channel::new(socket));
        for tracked in &mut self.children {
            if tracked.stage == Stage::Told {
                tracked.stage = Stage::Ended;
            }
        }
        self.say(&ShimReply::Hello { children }, &[]);
    }

    fn hear_supervisor(&mut self) {
        while let Some(supervisor) = &mut self.supervisor {
            match supervisor.try_recv() {
                Ok(Received::Frame(frame)) => match parse_message(&frame) {
                    Ok(request) => self.obey(request, frame),
                    Err(error) => eprintln!("shim: from the supervisor: {error}"),
                },
                Ok(Received::Nothing) => return,
                Ok(Received::Closed) | Err(_) => self.supervisor = None,
            }
        }
    }

    fn obey(&mut self, request: ShimRequest, frame: Frame) {
        match request {
            ShimRequest::Spawn { token, key, request, cgroup } => {
                let outcome = spawn(&request, cgroup, &frame.fds);
                self.answer(token, key, outcome);
            }
            ShimRequest::Exec { token, key, request, cgroup } => match exec(&request, cgroup, &frame.fds) {
                Ok(pending) => self.entering.push(Entering { token, key, pending }),
                Err(error) => self.answer(token, key, Err(error)),
            },
            ShimRequest::Recorded { pid } => {
                let Some(at) = self.children.iter().position(|tracked| pid_of(&tracked.child) == pid) else { return };
                let tracked = self.children.swap_remove(at);
                // Cannot fail: it is a child of ours, and a zombie.
                let _ = reap(Children::PidFd(tracked.child.pidfd.as_fd()));
            }
        }
    }

    fn answer(&mut self, token: u64, key: String, outcome: Result<Child, SpawnError>) {
        match outcome {
            Ok(child) => {
                self.say(&ShimReply::Spawned { token, pid: pid_of(&child) }, &[child.pidfd.as_fd()]);
                self.children.push(Tracked { key, child, stage: Stage::Running });
            }
            Err(error) => self.say(&ShimReply::Failed { token, chain: chain(&error) }, &[]),
        }
    }

    fn finish_entering(&mut self) {
        let mut index = 0;
        while index < self.entering.len() {
            match self.entering[index].pending.try_finish() {
                Ok(None) => index += 1,
                outcome => {
                    let Entering { token, key, pending } = self.entering.swap_remove(index);
                    // The process in between has said its word and is ending: it is reaped when it has.
                    self.children.push(Tracked {
                        key: String::new(),
                        child: pending.intermediate,
                        stage: Stage::Running,
                    });
                    if let Some(outcome) = outcome.transpose() {
                        self.answer(token, key, outcome);
                    }
                }
            }
        }
    }

    fn find_ended(&mut self) {
        for tracked in &mut self.children {
            if tracked.stage == Stage::Running
                && matches!(peek(Children::PidFd(tracked.child.pidfd.as_fd())), Ok(Some(_)))
            {
                tracked.stage = Stage::Ended;
            }
        }
        // Nobody asks for the processes in between.
        self.children.retain(|tracked| {
            let nameless = tracked.key.is_empty() && tracked.stage == Stage::Ended;
            !(nameless && reap(Children::PidFd(tracked.child.pidfd.as_fd())).is_ok())
        });
    }

    fn tell_ended(&mut self) {
        let mut in_flight = self.children.iter().filter(|tracked| tracked.stage == Stage::Told).count();
        for index in 0..self.children.len() {
            let tracked = &mut self.children[index];
            if in_flight >= ENDS_IN_FLIGHT || self.supervisor.is_none() {
                return;
            }
            if tracked.stage != Stage::Ended {
                continue;
            }
            if let Ok(Some(ended)) = peek(Children::PidFd(tracked.child.pidfd.as_fd())) {
                tracked.stage = Stage::Told;
                in_flight += 1;
                let reply = ShimReply::Exited {
                    key: tracked.key.clone(),
                    pid: pid_of(&tracked.child),
                    status: ExitStatus::from(ended),
                };
                self.say(&reply, &[]);
            }
        }
    }

    /// A supervisor that has died is replaced; its successor hears everything again.
    fn say(&mut self, reply: &ShimReply, fds: &[BorrowedFd<'_>]) {
        if let Some(supervisor) = &self.supervisor
            && send_message(supervisor, reply, fds).is_err()
        {
            self.supervisor = None;
        }
    }
}

fn spawn(request: &SpawnRequest, cgroup: bool, fds: &[OwnedFd]) -> Result<Child, SpawnError> {
    let mut rest = fds.iter().map(AsFd::as_fd);
    let mut next = || rest.next().ok_or(SpawnError::Joins { got: fds.len(), wanted: 4 });
    let (channel, stdin, stdout, stderr) = (next()?, next()?, next()?, next()?);
    let cgroup = if cgroup { Some(next()?) } else { None };
    spawn_init(
        request,
        &SpawnFds {
            channel,
            stdin,
            stdout,
            stderr,
            cgroup,
            joins: rest.collect(),
            preserved: Vec::new(),
            watch: Stopwatch::default(),
        },
    )
}

fn exec(request: &ExecRequest, cgroup: bool, fds: &[OwnedFd]) -> Result<ExecPending, SpawnError> {
    let mut rest = fds.iter().map(AsFd::as_fd);
    let mut next = || rest.next().ok_or(SpawnError::Joins { got: fds.len(), wanted: 5 });
    let (channel, stdin, stdout, stderr, target) = (next()?, next()?, next()?, next()?, next()?);
    let cgroup = if cgroup { Some(next()?) } else { None };
    spawn_exec(
        request,
        &ExecFds {
            channel,
            stdin,
            stdout,
            stderr,
            target,
            cgroup,
            tasks: rest.collect(),
            preserved: Vec::new(),
            root: None,
        },
    )
}

fn pid_of(child: &Child) -> i32 {
    child.pid.as_raw_nonzero().get()
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}
