//! `network ls|inspect|create|rm|prune|check|attach`.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::args::{AttachArgs, NetworkArgs, NetworkCommand, NetworkCreateArgs, NetworkListArgs, UsageError};
use crate::cli::cni;
use crate::cli::pools::{pairs, set_pools};
use crate::cli::report::{CliError, print, say};
use crate::cli::runtime::{block_on, unless_interrupted};
use crate::cli::settings::Settings;
use crate::cli::style::harmless;
use crate::network::cni::{OPTION_LIST, OPTION_PATH};
use crate::network::{AttachRequest, Attachment, DriverKind, NetworkConfig, NetworkError, NetworkRecord, Networks};
use crate::spec::ContainerId;
use crate::store::ProcessIdentity;

/// Does what the words after `network` say.
///
/// # Errors
/// [`CliError::Network`], [`CliError::Usage`], [`CliError::NoSuch`].
pub fn run(args: NetworkArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    settings.directories.create()?;
    let dirs = &settings.directories;
    let networks =
        Networks::open(dirs.run())?.with_data_directory(dirs.data()).with_firewall(settings.firewall.clone());
    match args.command {
        NetworkCommand::Ls(args) => print(&list(&networks, &args)?)?,
        NetworkCommand::Inspect(args) => {
            let shown: Result<Vec<Value>, CliError> = args.names.iter().map(|name| inspect(&networks, name)).collect();
            print(&format!("{:#}\n", Value::Array(shown?)))?;
        }
        NetworkCommand::Create(args) => print(&create(&networks, &args, settings)?)?,
        NetworkCommand::Rm(args) => return remove(&networks, &args.names),
        NetworkCommand::Prune(_) => return prune(&networks),
        NetworkCommand::Check(args) => return check(&networks, &args.names),
        NetworkCommand::Attach(args) => print(&attach(&networks, &args)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(networks: &Networks, args: &NetworkListArgs) -> Result<String, CliError> {
    let records = networks.list()?;
    if args.quiet {
        return Ok(records.iter().map(|record| format!("{}\n", record.config.name)).collect());
    }
    let mut text = String::new();
    let width = records.iter().map(|record| record.config.name.len()).max().unwrap_or(0).max(4);
    let subnets = |record: &NetworkRecord| -> Vec<String> {
        record.subnets().iter().map(|subnet| subnet.subnet.to_string()).collect()
    };
    let wide = records.iter().map(|record| subnets(record).join(",").len()).max().unwrap_or(0).max(18);
    if args.format == "table" {
        text += &format!("{:12}   {:width$}   {:8}   {:wide$}   USED BY\n", "ID", "NAME", "DRIVER", "SUBNET");
    }
    for record in &records {
        let users = networks.attachments(&record.id)?.len();
        let (name, driver) = (harmless(&record.config.name), record.config.driver.to_string());
        let subnets = subnets(record);
        let (first, all) = (subnets.first().cloned().unwrap_or_default(), subnets.join(","));
        text += &match args.format.as_str() {
            "json" => format!(
                "{}\n",
                json!({
                    "ID": record.short_id(), "Name": name, "Driver": driver, "Subnet": first, "Subnets": subnets, "Users": users,
                })
            ),
            _ => format!("{:12}   {name:width$}   {driver:8}   {all:wide$}   {users}\n", record.short_id()),
        };
    }
    Ok(text)
}

fn inspect(networks: &Networks, name: &str) -> Result<Value, CliError> {
    let NetworkRecord { id, config, bridge, lan, cni } = networks.find(name)?;
    let places = networks.attachments(&id)?;
    let attached = |place: &Attachment| {
        json!({
            "Container": place.container, "Name": place.container_name, "Interface": place.ifname, "Address": place.address,
            "Gateway": place.gateway, "IPv6Address": place.address_v6, "IPv6Gateway": place.gateway_v6,
            "FurtherAddresses": place.further, "MacAddress": place.mac, "Ports": place.ports, "Process": place.process,
        })
    };
    let attached: Vec<Value> = places.iter().map(attached).collect();
    Ok(json!({"Id": id, "Config": config, "Bridge": bridge, "Lan": lan, "Cni": cni, "Attachments": attached}))
}

fn create(networks: &Networks, args: &NetworkCreateArgs, settings: &Settings) -> Result<String, CliError> {
    let driver = match args.driver.as_str() {
        "cni" => DriverKind::Cni,
        "none" => DriverKind::None,
        "macvlan" => DriverKind::Macvlan,
        "ipvlan" => DriverKind::Ipvlan,
        _ => DriverKind::Bridge,
    };
    let mut options = pairs("--opt", &args.options)?;
    if driver == DriverKind::Cni {
        let here = std::env::current_dir()
            .map_err(|source| CliError::Read { file: "the working directory".to_owned(), source })?;
        let wanted = options.get(OPTION_LIST).unwrap_or(&args.name).clone();
        let path = cni::find(&wanted, &here, settings)?;
        options.insert(OPTION_LIST.to_owned(), path.display().to_string());
        if let Some(path) = &settings.cni_path {
            options.entry(OPTION_PATH.to_owned()).or_insert_with(|| path.clone());
        }
    }
    let mut config = NetworkConfig {
        name: args.name.clone(),
        driver,
        internal: args.internal,
        options,
        labels: pairs("--label", &args.labels)?,
        ..NetworkConfig::default()
    };
    set_pools(&mut config, &args.pools)?;
    if matches!(args.name.as_str(), "host" | "none") {
        let message =
            format!("`{}` cannot be a network's name: `--network {}` means no network of ours", args.name, args.name);
        return Err(UsageError::new(message).into());
    }
    if networks.find(&args.name).is_ok() {
        let name = &args.name;
        return Err(CliError::NoSuch(format!(
            "make the network {name}: there is one of this name; `mydocker network inspect {name}` shows it"
        )));
    }
    let record = block_on(unless_interrupted(async { networks.ensure(&config).await.map_err(CliError::from) }))?;
    Ok(format!("{}\n", record.id))
}

fn remove(networks: &Networks, names: &[String]) -> Result<ExitCode, CliError> {
    block_on(unless_interrupted(async {
        tell(networks.drop_ended_processes().await);
        let mut code = ExitCode::SUCCESS;
        for name in names {
            // By id too: the record knows the name.
            let known = networks.find(name).map(|record| record.config.name);
            let removed = match networks.remove(known.as_deref().unwrap_or(name)).await {
                Ok(false) => Err(NetworkError::UnknownNetwork(name.clone())),
                other => other,
            };
            match removed {
                Ok(_) => print(&format!("{name}\n"))?,
                Err(error) => {
                    tell::<()>(Err(error));
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }))
}

fn prune(networks: &Networks) -> Result<ExitCode, CliError> {
    block_on(unless_interrupted(async {
        let mut failed = tell(networks.drop_ended_processes().await);
        failed |= tell(networks.cni().retry(|entry| entry.owed.is_some()).await.map_err(NetworkError::from));
        for record in networks.list()?.into_iter().filter(|record| record.config.project.is_none()) {
            match networks.remove(&record.config.name).await {
                Ok(_) => print(&format!("{}\n", record.config.name))?,
                Err(NetworkError::InUse { .. }) => {}
                Err(error) => failed |= tell::<()>(Err(error)),
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }))
}

fn check(networks: &Networks, names: &[String]) -> Result<ExitCode, CliError> {
    let mut records = Vec::new();
    if names.is_empty() {
        records = networks.list()?;
    }
    for name in names {
        records.push(networks.find(name)?);
    }
    block_on(unless_interrupted(async {
        let mut code = ExitCode::SUCCESS;
        for record in &records {
            for finding in networks.examine(record).await? {
                match finding.outcome {
                    Ok(text) => print(&format!("{}: {}: {text}\n", record.config.name, finding.what))?,
                    Err(error) => {
                        say(&format!("{}: {}: {}\n", record.config.name, finding.what, harmless(&chain(&error))));
                        code = ExitCode::FAILURE;
                    }
                }
            }
        }
        Ok(code)
    }))
}

fn attach(networks: &Networks, args: &AttachArgs) -> Result<String, CliError> {
    let gone = || CliError::NoSuch(format!("attach process {}: there is none", args.pid));
    let process = ProcessIdentity::of(args.pid)?.ok_or_else(gone)?;
    let path = format!("/proc/{}/ns/net", args.pid);
    let read = |source| CliError::Read { file: path.clone(), source };
    let netns: OwnedFd = File::open(&path).map_err(read)?.into();
    if is_ours(&path).map_err(read)? {
        let message = format!("process {} is in our own network namespace: there is nothing to attach", args.pid);
        return Err(UsageError::new(message)
            .hint("`unshare --net COMMAND` starts one in a namespace of its own")
            .into());
    }
    // The bridge of `run` is the network `bridge`; any other has a network of its own name.
    let name = if args.bridge.as_str() == "brg0" { "bridge" } else { args.bridge.as_str() };
    let pools = &args.pools;
    let says_nothing = pools.subnets.is_empty() && pools.gateways.is_empty() && !pools.ipv6 && pools.ipv4;
    let config = match networks.find(name).ok().filter(|_| says_nothing) {
        Some(record) => record.config,
        None => new_bridge(name, args)?,
    };
    let (ipv4, ipv6) = one_of_each(&args.addresses)?;
    let container = id_of(&process);
    block_on(async {
        tell(networks.drop_ended_processes().await);
        let new = networks.find(name).is_err();
        let record = networks.ensure(&config).await?;
        let request = AttachRequest {
            network: record.id.clone(),
            container: container.clone(),
            container_name: format!("process {}", args.pid),
            aliases: Vec::new(),
            netns: netns.as_fd(),
            ifname: args.ifname.clone(),
            ipv4,
            ipv6,
            link_local: Vec::new(),
            mac: args.mac,
            default_route: true,
            bandwidth: crate::spec::Bandwidth::default(),
            ports: Vec::new(),
            process: Some(process.clone()),
        };
        match networks.attach(request).await {
            Ok(place) => Ok(place.networks().iter().map(|address| format!("{address}\n")).collect()),
            Err(error) => {
                if new {
                    tell(networks.remove(name).await);
                }
                Err(error.into())
            }
        }
    })
}

/// Says what the network of a bridge is to be that is not there yet. That of `run` has the subnet that it always has.
fn new_bridge(name: &str, args: &AttachArgs) -> Result<NetworkConfig, UsageError> {
    let mut config =
        NetworkConfig { name: name.to_owned(), bridge_name: Some(args.bridge.clone()), ..NetworkConfig::default() };
    set_pools(&mut config, &args.pools)?;
    if name == "bridge" && config.subnet.is_none() && !config.without_ipv4 {
        config.subnet = "10.10.10.0/24".parse().ok();
    }
    Ok(config)
}

fn one_of_each(addresses: &[IpAddr]) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), UsageError> {
    let (mut ipv4, mut ipv6) = (None, None);
    for address in addresses {
        let before = match address {
            IpAddr::V4(address) => ipv4.replace(*address).map(IpAddr::V4),
            IpAddr::V6(address) => ipv6.replace(*address).map(IpAddr::V6),
        };
        if let Some(before) = before {
            return Err(UsageError::new(format!("two addresses of one kind: {before} and {address}")));
        }
    }
    Ok((ipv4, ipv6))
}

/// A process that is no container of ours gets an id like theirs, always the same one.
fn id_of(process: &ProcessIdentity) -> ContainerId {
    let text = format!("{}\0{}\0{}", process.boot_id, process.pid, process.start_time);
    let digits: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.parse().unwrap_or_else(|_| ContainerId::generate())
}

fn is_ours(path: &str) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (theirs, ours) = (std::fs::metadata(path)?, std::fs::metadata(Path::new("/proc/self/ns/net"))?);
    Ok((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
}

/// Prints an error beside which the command goes on.
fn tell<T>(outcome: Result<T, NetworkError>) -> bool {
    if let Err(error) = &outcome {
        let hint = error.hint().map(|hint| format!("hint: {}\n", harmless(&hint))).unwrap_or_default();
        say(&format!("error: {}\n{hint}", harmless(&chain(error))));
    }
    outcome.is_err()
}

fn chain(error: &NetworkError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
