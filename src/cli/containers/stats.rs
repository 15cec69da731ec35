//! `stats`: what running containers use.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::find::{Context, all, find};
use super::template::render;
use crate::cli::args::{ContainerStatsArgs, UsageError};
use crate::cli::project::CommandResult;
use crate::cli::report::{CliError, print};
use crate::cli::runtime::block_on;
use crate::cli::style::harmless;
use crate::cli::table::columns;
use crate::namespaces::cgroup::{Cgroup, CgroupPath, Hierarchies, Statistics};
use crate::spec::ContainerId;
use crate::supervisor::control::protocol::{ContainerStatus, State};

/// Between two looks; CPU time is told of the time between them.
const BETWEEN: Duration = Duration::from_secs(1);
/// The same where only one table is asked for.
const ONCE: Duration = Duration::from_millis(300);
/// CPU time in /proc is counted in ticks, so many a second for programs (USER_HZ, the same on every architecture we are built for).
const TICKS: u64 = 100;
/// Sends the cursor to the upper left corner and clears what is below (console_codes(4)).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Is what was seen of a container at one time. Bytes, and CPU time in nanoseconds.
#[derive(Debug, Default, Clone)]
struct Sample {
    cpu: u64,
    memory: u64,
    limit: u64,
    network: (u64, u64),
    block: (u64, u64),
    pids: u64,
}

/// Shows what containers use: all that run, or those that are named; again and again unless `--no-stream`.
pub(super) fn run(context: Context<'_>, args: &ContainerStatsArgs) -> CommandResult {
    let hierarchies = Hierarchies::discover().map_err(|error| CliError::Launch(error.into()))?;
    let host = host_memory();
    let mut before = samples(&chosen(context, args)?, context, &hierarchies, host);
    let mut at = Instant::now();
    loop {
        thread::sleep(if args.no_stream { ONCE } else { BETWEEN });
        let containers = chosen(context, args)?;
        let now = samples(&containers, context, &hierarchies, host);
        let passed = at.elapsed();
        at = Instant::now();
        let rows = containers.iter().map(|container| {
            let (first, second) = (before.get(&container.id), now.get(&container.id));
            value(container, first, second, passed, args.no_trunc)
        });
        let text = shown(&rows.collect::<Vec<_>>(), args)?;
        let is_screen = !args.no_stream && io::stdout().is_terminal();
        print(&if is_screen { format!("{CLEAR}{text}") } else { text })?;
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

fn chosen(context: Context<'_>, args: &ContainerStatsArgs) -> Result<Vec<ContainerStatus>, CliError> {
    if !args.containers.is_empty() {
        return args.containers.iter().map(|name| Ok(find(context, name)?.status)).collect();
    }
    let mut found = block_on(all(context))?;
    found.retain(|container| args.all || container.state == State::Running);
    found.sort_by(|a, b| (b.created_at, &a.name).cmp(&(a.created_at, &b.name)));
    Ok(found)
}

fn samples(
    containers: &[ContainerStatus],
    context: Context<'_>,
    hierarchies: &Hierarchies,
    host: u64,
) -> BTreeMap<ContainerId, Sample> {
    let sample = |container: &ContainerStatus| {
        let path = format!("{}/{}/{}", context.settings.cgroup_parent, container.project, container.id.as_str());
        let cgroup = hierarchies.open(&CgroupPath::new(&path).ok()?).ok()??;
        // One that ends meanwhile uses nothing.
        Some((container.id.clone(), of(&cgroup, container.pid, host)?))
    };
    containers.iter().filter(|container| container.state == State::Running).filter_map(sample).collect()
}

fn of(cgroup: &Cgroup, pid: Option<i32>, host: u64) -> Option<Sample> {
    let Statistics { cpu, memory, pids, blkio, .. } = cgroup.statistics().ok()?;
    let processes = cgroup.processes().ok()?;
    let bytes = |op: &str| {
        blkio.io_service_bytes_recursive.iter().filter(|entry| entry.op == op).map(|entry| entry.value).sum()
    };
    // As Docker: what the kernel may take back at any time does not count.
    let cache = memory.raw.get("total_inactive_file").or_else(|| memory.raw.get("inactive_file")).copied();
    let counted = memory.usage.usage.saturating_sub(cache.unwrap_or(0));
    let is_limited = memory.usage.limit > 0 && memory.usage.limit < host;
    Some(Sample {
        // Where the cgroup has no such controller, its processes are asked.
        cpu: if cpu.usage.total > 0 { cpu.usage.total } else { processes.iter().filter_map(|pid| cpu_of(*pid)).sum() },
        memory: if counted > 0 { counted } else { processes.iter().filter_map(|pid| resident(*pid)).sum() },
        limit: if is_limited { memory.usage.limit } else { host },
        network: pid.map_or((0, 0), network),
        block: (bytes("Read"), bytes("Write")),
        pids: pids.current,
    })
}

/// Sums up the CPU time of a process and of its children that it has waited for (proc_pid_stat(5)).
fn cpu_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, but for its last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks.saturating_mul(1_000_000_000) / TICKS)
}

