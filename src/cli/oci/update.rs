//! `update`.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::Context;
use super::args::UpdateArgs;
use crate::cli::report::CliError;
use crate::engine::oci::{self, OciError, read_json};

/// Standard input, in place of a file's name.
const STDIN: &str = "-";

/// Changes a container's limits.
pub(super) fn run(args: &UpdateArgs, context: &Context<'_>) -> Result<ExitCode, CliError> {
    let resources = match args.resources.as_deref() {
        Some(path) if path == Path::new(STDIN) => from_stdin()?,
        Some(path) => read_json(path)?,
        None => from_options(args)?,
    };
    context.warn(&oci::update(&context.runtime, &args.id, &resources)?);
    Ok(ExitCode::SUCCESS)
}

fn from_stdin() -> Result<LinuxResources, OciError> {
    let mut text = Vec::new();
    let read = io::stdin().take(1 << 20).read_to_end(&mut text);
    read.map_err(|source| OciError::File { operation: "read", path: "standard input".into(), source })?;
    serde_json::from_slice(&text).map_err(|source| OciError::Json { path: "standard input".into(), source })
}

/// Options become the same JSON: what is not given is not in it.
fn from_options(args: &UpdateArgs) -> Result<LinuxResources, OciError> {
    let object = |entries: Vec<(&str, Option<Value>)>| {
        let given = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(given.collect::<Map<_, _>>())
    };
    let memory = object(vec![
        ("limit", args.memory.map(Value::from)),
        ("reservation", args.memory_reservation.map(Value::from)),
        ("swap", args.memory_swap.map(Value::from)),
        ("kernel", args.kernel_memory.map(Value::from)),
        ("kernelTCP", args.kernel_memory_tcp.map(Value::from)),
    ]);
    let cpu = object(vec![
        ("shares", args.cpu_share.map(Value::from)),
        ("quota", args.cpu_quota.map(Value::from)),
        ("burst", args.cpu_burst.map(Value::from)),
        ("period", args.cpu_period.map(Value::from)),
        ("realtimePeriod", args.cpu_rt_period.map(Value::from)),
        ("realtimeRuntime", args.cpu_rt_runtime.map(Value::from)),
        ("cpus", args.cpuset_cpus.clone().map(Value::from)),
        ("mems", args.cpuset_mems.clone().map(Value::from)),
        ("idle", args.cpu_idle.map(Value::from)),
    ]);
    let resources = object(vec![
        ("memory", Some(memory).filter(|part| *part != json!({}))),
        ("cpu", Some(cpu).filter(|part| *part != json!({}))),
        ("pids", args.pids_limit.map(|limit| json!({ "limit": limit }))),
        ("blockIO", args.blkio_weight.map(|weight| json!({ "weight": weight }))),
    ]);
    serde_json::from_value(resources).map_err(|source| OciError::Json { path: "the options".into(), source })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{OciCli, OciCommand};
    use super::*;

    #[test]
    fn options_say_what_a_file_says() {
        let line = "oci update web --memory 1048576 --memory-swap -1 --cpu-share 512 --cpuset-cpus 0-1 --pids-limit 7";
        let Some(OciCommand::Update(args)) = OciCli::try_parse_from(line.split(' ')).unwrap().oci.command else {
            panic!("{line}")
        };
        let text = r#"{"memory":{"limit":1048576,"swap":-1},"cpu":{"shares":512,"cpus":"0-1"},"pids":{"limit":7}}"#;
        assert_eq!(from_options(&args).unwrap(), serde_json::from_str(text).unwrap());
    }
}
