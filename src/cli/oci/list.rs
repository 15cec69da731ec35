//! `list` and `ps`.

use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use super::Context;
use super::args::{ListArgs, PsArgs, TableFormat};
use super::lifecycle::print_json;
use crate::cli::report::{self, CliError};
use crate::engine::oci::{OciError, StateReport, processes};

/// Lists containers.
pub(super) fn list(args: &ListArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let listing = context.runtime.root.list()?;
    context.warn(&listing.warnings);
    if args.quiet {
        let ids: String = listing.containers.iter().map(|container| format!("{}\n", container.id())).collect();
        report::print(&ids)?;
        return Ok(ExitCode::SUCCESS);
    }
    // One that is deleted meanwhile has no state to tell of.
    let reports: Vec<StateReport> = listing.containers.iter().filter_map(|container| container.report().ok()).collect();
    match args.format {
        TableFormat::Json => print_json(&reports),
        TableFormat::Table => {
            report::print(&table(&reports))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn table(reports: &[StateReport]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(reports.iter().map(|one| {
        let bundle = one.bundle.display().to_string();
        [
            one.id.to_string(),
            one.pid.to_string(),
            one.status.to_string(),
            bundle,
            one.created.clone(),
            one.owner.clone(),
        ]
    }));
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
    text
}

/// Lists a container's processes.
pub(super) fn ps(args: &PsArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let container = context.runtime.find(&args.id)?;
    let pids = processes(&container)?;
    if args.format == TableFormat::Json {
        return print_json(&pids);
    }
    let options = if args.words.is_empty() { vec!["-ef".to_owned()] } else { args.words.clone() };
    let failed = |source| OciError::File { operation: "run", path: "ps".into(), source };
    let output = Command::new("ps").args(&options).output().map_err(failed)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(OciError::Config { key: format!("ps {}", options.join(" ")), reason }.into());
    }
    report::print(&filter(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the heading, and the lines whose column PID names one of ours.
fn filter(text: &str, pids: &[i32]) -> Result<String, OciError> {
    let heading = text.lines().next().unwrap_or_default();
    let column = heading.split_whitespace().position(|word| word == "PID").ok_or_else(|| OciError::Config {
        key: "ps".to_owned(),
        reason: "what it prints with these options has no column PID".to_owned(),
    })?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let ours = text.lines().skip(1).filter(is_ours);
    Ok(std::iter::once(heading).chain(ours).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_are_left_out() {
        let text = "UID PID CMD\nroot 1 init\nroot 12 sleep 1\nroot 112 sleep 12\n";
        assert_eq!(filter(text, &[12]).unwrap(), "UID PID CMD\nroot 12 sleep 1\n");
        assert!(filter("CMD\nx\n", &[1]).is_err());
    }
}
