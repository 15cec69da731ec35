//! How long each step of a launch takes, where somebody asked for that: a launch carries a [`Stopwatch`], which is off in all others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use crate::sys::{SharedNumbers, monotonic_nanoseconds};

/// So many steps of one kind can be noted; further ones have no time.
const ROOM: usize = 4096;
/// So many kinds of steps are there once.
const SINGLE: usize = 26;
/// What stands before the steps: the moments.
const MOMENTS: usize = 9;
/// What is noted of a step: when it began (0: never), how long it took, how much of that it waited, and its state.
const FIELDS: usize = 4;
const TOOK: usize = 1;
const WAITED: usize = 2;
const STATE: usize = 3;

/// Names a step of a launch, or of what follows it, whoever makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// We execute ourselves anew.
    Seal,
    /// Directories that mounts name are made.
    MakeSources,
    /// The directory and the record of a bundle's container are made.
    MakeState,
    /// The container's id is claimed.
    Claim,
    /// The container's directory is made.
    MakeFiles,
    /// Its cgroup is made.
    MakeCgroup,
    /// Limits are written.
    SetLimits,
    /// Rules for devices are set.
    JudgeDevices,
    /// A process that stands in between is cloned.
    CloneBetween,
    /// That process joins namespaces.
    Join,
    /// The container's process is cloned.
    Clone,
    /// Id maps are written.
    WriteIdMaps,
    /// A layer is cloned with its ids mapped.
    MapLayer(usize),
    /// The source of a bind is cloned with its ids mapped.
    MapSource(usize),
    /// Device nodes are made.
    MakeNodes,
    /// The plan is sent.
    SendPlan,
    /// Network devices of the host's are moved into the container.
    MoveDevices,
    /// Networks are made that are not there yet.
    MakeNetworks,
    /// The container gets a place in a network, one for each.
    AttachNetwork(usize),
    /// A hook of the runtime runs, of those before the program.
    Hook(usize),
    /// The word that the program may run.
    SendStart,
    /// The parent waits for the program to run.
    AwaitProgram,
    /// A hook runs after the program has begun.
    HookAfterStart(usize),
    /// The parent waits for the end.
    AwaitEnd,
    /// The container leaves its networks.
    DetachNetworks,
    /// Its cgroup is removed.
    RemoveCgroup,
    /// A hook runs after the end.
    HookAfterEnd(usize),
    /// Its directory is removed.
    RemoveFiles,
    /// Its id is given up.
    GiveUp,
    /// The new process begins.
    Begin,
    /// It carries out a step of its plan up to `created`.
    Create(usize),
    /// It reports that.
    Created,
    /// It carries out a step of the rest.
    Start(usize),
    /// The process of the program, under the built-in init.
    Program,
}

impl Mark {
    /// Counts the kinds; those of which there can be many come last.
    fn place(self) -> (usize, usize) {
        match self {
            Self::Seal => (0, 0),
            Self::MakeSources => (1, 0),
            Self::MakeState => (2, 0),
            Self::Claim => (3, 0),
            Self::MakeFiles => (4, 0),
            Self::MakeCgroup => (5, 0),
            Self::SetLimits => (6, 0),
            Self::JudgeDevices => (7, 0),
            Self::CloneBetween => (8, 0),
            Self::Join => (9, 0),
            Self::Clone => (10, 0),
            Self::WriteIdMaps => (11, 0),
            Self::MakeNodes => (12, 0),
            Self::SendPlan => (13, 0),
            Self::MakeNetworks => (14, 0),
            Self::SendStart => (15, 0),
            Self::AwaitProgram => (16, 0),
            Self::AwaitEnd => (17, 0),
            Self::DetachNetworks => (18, 0),
            Self::RemoveCgroup => (19, 0),
            Self::RemoveFiles => (20, 0),
            Self::GiveUp => (21, 0),
            Self::Begin => (22, 0),
            Self::Created => (23, 0),
            Self::Program => (24, 0),
            Self::MoveDevices => (25, 0),
            Self::MapLayer(number) => (26, number),
            Self::MapSource(number) => (27, number),
            Self::AttachNetwork(number) => (28, number),
            Self::Hook(number) => (29, number),
            Self::HookAfterStart(number) => (30, number),
            Self::HookAfterEnd(number) => (31, number),
            Self::Create(number) => (32, number),
            Self::Start(number) => (33, number),
        }
    }

