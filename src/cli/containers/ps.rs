//! `ps`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::filter::Filters;
use super::find::{Context, all};
use super::template::{keys, render};
use crate::cli::args::{ContainerListArgs, UsageError};
use crate::cli::project::CommandResult;
use crate::cli::report::print;
use crate::cli::runtime::block_on;
use crate::cli::style::harmless;
use crate::cli::table::{age, columns, shown_command, state_word, status_text, time};
use crate::supervisor::control::protocol::{ContainerStatus, State};

/// Lists containers: those by themselves, and those of compose projects.
pub(super) fn run(context: Context<'_>, args: &ContainerListArgs) -> CommandResult {
    let filters = Filters::of(&args.filter)?;
    let mut found = block_on(all(context))?;
    let is_listed = |container: &ContainerStatus| {
        let runs = matches!(container.state, State::Running | State::Restarting);
        (args.all || runs || filters.name_states()) && filters.hold(container)
    };
    found.retain(is_listed);
    // The newest first, as Docker has it.
    found.sort_by(|a, b| (b.created_at, &a.name).cmp(&(a.created_at, &b.name)));
    print(&shown(&found, args, Timestamp::now().as_second())?)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(containers: &[ContainerStatus], args: &ContainerListArgs, now: i64) -> Result<String, UsageError> {
    let id = |container: &ContainerStatus| {
        if args.no_trunc { container.id.as_str().to_owned() } else { container.id.short().to_owned() }
    };
    if args.quiet {
        return Ok(containers.iter().map(|container| id(container) + "\n").collect());
    }
    let values: Vec<Value> = containers.iter().map(|one| value(one, id(one), args.no_trunc, now)).collect();
    match args.format.as_str() {
        "table" => Ok(table(&values)),
        "json" => Ok(values.iter().map(|value| format!("{value}\n")).collect()),
        template => match template.strip_prefix("table ") {
            Some(template) => aligned(template, &values),
            None => values.iter().map(|value| Ok(render(template, value)? + "\n")).collect(),
        },
    }
}

/// Describes a container by the keys that `docker ps --format` has.
fn value(container: &ContainerStatus, id: String, no_trunc: bool, now: i64) -> Value {
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = container.addresses.keys().map(String::as_str).collect();
    json!({
        "Command": shown_command(&container.command, if no_trunc { usize::MAX } else { 20 }),
        "CreatedAt": time(container.created_at),
        "ID": id,
        "Image": container.image,
        "Labels": labels.join(","),
        "Names": container.name,
        "Networks": networks.join(","),
        "Ports": container.ports.join(", "),
        "RunningFor": format!("{} ago", age(now, Some(container.created_at))),
        "State": state_word(container.state),
        "Status": status_text(container, now),
    })
}

const COLUMNS: [(&str, &str); 7] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

fn table(values: &[Value]) -> String {
    let head = COLUMNS.map(|(title, _)| title.to_owned());
    let row = |value: &Value| {
        COLUMNS.map(|(_, key)| harmless(value[key].as_str().unwrap_or_default()).replace(['\n', '\t'], " "))
    };
    columns(&std::iter::once(head).chain(values.iter().map(row)).collect::<Vec<_>>())
}

/// `table {{.ID}}\t{{.Names}}`: the titles above the columns, which tabs separate.
fn aligned(template: &str, values: &[Value]) -> Result<String, UsageError> {
    let title = |key: &String| {
        let known = COLUMNS.iter().find(|(_, name)| name == key).map(|(title, _)| (*title).to_owned());
        (key.clone(), Value::String(known.unwrap_or_else(|| key.to_uppercase())))
    };
    let titles = Value::Object(keys(template).iter().map(title).collect::<Map<_, _>>());
    let mut rows = Vec::new();
    for value in std::iter::once(&titles).chain(values) {
        rows.push(render(template, value)?.split('\t').map(str::to_owned).collect::<Vec<_>>());
    }
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:width$}   ", width = width(at)));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    Ok(rows.iter().map(line).collect())
}
