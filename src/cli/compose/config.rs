//! `compose config`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::policy;
use crate::cli::args::{ConfigArgs, ConfigFormat, Policy};
use crate::cli::project::{CommandResult, ComposeContext, no_such_service};
use crate::cli::report::{CliError, print, say};
use crate::cli::table::columns;
use crate::compose::risks::Judgement;
use crate::compose::{Document, Skip, Variable};

/// Checks the file and prints it as it is understood.
///
/// # Errors
/// [`CliError`].
pub fn run(context: &ComposeContext<'_>, args: &ConfigArgs) -> CommandResult {
    if args.risks {
        return risks(context, args);
    }
    write(args, text(context, args)?)?;
    Ok(ExitCode::SUCCESS)
}

fn write(args: &ConfigArgs, text: String) -> Result<(), CliError> {
    match &args.output {
        _ if args.quiet => Ok(()),
        None => print(&text),
        Some(path) => fs::write(path, text)
            .map_err(|source| CliError::Write { file: path.to_string_lossy().into_owned(), source }),
    }
}

fn text(context: &ComposeContext<'_>, args: &ConfigArgs) -> Result<String, CliError> {
    if let Some(service) = &args.hash {
        return hashes(context, service);
    }
    if args.variables {
        return Ok(table(&context.variables()?));
    }
    if args.environment {
        return Ok(context.environment()?.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect());
    }
    let skip = Skip {
        interpolation: args.no_interpolate,
        paths: args.no_path_resolution,
        normalization: args.no_normalize,
        consistency: args.no_consistency,
    };
    let config = context.config(&args.service_names, skip)?;
    if config.is_strict || policy::is_strict(context, args.policy) {
        let skip = Skip { consistency: args.no_consistency, ..Skip::default() };
        policy::enforce(context, &judged(context, args, config.document.value(), skip)?, Some(Policy::Strict))?;
    }
    let document = only(config.document.value(), &args.service_names)?;
    Ok(render(&document, args))
}

/// Judges the services that are named, with all they depend on.
fn judged(
    context: &ComposeContext<'_>,
    args: &ConfigArgs,
    document: &Value,
    skip: Skip,
) -> Result<Judgement, CliError> {
    let document = only(document, &args.service_names)?;
    let meant = object(&document, "services").into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let judgement = policy::with_host(context, |host| context.judge(&args.service_names, skip, host))?;
    Ok(judgement.of_services(&meant))
}

/// Prints what the services can do to the host; where the policy is strict the list comes first, and then the refusal.
fn risks(context: &ComposeContext<'_>, args: &ConfigArgs) -> CommandResult {
    let skip = Skip { consistency: args.no_consistency, ..Skip::default() };
    let config = context.config(&args.service_names, skip)?;
    let judgement = judged(context, args, config.document.value(), skip)?;
    let text = match args.format {
        ConfigFormat::Json => judgement.to_json() + "\n",
        ConfigFormat::Yaml => judgement.to_text(),
    };
    if judgement.risks.is_empty() {
        say("no risks found\n");
    }
    write(args, text)?;
    policy::enforce(context, &judgement, args.policy)?;
    Ok(ExitCode::SUCCESS)
}

/// Renders the variables as Compose does.
fn table(variables: &BTreeMap<String, Variable>) -> String {
    let mut rows = vec![["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"].map(str::to_owned)];
    rows.extend(variables.iter().map(|(name, variable)| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        [name.clone(), variable.required.to_string(), text(&variable.default), text(&variable.alternate)]
    }));
    columns(&rows)
}

fn render(document: &Value, args: &ConfigArgs) -> String {
    let services = || object(document, "services").into_iter().flatten();
    let keys = |name: &str| object(document, name).into_iter().flatten().map(|(key, _)| key.clone()).collect();
    let names: BTreeSet<String> = if args.services {
        keys("services")
    } else if args.volumes {
        keys("volumes")
    } else if args.networks {
        keys("networks")
    } else if args.images {
        services().filter_map(|(_, service)| service["image"].as_str()).map(str::to_owned).collect()
    } else if args.profiles {
        let profiles = services().filter_map(|(_, service)| service["profiles"].as_array()).flatten();
        profiles.filter_map(Value::as_str).map(str::to_owned).collect()
    } else {
        let document = Document::from(document.clone());
        let text = match args.format {
            ConfigFormat::Yaml => document.to_yaml(),
            ConfigFormat::Json => document.to_json() + "\n",
        };
        // What comes out can go in again: a `$` that is left is meant as such.
        return if args.no_interpolate { text } else { text.replace('$', "$$") };
    };
    names.into_iter().map(|name| name + "\n").collect()
}

/// Keeps only some services, with all they depend on.
fn only(document: &Value, services: &[String]) -> Result<Value, CliError> {
    let mut document = document.clone();
    let Some(all) = document.get_mut("services").and_then(Value::as_object_mut) else { return Ok(document) };
    if let Some(unknown) = services.iter().find(|name| !all.contains_key(*name)) {
        return Err(no_such_service(unknown, all.keys().map(String::as_str)).into());
    }
    if !services.is_empty() {
        let mut kept = BTreeSet::new();
        let mut open: Vec<String> = services.to_vec();
        while let Some(name) = open.pop() {
            let needs = all.get(&name).and_then(|service| service["depends_on"].as_object());
            open.extend(needs.into_iter().flatten().map(|(key, _)| key.clone()).filter(|key| !kept.contains(key)));
            kept.insert(name);
        }
        all.retain(|name, _| kept.contains(name));
    }
    Ok(document)
}

fn object<'d>(document: &'d Value, name: &str) -> Option<&'d Map<String, Value>> {
    document.get(name).and_then(Value::as_object)
}

/// Renders `web 0123…`: what a container is made of, as `up` compares it.
fn hashes(context: &ComposeContext<'_>, service: &str) -> Result<String, CliError> {
    let all = service == "*";
    let selected: Vec<String> = if all { Vec::new() } else { service.split(',').map(str::to_owned).collect() };
    let project = context.load(&selected)?;
    let chosen = project.services.values().filter(|service| all || selected.contains(&service.name));
    Ok(chosen.map(|service| format!("{} {}\n", service.name, service.config_hash())).collect())
}