    /// Returns the number of its first field. `None`: there is no room.
    fn field(self) -> Option<usize> {
        let (kind, number) = self.place();
        let step = if kind < SINGLE { kind } else { SINGLE + (kind - SINGLE) * ROOM + number };
        (number < ROOM).then_some(MOMENTS + step * FIELDS)
    }
}

/// How many numbers there are.
const NUMBERS: usize = MOMENTS + (SINGLE + 8 * ROOM) * FIELDS;

/// Names a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// We began.
    Origin,
    /// The channel to the container's process was closed: by execve(2), or with the process.
    ChannelClosed,
    /// execve(2) of the container's program did that.
    Executed,
    /// The container's first process ended.
    Ended,
    /// The thread of the networks began.
    NetworksBegan,
    /// It ended.
    NetworksEnded,
    /// The process in between began.
    BetweenBegan,
    /// It ended.
    BetweenEnded,
    /// Nothing of the container was left.
    Cleared,
}

/// Says how far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// It was carried out.
    Done,
    /// What it is about was not there: nothing had to be done.
    NothingToDo,
    /// It failed, or its process ended in the middle of it.
    Failed,
}

/// Is what was noted of a step. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// When it began for the first time, on CLOCK_MONOTONIC of the host.
    pub began: u64,
    /// How long it took, all times together.
    pub took: u64,
    /// How much of that it waited for another process.
    pub waited: u64,
    /// How far it came.
    pub state: StepState,
}

/// Notes when steps begin and end, in memory that the processes of a launch share. One that is off, as in every launch that is not
/// measured, notes nothing and reads no clock.
#[derive(Clone, Debug, Default)]
pub struct Stopwatch(Option<Arc<Table>>);

#[derive(Debug)]
struct Table {
    numbers: SharedNumbers,
    /// How far this process's clock is ahead of the host's: it may be in a time namespace. Not shared.
    ahead: AtomicI64,
}

/// Is a step that has begun. One that is dropped without a word has failed.
#[derive(Debug)]
#[must_use = "a step that is not ended counts as failed"]
pub struct RunningStep<'a> {
    table: Option<(&'a Table, usize)>,
    began: u64,
}

