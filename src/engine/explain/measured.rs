//! The times of a launch that was carried out.

use serde::Serialize;

use super::{LaunchExplanation, Step};
use crate::container::explain::Process;
use crate::spec::{Mark, Moment, StepState, Stopwatch};

/// Says what became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was its turn, and what it is about is not there: nothing was changed.
    NothingToDo,
    /// It failed, or its process was ended in the middle of it.
    Failed,
    /// It was not its turn: its condition did not hold, or the launch ended before.
    NotReached,
}

/// Is what was measured of a step. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeasuredStep {
    /// What became of it.
    pub outcome: Outcome,
    /// When it began, from the beginning of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nanoseconds: Option<u64>,
    /// How much of that was nothing but waiting for another process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<u64>,
}

/// Is what was measured of a run as a whole. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeasuredRun {
    /// The exit code that mydocker had for it.
    pub exit_code: u8,
    /// From the beginning to the clone of the container's first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_clone: Option<u64>,
    /// From the beginning to execve(2) of the container's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_program: Option<u64>,
    /// From the beginning to the end of the container's first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_end: Option<u64>,
    /// From the beginning to the moment when nothing of the container was left.
    pub nanoseconds: u64,
    /// The same, process by process.
    pub processes: Vec<MeasuredProcess>,
}

/// Is what was measured of one process or thread. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeasuredProcess {
    /// Which.
    pub process: Process,
    /// When it began, from the beginning of the run.
    pub began: u64,
    /// How long it was ours: until its end, or until it became the program.
    pub nanoseconds: u64,
    /// How much of that the steps took, one after the other.
    pub in_steps: u64,
    /// How much of that was waiting.
    pub waited: u64,
}

const PROCESSES: [Process; 5] =
    [Process::Parent, Process::Networks, Process::Between, Process::Child, Process::Program];

impl LaunchExplanation {
    /// Adds what `watch` has noted; `exit_code` is what comes of the run.
    pub fn measure(&mut self, watch: &Stopwatch, exit_code: u8) {
        let origin = watch.moment(Moment::Origin).unwrap_or_default();
        // Nobody but the process that becomes the program can begin that step, and it cannot end it.
        if let Some(last) = self.steps.iter().rev().find_map(|step| step.explanation.becomes_program()) {
            watch.became(last);
        }
        for step in &mut self.steps {
            step.measured = Some(measured(step, watch, origin));
        }
        watch.note(Moment::Cleared);
        let since = |moment: u64| moment.saturating_sub(origin);
        let over = watch.moment(Moment::Cleared).map_or(0, since);
        self.run = Some(MeasuredRun {
            exit_code,
            until_clone: watch.noted(Mark::Clone).map(|clone| since(clone.began)),
            until_program: watch.moment(Moment::Executed).map(since),
            until_end: watch.moment(Moment::Ended).map(since),
            nanoseconds: over,
            processes: PROCESSES.iter().filter_map(|process| self.process(*process, watch, origin, over)).collect(),
        });
    }

    fn process(&self, process: Process, watch: &Stopwatch, origin: u64, over: u64) -> Option<MeasuredProcess> {
        let steps = self.steps.iter().filter(|step| step.explanation.process == process);
        let measured: Vec<_> = steps.filter_map(|step| step.measured.as_ref()).collect();
        let moment = |moment| watch.moment(moment).map(|at| at.saturating_sub(origin));
        let first = measured.iter().filter_map(|step| step.began).min();
        let last = measured.iter().filter_map(|step| Some(step.began? + step.nanoseconds?)).max();
        let (began, ended) = match process {
            Process::Parent => (Some(0), Some(over)),
            Process::Networks => (moment(Moment::NetworksBegan), moment(Moment::NetworksEnded)),
            Process::Between => (moment(Moment::BetweenBegan), moment(Moment::BetweenEnded)),
            Process::Child | Process::Program => (first, last),
        };
        let (began, ended) = (began?, ended.or(last)?);
        let sum =
            |pick: fn(&&&super::MeasuredStep) -> Option<u64>| measured.iter().filter_map(|step| pick(&step)).sum();
        Some(MeasuredProcess {
            process,
            began,
            nanoseconds: ended.saturating_sub(began),
            in_steps: sum(|step| step.nanoseconds),
            waited: sum(|step| step.waited),
        })
    }
}

fn measured(step: &Step, watch: &Stopwatch, origin: u64) -> MeasuredStep {
    let Some(noted) = step.explanation.mark.and_then(|mark| watch.noted(mark)) else {
        return MeasuredStep { outcome: Outcome::NotReached, began: None, nanoseconds: None, waited: None };
    };
    let outcome = match noted.state {
        StepState::Done => Outcome::Done,
        StepState::NothingToDo => Outcome::NothingToDo,
        StepState::Failed => Outcome::Failed,
    };
    MeasuredStep {
        outcome,
        began: Some(noted.began.saturating_sub(origin)),
        nanoseconds: Some(noted.took).filter(|took| *took > 0),
        waited: Some(noted.waited).filter(|waited| *waited > 0),
    }
}