/// Reads how much of a process is in memory and its own alone.
fn resident(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Sums up what its interfaces have received and sent, but for `lo`.
fn network(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let sum = |(received, sent): (u64, u64), (_, line): (&str, &str)| {
        let number = |at: usize| line.split_whitespace().nth(at).and_then(|word| word.parse().ok()).unwrap_or(0);
        (received + number(0), sent + number(8))
    };
    lines.filter(|(name, _)| name.trim() != "lo").fold((0, 0), sum)
}

fn host_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Describes a container by the keys that `docker stats --format` has.
fn value(
    container: &ContainerStatus,
    first: Option<&Sample>,
    second: Option<&Sample>,
    passed: Duration,
    no_trunc: bool,
) -> Value {
    let now = second.cloned().unwrap_or_default();
    let used = first.map_or(0, |first| now.cpu.saturating_sub(first.cpu));
    let percent = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    let nanoseconds = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
    let id = if no_trunc { container.id.as_str() } else { container.id.short() };
    json!({
        "BlockIO": format!("{} / {}", decimal(now.block.0), decimal(now.block.1)),
        "CPUPerc": format!("{:.2}%", percent(used, nanoseconds)),
        "Container": id,
        "ID": id,
        "MemPerc": format!("{:.2}%", percent(now.memory, now.limit)),
        "MemUsage": format!("{} / {}", binary(now.memory), binary(now.limit)),
        "Name": container.name,
        "NetIO": format!("{} / {}", decimal(now.network.0), decimal(now.network.1)),
        "PIDs": now.pids.to_string(),
    })
}

fn shown(rows: &[Value], args: &ContainerStatsArgs) -> Result<String, UsageError> {
    let keys = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    match args.format.as_str() {
        "table" => {
            let head = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
            let row = |row: &Value| keys.map(|key| harmless(row[key].as_str().unwrap_or_default()));
            let head = head.map(str::to_owned);
            Ok(columns(&std::iter::once(head).chain(rows.iter().map(row)).collect::<Vec<_>>()))
        }
        "json" => Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
        template => rows.iter().map(|row| Ok(render(template, row)? + "\n")).collect(),
    }
}

/// `1.5MiB`, as Docker shows memory.
fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

/// `1.5kB`, as Docker shows what is carried.
fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

fn scaled(bytes: u64, step: f64, units: &[&str], digits: usize) -> String {
    let (mut number, mut at) = (bytes as f64, 0);
    while number >= step && at + 1 < units.len() {
        number /= step;
        at += 1;
    }
    let whole = number.trunc().to_string().len();
    let text = format!("{number:.0$}", digits.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        let binaries: Vec<String> = [0, 1023, 1024, 1_572_864, 67_108_864, 2_147_483_648].map(binary).to_vec();
        assert_eq!(binaries, ["0B", "1023B", "1KiB", "1.5MiB", "64MiB", "2GiB"]);
        let decimals: Vec<String> = [0, 796, 1_240, 12_345, 999_999].map(decimal).to_vec();
        assert_eq!(decimals, ["0B", "796B", "1.24kB", "12.3kB", "1000kB"]);
    }

    #[test]
    fn our_own_process_uses_something() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(resident(pid).unwrap() > 100_000);
        assert!(cpu_of(pid).is_some() && host_memory() > 1 << 20);
    }
}
