#![doc = include_str!("README.md")]

mod execute;
mod failure;
mod hooks;
mod mounts;
mod process;
mod scheduling;
mod stage;
mod user;

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::plan::{Action, LaunchPlan, Role};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::protocol::{InitMessage, LaunchFailure, Order};
use crate::spec::{Mark, Stopwatch};
use crate::sys::process::close_on_exec_from;
use crate::sys::title::TitleMemory;
use crate::sys::{Channel, Fresh, exit_now, parse_message, send_message};
use failure::StepError;
use stage::Stage;

/// Keeps other processes of the container out of this one's memory and descriptors until execve(2).
pub(super) fn hide_memory() {
    // It cannot fail with this argument (prctl(2), PR_SET_DUMPABLE).
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Reports a failure that came before the descriptors were in place, and ends.
pub(super) fn fail_on(channel: BorrowedFd<'_>, step: &str, error: &io::Error) -> Infallible {
    match channel.try_clone_to_owned() {
        Ok(own) => fail(&Channel::new(own), step.to_owned(), StepError::io(error)),
        Err(_) => exit_now(125),
    }
}

fn fail(channel: &Channel, step: String, error: StepError) -> Infallible {
    let failure: LaunchFailure = error.into_failure(step);
    // Where the parent is gone nobody wants to know.
    let _ = send_message(channel, &InitMessage::Failed(failure.clone()), &[]);
    exit_now(failure.exit_code)
}

/// Waits for the plan and carries it out; ends quietly where the parent is gone before it sent one.
pub(super) fn wait_and_run(mut channel: Channel, fresh: Fresh, watch: &Stopwatch) -> Infallible {
    let Ok(Some(mut frame)) = watch.wait(Mark::Begin, || channel.recv()) else { exit_now(125) };
    let fds = std::mem::take(&mut frame.fds);
    match parse_message(&frame) {
        Ok(Order::Plan(plan)) => run(channel, fresh, &plan, fds, watch),
        Ok(other) => {
            let error = StepError::unexpected(&format!("expected a plan, got {other:?}"));
            fail(&channel, "wait for the plan".to_owned(), error)
        }
        Err(error) => fail(&channel, "read the plan".to_owned(), StepError::io(&error)),
    }
}

/// Carries the plan out. `fds` are the descriptors it names, in its order.
pub(super) fn run(
    mut channel: Channel,
    fresh: Fresh,
    plan: &LaunchPlan,
    fds: Vec<OwnedFd>,
    watch: &Stopwatch,
) -> Infallible {
    let mut stage = Stage::new(plan, fds);
    if plan.start.iter().any(|action| matches!(action, Action::Execute { init: true, .. })) {
        // The container's /proc may be another, or none.
        stage.title = TitleMemory::find().ok();
    }
    // Modes come out as written, whatever umask we were started with.
    rustix::process::umask(rustix::fs::Mode::empty());
    watch.finish(Mark::Begin);
    if let Err((action, error)) = carry_out(&plan.create, &mut stage, &mut channel, watch) {
        return fail(&channel, action.to_string(), error);
    }
    if watch.time(Mark::Created, || report(&channel, &mut stage)).is_err() {
        exit_now(125);
    }
    match watch.wait(Mark::Created, || wait_for_start(channel, plan, &mut stage)) {
        Some(channel) => start(channel, fresh, plan, stage, watch),
        None => exit_now(125),
    }
}

fn carry_out<'a>(
    steps: &'a [Action],
    stage: &mut Stage,
    channel: &mut Channel,
    watch: &Stopwatch,
) -> Result<(), (&'a Action, StepError)> {
    steps.iter().enumerate().try_for_each(|(number, action)| match action {
        Action::AwaitHooks => {
            watch.wait(Mark::Create(number), || await_hooks(channel));
            Ok(())
        }
        Action::InstallSeccompWith { .. } => {
            mark_descriptors(stage).map_err(|error| (action, error))?;
            apply(action, Mark::Create(number), stage, watch).map_err(|error| (action, error))?;
            hand_listener(channel, stage);
            Ok(())
        }
        other => apply(other, Mark::Create(number), stage, watch).map_err(|error| (action, error)),
    })
}

