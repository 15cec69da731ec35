//! `top`: the processes of a container, as ps(1) of the host shows them.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

use super::find::{Context, find};
use crate::cli::args::ContainerTopArgs;
use crate::cli::project::CommandResult;
use crate::cli::report::{CliError, print};
use crate::namespaces::cgroup::{CgroupError, CgroupPath, Hierarchies};
use crate::supervisor::control::protocol::{ContainerStatus, State};

/// Shows the processes of a container.
pub(super) fn run(context: Context<'_>, args: &ContainerTopArgs) -> CommandResult {
    let mut words = args.words.iter();
    let container = find(context, words.next().map_or("", String::as_str))?.status;
    if container.state != State::Running {
        return Err(CliError::NoSuch(format!("container {} is not running", container.name)));
    }
    let inside = processes(context, &container).map_err(|error| CliError::Launch(error.into()))?;
    let mut options: Vec<&str> = words.map(String::as_str).collect();
    if options.is_empty() {
        options.push("-ef");
    }
    let failed = |source| CliError::Read { file: "what ps(1) tells".to_owned(), source };
    let told = Command::new("ps").args(&options).output().map_err(failed)?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    if !told.status.success() {
        return Err(CliError::NoSuch(format!("ps: {}", String::from_utf8_lossy(&told.stderr).trim())));
    }
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let Some(at) = head.split_whitespace().position(|title| title == "PID") else {
        return Err(CliError::NoSuch("ps does not tell the process ids: its options leave PID out".to_owned()));
    };
    let is_inside = |line: &&str| {
        line.split_whitespace().nth(at).and_then(|word| word.parse().ok()).is_some_and(|pid| inside.contains(&pid))
    };
    let shown: Vec<&str> = std::iter::once(head).chain(lines.filter(is_inside)).collect();
    print(&(shown.join("\n") + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn processes(context: Context<'_>, container: &ContainerStatus) -> Result<BTreeSet<i32>, CgroupError> {
    let parent = &context.settings.cgroup_parent;
    let path = CgroupPath::new(&format!("{parent}/{}/{}", container.project, container.id.as_str()))?;
    let cgroup = Hierarchies::discover()?.open(&path)?;
    Ok(cgroup.map(|cgroup| cgroup.processes()).transpose()?.unwrap_or_default().into_iter().collect())
}