impl Stopwatch {
    /// Makes one that is on; `origin` is the moment that it counts from, on CLOCK_MONOTONIC, now where that is not known.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn start(origin: Option<u64>) -> io::Result<Self> {
        let watch = Self(Some(Arc::new(Table { numbers: SharedNumbers::new(NUMBERS)?, ahead: AtomicI64::new(0) })));
        let now = monotonic_nanoseconds();
        let Some(table) = &watch.0 else { return Ok(watch) };
        table.store(Moment::Origin as usize, origin.unwrap_or(now));
        match origin {
            Some(origin) => watch.begin_at(Mark::Seal, origin).done(),
            // It was done before anybody could look at a clock: it has no time.
            None => table.store_done(Mark::Seal, now),
        }
        Ok(watch)
    }

    /// Says whether it notes anything.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a step, or goes on with one.
    pub fn begin(&self, mark: Mark) -> RunningStep<'_> {
        let began = self.0.as_ref().map_or(0, |table| table.now());
        self.begin_at(mark, began)
    }

    fn begin_at(&self, mark: Mark, began: u64) -> RunningStep<'_> {
        let table = self.0.as_deref().and_then(|table| Some((table, mark.field()?)));
        if let Some((table, field)) = table {
            if table.load(field) == 0 {
                table.store(field, began);
            }
            table.set_state(field, StepState::Failed);
        }
        RunningStep { table, began }
    }

    /// Measures a step.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn time<T, E>(&self, mark: Mark, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let step = self.begin(mark);
        let result = work();
        if result.is_ok() {
            step.done();
        } else {
            step.failed();
        }
        result
    }

    /// Measures a step that does nothing but wait for another process.
    pub fn wait<T>(&self, mark: Mark, work: impl FnOnce() -> T) -> T {
        let step = self.begin(mark);
        let result = work();
        step.waited();
        result
    }

    /// Notes that a moment has come.
    pub fn note(&self, moment: Moment) {
        if let Some(table) = &self.0 {
            table.store(moment as usize, table.now());
        }
    }

    /// Notes that the program runs: since the channel was closed, where that was noted, or now.
    pub fn note_program(&self) {
        let Some(table) = &self.0 else { return };
        let closed = self.moment(Moment::ChannelClosed);
        table.store(Moment::Executed as usize, closed.unwrap_or_else(|| table.now()));
    }

    /// Returns a moment on the host's CLOCK_MONOTONIC, in nanoseconds.
    pub fn moment(&self, moment: Moment) -> Option<u64> {
        self.0.as_ref().map(|table| table.load(moment as usize)).filter(|noted| *noted != 0)
    }

    /// Ends a step that was left open ([`RunningStep::leave_open`]).
    pub fn finish(&self, mark: Mark) {
        if let (Some(table), Some(field)) = (self.0.as_deref(), mark.field()) {
            // From its first moment on, what it waited meanwhile included.
            table.store(field + TOOK, table.now().saturating_sub(table.load(field)).max(1));
            table.set_state(field, StepState::Done);
        }
    }

    /// Ends the step in which a process became another program: nothing of it could say so.
    pub fn became(&self, mark: Mark) {
        let (Some(table), Some(field), Some(executed)) = (&self.0, mark.field(), self.moment(Moment::Executed)) else {
            return;
        };
        let began = table.load(field);
        if began != 0 {
            table.store(field + TOOK, executed.saturating_sub(began).max(1));
            table.set_state(field, StepState::Done);
        }
    }

    /// Returns what was noted of a step; `None` where it was never begun.
    pub fn noted(&self, mark: Mark) -> Option<StepTime> {
        let (table, field) = (self.0.as_ref()?, mark.field()?);
        let began = table.load(field);
        let state = match table.load(field + STATE) {
            0 => StepState::Done,
            1 => StepState::NothingToDo,
            _ => StepState::Failed,
        };
        let (took, waited) = (table.load(field + TOOK), table.load(field + WAITED));
        (began != 0).then_some(StepTime { began, took, waited, state })
    }

    /// Takes note that this process is in a time namespace: `offsets` is what its /proc/self/timens_offsets says (time_namespaces(7)). What
    /// it notes from here on is on the host's clock again.
    pub fn set_offsets(&self, offsets: &str) {
        let Some(table) = &self.0 else { return };
        let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"));
        let numbers: Vec<i64> =
            line.iter().flat_map(|line| line.split_whitespace()).filter_map(|word| word.parse().ok()).collect();
        if let [seconds, nanoseconds] = numbers[..] {
            table.ahead.store(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds), Relaxed);
        }
    }
}

impl RunningStep<'_> {
    fn end(self, state: StepState, is_wait: bool) {
        let Some((table, field)) = self.table else { return };
        // A step of less than the clock can tell apart has taken some time all the same.
        let took = table.now().saturating_sub(self.began).max(1);
        table.add(field + TOOK, took);
        if is_wait {
            table.add(field + WAITED, took);
        }
        table.set_state(field, state);
    }

    /// Leaves it to [`Stopwatch::finish`] to end it.
    pub fn leave_open(self) {}

    /// It is done.
    pub fn done(self) {
        self.end(StepState::Done, false);
    }

    /// It is done, and was nothing but waiting.
    pub fn waited(self) {
        self.end(StepState::Done, true);
    }

    /// There was nothing to do.
    pub fn nothing_to_do(self) {
        self.end(StepState::NothingToDo, false);
    }

    /// It failed.
    pub fn failed(self) {
        self.end(StepState::Failed, false);
    }
}

impl Table {
    fn now(&self) -> u64 {
        monotonic_nanoseconds().wrapping_sub(self.ahead.load(Relaxed).cast_unsigned())
    }

    fn load(&self, at: usize) -> u64 {
        self.numbers.all().get(at).map_or(0, |number| number.load(Relaxed))
    }

    fn store(&self, at: usize, value: u64) {
        if let Some(number) = self.numbers.all().get(at) {
            number.store(value, Relaxed);
        }
    }

