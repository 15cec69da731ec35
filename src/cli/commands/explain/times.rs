//! Times in words.

use super::text::name_of;
use crate::engine::explain::{MeasuredRun, MeasuredStep, Outcome, Step};

/// So many of the longest steps are named.
const LONGEST: usize = 5;

/// Says how long a step took, or why it has no time.
pub(super) fn of_step(measured: &MeasuredStep) -> String {
    let took = measured.nanoseconds.map_or_else(String::new, duration);
    let waited = measured.waited.map_or_else(String::new, |waited| match measured.nanoseconds == Some(waited) {
        true => ", all of it waiting".to_owned(),
        false => format!(", {} of it waiting", duration(waited)),
    });
    match measured.outcome {
        Outcome::Done if took.is_empty() => "was done before there was a clock".to_owned(),
        Outcome::Done => format!("took {took}{waited}"),
        Outcome::NothingToDo => format!("had nothing to do ({took})"),
        Outcome::Failed => format!("failed, or was ended ({took}{waited})"),
        Outcome::NotReached => "was not carried out".to_owned(),
    }
}

/// Takes the whole apart: one line each.
pub(super) fn of_run(run: &MeasuredRun, steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before = 0;
    for (moment, words) in [
        (run.until_clone, "until the container's first process was cloned"),
        (run.until_program, "from there until its program ran (execve)"),
        (run.until_end, "from there until it ended"),
        (Some(run.nanoseconds), "from there until nothing of it was left"),
    ] {
        if let Some(moment) = moment {
            lines.push(format!("{:>9}  {words}", duration(moment.saturating_sub(before))));
            before = moment;
        }
    }
    lines.push(format!("{:>9}  together, exit code {}", duration(run.nanoseconds), run.exit_code));
    for process in &run.processes {
        let besides = process.nanoseconds.saturating_sub(process.in_steps);
        lines.push(format!(
            "{}: {} in all, {} of it in steps ({} waiting), {} besides",
            name_of(process.process),
            duration(process.nanoseconds),
            duration(process.in_steps),
            duration(process.waited),
            duration(besides)
        ));
    }
    let mut working: Vec<_> = steps.iter().map(|step| (work(step), step)).filter(|(took, _)| *took > 0).collect();
    working.sort_by_key(|(took, step)| (std::cmp::Reverse(*took), step.number));
    for (at, (took, step)) in working.iter().take(LONGEST).enumerate() {
        let label = if at == 0 { "the longest, without waiting: " } else { "" };
        lines.push(format!("{label}step {} ({}) {}", step.number, step.explanation.kind, duration(*took)));
    }
    lines
}

/// How long a step took without the time that it waited.
fn work(step: &Step) -> u64 {
    let measured = step.measured.as_ref();
    let took = measured.and_then(|measured| measured.nanoseconds).unwrap_or_default();
    took.saturating_sub(measured.and_then(|measured| measured.waited).unwrap_or_default())
}

fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{:.1} µs", nanoseconds as f64 / 1e3),
        1_000_000..10_000_000_000 => format!("{:.2} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.2} s", nanoseconds as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_that_can_be_read() {
        let shown: Vec<_> = [0, 1_500, 999_949, 1_234_567, 9_999_000_000, 12_000_000_000].map(duration).to_vec();
        assert_eq!(shown, ["0.0 µs", "1.5 µs", "999.9 µs", "1.23 ms", "9999.00 ms", "12.00 s"]);
    }

    #[test]
    fn what_did_not_happen_is_said() {
        let step =
            |outcome, nanoseconds, waited| of_step(&MeasuredStep { outcome, began: nanoseconds, nanoseconds, waited });
        assert_eq!(step(Outcome::NotReached, None, None), "was not carried out");
        assert_eq!(step(Outcome::NothingToDo, Some(700), None), "had nothing to do (0.7 µs)");
        assert_eq!(step(Outcome::Done, Some(2_000), Some(1_000)), "took 2.0 µs, 1.0 µs of it waiting");
        assert_eq!(step(Outcome::Done, Some(2_000), Some(2_000)), "took 2.0 µs, all of it waiting");
    }
}