fn apply(action: &Action, mark: Mark, stage: &mut Stage, watch: &Stopwatch) -> Result<(), StepError> {
    let step = watch.begin(mark);
    stage.apply(action)?;
    if std::mem::take(&mut stage.was_idle) {
        step.nothing_to_do();
    } else {
        step.done();
    }
    Ok(())
}

/// Makes all descriptors close-on-exec that the program is not to have, whatever a library opened behind our back. A seccomp filter that
/// follows may not allow this call.
fn mark_descriptors(stage: &mut Stage) -> Result<(), StepError> {
    if !stage.descriptors_marked {
        close_on_exec_from(3 + stage.preserved)?;
        stage.descriptors_marked = true;
    }
    Ok(())
}

/// Sends the parent what answers the filter that was just installed; ends where it is gone.
fn hand_listener(channel: &Channel, stage: &mut Stage) {
    let Some(listener) = stage.listener.take() else { return };
    if send_message(channel, &InitMessage::SeccompListener, &[listener.as_fd()]).is_err() {
        exit_now(125);
    }
}

/// Ends where the parent is gone, or has no use for us after what a hook said.
fn await_hooks(channel: &mut Channel) {
    if send_message(channel, &InitMessage::HooksDue, &[]).is_err() || !hears(channel, &Order::HooksDone) {
        exit_now(125);
    }
}

/// Waits for one order; not for any other, nor for a parent that is gone.
fn hears(channel: &mut Channel, order: &Order) -> bool {
    let Ok(Some(frame)) = channel.recv() else { return false };
    parse_message::<Order>(&frame).is_ok_and(|heard| std::mem::discriminant(&heard) == std::mem::discriminant(order))
}

fn report(channel: &Channel, stage: &mut Stage) -> io::Result<()> {
    let message = InitMessage::Created { warnings: std::mem::take(&mut stage.warnings) };
    let master = stage.terminal_master.take();
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    send_message(channel, &message, &fds)
}

/// Returns the channel to whoever says `Start`; `None` where the parent is gone before.
fn wait_for_start(mut channel: Channel, plan: &LaunchPlan, stage: &mut Stage) -> Option<Channel> {
    if plan.start_at_once {
        return Some(channel);
    }
    let Ok(socket) = stage.take(&Role::StartSocket) else {
        return hears(&mut channel, &Order::Start).then_some(channel);
    };
    if !hears(&mut channel, &Order::Detach) {
        return None;
    }
    drop(channel);
    loop {
        match rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
            // One that goes without a word was killed: the next may say it.
            Ok(connection) => {
                let mut channel = Channel::new(connection);
                if hears(&mut channel, &Order::Start) {
                    return Some(channel);
                }
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => return None,
        }
    }
}

fn start(channel: Channel, fresh: Fresh, plan: &LaunchPlan, mut stage: Stage, watch: &Stopwatch) -> Infallible {
    if let Err(error) = mark_descriptors(&mut stage) {
        return fail(&channel, "mark descriptors as close-on-exec".to_owned(), error);
    }
    for (number, action) in plan.start.iter().enumerate() {
        let mark = Mark::Start(number);
        let result = match action {
            Action::DieWithParent => watch.time(mark, || process::die_with_parent(channel.as_fd())),
            Action::Execute { args, env, init: false } => {
                watch.begin(mark).leave_open();
                Err(execute::execute(args, env, &stage))
            }
            Action::Execute { args, env, init: true } => {
                let init = execute::InitProcess { channel, fresh, watch, mark };
                return execute::execute_under_init(args, env, stage, init);
            }
            other => apply(other, mark, &mut stage, watch),
        };
        if let Err(error) = result {
            return fail(&channel, action.to_string(), error);
        }
        hand_listener(&channel, &mut stage);
    }
    fail(&channel, "execute".to_owned(), StepError::unexpected("the plan ends without a program"))
}