    fn store_done(&self, mark: Mark, began: u64) {
        if let Some(field) = mark.field() {
            self.store(field, began);
            self.set_state(field, StepState::Done);
        }
    }

    fn add(&self, at: usize, value: u64) {
        if let Some(number) = self.numbers.all().get(at) {
            number.fetch_add(value, Relaxed);
        }
    }

    fn set_state(&self, field: usize, state: StepState) {
        self.store(field + STATE, state as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_off_notes_nothing() {
        let watch = Stopwatch::default();
        watch.time(Mark::Claim, || Ok::<_, ()>(())).unwrap();
        watch.note(Moment::Executed);
        watch.became(Mark::Start(3));
        assert!(!watch.is_on() && watch.noted(Mark::Claim).is_none() && watch.moment(Moment::Origin).is_none());
    }

    #[test]
    fn steps_have_places_of_their_own() {
        let watch = Stopwatch::start(Some(1)).unwrap();
        let marks =
            [Mark::Seal, Mark::Program, Mark::MapLayer(0), Mark::MapLayer(1), Mark::Create(ROOM - 1), Mark::Start(0)];
        for mark in marks {
            watch.begin(mark).done();
        }
        watch.begin(Mark::Start(ROOM - 1)).nothing_to_do();
        assert_eq!(watch.noted(Mark::Start(ROOM - 1)).unwrap().state, StepState::NothingToDo);
        assert_eq!(Mark::Start(ROOM - 1).field().unwrap() + FIELDS, NUMBERS);
        let mut fields: Vec<_> = marks.iter().map(|mark| mark.field().unwrap()).collect();
        fields.sort_unstable();
        fields.dedup();
        assert_eq!(fields.len(), marks.len());
        watch.begin(Mark::Create(ROOM)).done();
        assert!(watch.noted(Mark::Create(ROOM)).is_none(), "there is no room");
        assert_eq!(watch.moment(Moment::Origin), Some(1));
        assert_eq!(watch.noted(Mark::Seal).unwrap().began, 1);
    }

    #[test]
    fn states_and_times_are_kept() {
        let watch = Stopwatch::start(None).unwrap();
        assert_eq!(watch.noted(Mark::Seal).unwrap().took, 0, "nobody knows when that began");
        watch.time(Mark::Claim, || Err::<(), _>(())).unwrap_err();
        assert_eq!(watch.noted(Mark::Claim).unwrap().state, StepState::Failed);
        drop(watch.begin(Mark::Clone));
        let left = watch.noted(Mark::Clone).unwrap();
        assert_eq!((left.state, left.took), (StepState::Failed, 0));
        watch.wait(Mark::AwaitEnd, || std::thread::sleep(std::time::Duration::from_millis(2)));
        let first = watch.noted(Mark::AwaitEnd).unwrap();
        assert!(first.took >= 2_000_000 && first.waited == first.took);
        watch.begin(Mark::AwaitEnd).done();
        let both = watch.noted(Mark::AwaitEnd).unwrap();
        assert!(both.took > first.took && both.waited == first.waited && both.began == first.began);
        let program = watch.begin(Mark::Program);
        watch.became(Mark::Program);
        assert_eq!(watch.noted(Mark::Program).unwrap().state, StepState::Failed);
        watch.note(Moment::ChannelClosed);
        watch.note_program();
        watch.became(Mark::Program);
        drop(program);
        assert_eq!(watch.moment(Moment::Executed), watch.moment(Moment::ChannelClosed));
        assert_eq!(watch.noted(Mark::Program).unwrap().state, StepState::Done);
    }

    #[test]
    fn a_time_namespace_does_not_count() {
        let watch = Stopwatch::start(None).unwrap();
        watch.begin(Mark::Claim).done();
        watch.set_offsets("monotonic         100         500\nboottime            7           0\n");
        assert_eq!(watch.0.as_ref().unwrap().ahead.load(Relaxed), 100_000_000_500);
        watch.begin(Mark::Clone).done();
        assert!(watch.noted(Mark::Clone).unwrap().began < watch.noted(Mark::Claim).unwrap().began);
        watch.set_offsets("nothing that is known");
        assert_eq!(watch.0.as_ref().unwrap().ahead.load(Relaxed), 100_000_000_500);
    }
}
