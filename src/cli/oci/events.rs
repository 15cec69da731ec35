//! `events`.

use std::process::ExitCode;
use std::time::Duration;

use super::Context;
use super::args::EventsArgs;
use crate::cli::report::{self, CliError};
use crate::engine::oci::{Event, OciError, stats, watch};

/// Prints what a container uses, one JSON object a line: once, or as long as it lives.
pub(super) fn run(args: &EventsArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    if args.stats {
        print(&stats(&context.runtime, &args.id)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    watch(&context.runtime, &args.id, args.interval.0, &mut print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(event: &Event) -> Result<(), CliError> {
    let text = serde_json::to_string(event).map_err(|source| OciError::Json { path: "the answer".into(), source })?;
    report::print(&format!("{text}\n"))
}

/// Is a time between two looks: `5s`, `500ms`, `1m`, as Go writes it; seconds without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl std::str::FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time like 500ms, 5s or 1m");
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u32 = text[..end].parse().map_err(|_| wrong())?;
        let unit = match &text[end..] {
            "ms" => Duration::from_millis(1),
            "s" | "" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        if number == 0 { Err(wrong()) } else { Ok(Self(unit * number)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!("5s".parse(), Ok(Interval(Duration::from_secs(5))));
        assert_eq!("500ms".parse(), Ok(Interval(Duration::from_millis(500))));
        for bad in ["", "0", "s", "-1s", "5x"] {
            assert!(bad.parse::<Interval>().is_err(), "{bad}");
        }
    }
}
