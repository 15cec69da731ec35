//! `cni add|del|check|gc|status`: the plugins of a configuration, by hand.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cli::args::{CniAddArgs, CniArgs, CniCommand, CniList, UsageError, shown};
use crate::cli::cni;
use crate::cli::report::{CliError, print, say};
use crate::cli::runtime::{block_on, unless_interrupted};
use crate::cli::settings::Settings;
use crate::cli::style::Palette;
use crate::network::cni::{
    CachedAttachment, CniError, NetworkList, PLUGINS, Runtime, RuntimeConfig, SpecVersion, load_list, split_path,
};
use crate::network::{NetworkError, Networks};

/// Runs plugins.
///
/// # Errors
/// [`CliError::Network`], [`CliError::Usage`].
pub fn run(args: CniArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    settings.directories.create()?;
    let networks = Networks::open(settings.directories.run())?.with_data_directory(settings.directories.data());
    let driver = networks.cni();
    match args.command {
        CniCommand::Add(args) => add(&args, settings, &networks)?,
        CniCommand::Del(target) => {
            let (id, ifname) = (&target.container_id, target.ifname.as_str());
            if !interruptible(async { driver.del(id, ifname).await.map_err(wrapped) })? {
                return Err(wrapped(not_attached(id, ifname)));
            }
        }
        CniCommand::Check(target) => {
            let (id, ifname) = (&target.container_id, target.ifname.as_str());
            let asked = interruptible(async { driver.check_attachment(id, ifname).await.map_err(wrapped) })?;
            print(if asked { "as it was attached\n" } else { "not asked: the configuration has `disableCheck`\n" })?;
        }
        CniCommand::Gc(args) => {
            let (runtime, list) = open(&args, settings)?;
            let asked = interruptible(async { driver.gc(&runtime, &list).await.map_err(wrapped) })?;
            print(&answered("GC", &asked))?;
        }
        CniCommand::Status(args) => {
            let (runtime, list) = open(&args, settings)?;
            let text = interruptible(async { status(&runtime, &list).await.map_err(wrapped) })?;
            print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: &CniAddArgs, settings: &Settings, networks: &Networks) -> Result<(), CliError> {
    let (runtime, list) = open(&args.list, settings)?;
    let entry = CachedAttachment {
        container_id: args.target.container_id.clone(),
        ifname: args.target.ifname.as_str().to_owned(),
        container_name: args.target.container_id.clone(),
        network_id: None,
        list,
        version: SpecVersion::V1_1_0,
        netns: args.netns.display().to_string(),
        netns_inode: 0,
        netns_now: None,
        args: args.args.clone(),
        runtime: capabilities(&args.capabilities)?,
        plugin_directories: runtime.directories.clone(),
        limit_ms: u64::try_from(runtime.limit.as_millis()).unwrap_or(u64::MAX),
        result: None,
        is_complete: false,
        owed: None,
        plugin: None,
    };
    let (id, ifname) = (entry.container_id.clone(), entry.ifname.clone());
    let driver = networks.cni();
    let mut is_begun = false;
    let result = block_on(async {
        let added = unless_interrupted(async { driver.add(entry, &mut is_begun).await.map_err(wrapped) }).await;
        match added {
            Ok(result) => Ok(result),
            // Nothing of ours is there to be taken back; what is there is another's.
            Err(error) if !is_begun => Err(error),
            Err(error) => {
                let undone = unless_interrupted(async { driver.del(&id, &ifname).await.map_err(wrapped) }).await;
                if let Err(second) = undone {
                    say(&second.render(Palette::PLAIN));
                    say(&format!("hint: `mydocker cni del --container-id {id} --ifname {ifname}` tries it again\n"));
                }
                Err(error)
            }
        }
    })?;
    let used = driver.attachments().map_err(wrapped)?;
    let version =
        used.iter().find(|entry| entry.container_id == id && entry.ifname == ifname).map(|entry| entry.version);
    print(&format!("{:#}\n", result.to_json(version.unwrap_or(SpecVersion::V1_1_0))))
}

fn open(args: &CniList, settings: &Settings) -> Result<(Runtime, NetworkList), CliError> {
    let here = std::env::current_dir()
        .map_err(|source| CliError::Read { file: "the working directory".to_owned(), source })?;
    let path = cni::find(&args.list, Path::new(&here), settings)?;
    let list = load_list(&path).map_err(wrapped)?;
    let directories = split_path(settings.cni_path.as_deref().unwrap_or(PLUGINS));
    Ok((Runtime::new(directories, Duration::from_secs(args.timeout.max(1))), list))
}

async fn status(runtime: &Runtime, list: &NetworkList) -> Result<String, CniError> {
    let mut text = String::new();
    for plugin in &list.plugins {
        let versions = runtime.versions(list, plugin.plugin_type()).await?;
        let versions: Vec<&str> = versions.iter().map(|version| version.as_str()).collect();
        text += &format!("{}: speaks {}\n", plugin.plugin_type(), versions.join(", "));
    }
    text += &format!("{}: version {} is used\n", list.name, runtime.negotiate(list).await?);
    Ok(text + &answered("STATUS", &runtime.status(list).await?))
}

fn answered(operation: &str, plugins: &[String]) -> String {
    match plugins {
        [] => format!("no plugin was asked: {operation} needs version 1.1.0 of CNI\n"),
        some => format!("{operation}: {} answered well\n", some.join(", ")),
    }
}

fn capabilities(words: &[String]) -> Result<RuntimeConfig, CliError> {
    let mut members = Map::new();
    for word in words {
        let wrong = |reason: &str| UsageError::new(format!("`--capability {}`: {reason}", shown(word)));
        let (name, value) = word.split_once('=').ok_or_else(|| wrong("not NAME=JSON"))?;
        let value: Value = serde_json::from_str(value).map_err(|error| wrong(&error.to_string()))?;
        members.insert(name.to_owned(), value);
    }
    let typed = serde_json::from_value(Value::Object(members));
    typed.map_err(|error| UsageError::new(format!("`--capability`: {error}")).into())
}

fn interruptible<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    block_on(unless_interrupted(work))
}

fn not_attached(container: &str, ifname: &str) -> CniError {
    CniError::NotAttached { container: container.to_owned(), ifname: ifname.to_owned() }
}

fn wrapped(error: CniError) -> CliError {
    CliError::Network(NetworkError::from(error))
}
