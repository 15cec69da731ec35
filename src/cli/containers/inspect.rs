//! `inspect`: a container in the shape that `docker inspect` has, as far as what is known of it goes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::find::{Context, Found, find};
use super::template::render;
use crate::cli::args::ContainerInspectArgs;
use crate::cli::exit::{self, Family};
use crate::cli::project::CommandResult;
use crate::cli::report::{print, report};
use crate::cli::settings::Settings;
use crate::cli::table::{health_word, state_word};
use crate::engine::NetworkWish;
use crate::network::{Attachment, Networks, PortMapping, PublishedPort};
use crate::spec::{
    CapabilityRequest, ContainerRequest, KernelFiles, MountKind, MountRequest, NamespaceSource, RestartPolicy,
    SeccompRequest,
};
use crate::supervisor::NetworkOwner;
use crate::supervisor::control::protocol::{ContainerStatus, State};

/// Docker's time of what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Prints an array with all that is known of containers, or what a template shows of each.
pub(super) fn run(context: Context<'_>, args: &ContainerInspectArgs) -> CommandResult {
    let (mut values, mut code) = (Vec::new(), exit::SUCCESS);
    for name in &args.containers {
        match find(context, name) {
            Ok(found) => values.push(value(&found, context.settings)),
            Err(error) => {
                report(&error, Family::Plain, context.palette);
                code = exit::FAILED;
            }
        }
    }
    let text = match args.format.as_str() {
        "json" => format!("{:#}\n", Value::Array(values)),
        template => values.iter().map(|value| Ok(render(template, value)? + "\n")).collect::<CommandText>()?,
    };
    print(&text)?;
    Ok(ExitCode::from(code))
}

type CommandText = Result<String, crate::cli::report::CliError>;

fn value(found: &Found, settings: &Settings) -> Value {
    let (status, desired) = (&found.status, &found.record.desired);
    let request = &desired.request;
    let directory = settings.directories.container(status.id.as_str());
    let file = |name: &str| directory.join(name).display().to_string();
    json!({
        "Id": status.id.as_str(),
        "Created": time(Some(status.created_at)),
        "Path": request.args.first(),
        "Args": request.args.iter().skip(1).collect::<Vec<_>>(),
        "State": state(status),
        "Image": status.image,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": status.log.as_ref().map_or_else(String::new, |path| path.display().to_string()),
        "Name": format!("/{}", status.name),
        "RestartCount": status.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": host_config(found),
        "GraphDriver": {"Name": "overlay", "Data": {
            "LowerDir": request.rootfs.display().to_string(),
            "UpperDir": file("overlay/upper"),
            "WorkDir": file("overlay/work"),
        }},
        "Mounts": request.mounts.iter().filter_map(mount).collect::<Vec<_>>(),
        "Config": config(status, found),
        "NetworkSettings": network_settings(status, found, settings),
    })
}

fn time(seconds: Option<u64>) -> String {
    let second = seconds.and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
    second.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

fn state(status: &ContainerStatus) -> Value {
    let runs = matches!(status.state, State::Running | State::Restarting);
    let code =
        if runs || status.exit.is_none() { Some(0) } else { status.exit.and_then(crate::spec::ExitStatus::code) };
    let mut state = json!({
        "Status": state_word(status.state),
        "Running": status.state == State::Running,
        "Paused": false,
        "Restarting": status.state == State::Restarting,
        "OOMKilled": status.oom_killed,
        "Dead": status.state == State::Dead,
        "Pid": status.pid.unwrap_or(0),
        // A status that nobody saw must not look like success.
        "ExitCode": code.unwrap_or(-1),
        "Error": "",
        "StartedAt": time(status.started_at),
        "FinishedAt": time(status.finished_at),
    });
    if let (Some(state), true) = (state.as_object_mut(), status.health.is_some()) {
        state.insert("Health".to_owned(), json!({"Status": health_word(status.health)}));
    }
    state
}

fn config(status: &ContainerStatus, found: &Found) -> Value {
    let (desired, request) = (&found.record.desired, &found.record.desired.request);
    let env: Vec<String> = request.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let ports = desired.networks.iter().flat_map(|wish| &wish.ports);
    let exposed: Map<String, Value> = ports.map(|port| (inside(port), json!({}))).collect();
    let mut config = json!({
        "Hostname": request.hostname,
        "Domainname": request.domainname.clone().unwrap_or_default(),
        "User": request.user.clone().unwrap_or_default(),
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "ExposedPorts": exposed,
        "Tty": request.tty,
        "OpenStdin": request.stdin_open,
        "Env": env,
        "Cmd": request.args,
        "Image": status.image,
        "WorkingDir": request.working_dir.as_ref().map_or_else(|| "/".to_owned(), |dir| dir.display().to_string()),
        "Entrypoint": null,
        "Labels": request.labels,
        "StopSignal": request.stop_signal.to_string(),
        "StopTimeout": request.stop_grace_period.as_secs(),
    });
    if let (Some(config), Some(check)) = (config.as_object_mut(), &desired.healthcheck) {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let test: Vec<&str> = std::iter::once("CMD").chain(check.command.iter().map(String::as_str)).collect();
        let healthcheck = json!({
            "Test": test,
            "Interval": nanos(check.interval),
            "Timeout": nanos(check.timeout),
            "StartPeriod": nanos(check.start_period),
            "StartInterval": nanos(check.start_interval),
            "Retries": check.retries,
        });
        config.insert("Healthcheck".to_owned(), healthcheck);
    }
    config
}

fn host_config(found: &Found) -> Value {
    let (desired, request) = (&found.record.desired, &found.record.desired.request);
    let CapabilityRequest { add, drop, .. } = &request.capabilities;
    let limits = &request.limits;
    let (restart, most) = match desired.restart {
        RestartPolicy::OnFailure { max } => ("on-failure".to_owned(), max.unwrap_or(0)),
        other => (other.to_string(), 0),
    };
    let hosts: Vec<String> = request
        .extra_hosts
        .iter()
        .map(|(name, address)| match address {
            crate::spec::HostAddress::Ip(ip) => format!("{name}:{ip}"),
            crate::spec::HostAddress::HostGateway => format!("{name}:host-gateway"),
        })
        .collect();
    let ulimits: Vec<Value> = request
        .ulimits
        .iter()
        .map(|(name, limit)| json!({"Name": name, "Soft": limit.soft, "Hard": limit.hard}))
        .collect();
    json!({
        "Binds": request.mounts.iter().filter_map(bind).collect::<Vec<_>>(),
        "NetworkMode": network_mode(found),
        "PortBindings": bindings(&desired.networks),
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": most},
        "AutoRemove": desired.removed_at_end,
        "LogConfig": log_config(found),
        "CapAdd": add,
        "CapDrop": drop,
        "Dns": request.dns.servers,
        "DnsOptions": request.dns.options,
        "DnsSearch": request.dns.search,
        "ExtraHosts": hosts,
        "GroupAdd": request.groups,
        "IpcMode": mode(&request.namespaces.ipc),
        "PidMode": mode(&request.namespaces.pid),
        "UTSMode": mode(&request.namespaces.uts),
        "CgroupnsMode": if request.namespaces.cgroup { "private" } else { "host" },
        "Privileged": request.kernel_files == KernelFiles::Open,
        "ReadonlyRootfs": request.read_only,
        "SecurityOpt": security(request),
        "OomScoreAdj": request.oom_score_adj.unwrap_or(0),
        "Init": request.init,
        "Sysctls": request.sysctls,
        "Ulimits": ulimits,
        "Memory": limits.memory.unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or(0),
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpusetCpus": limits.cpuset.clone().unwrap_or_default(),
        "CpusetMems": limits.memory_nodes.clone().unwrap_or_default(),
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.io_weight.unwrap_or(0),
    })
}

fn log_config(found: &Found) -> Value {
    use crate::compose::model::Logging;
    match found.record.desired.logging {
        Logging::Everything => json!({"Type": "json-file", "Config": {}}),
        Logging::Rotated { max_size, max_files } => {
            json!({"Type": "json-file", "Config": {"max-size": max_size.to_string(), "max-file": max_files.to_string()}})
        }
        Logging::Nothing => json!({"Type": "none", "Config": {}}),
    }
}

fn network_mode(found: &Found) -> String {
    let desired = &found.record.desired;
    match (&desired.shares_network_of, desired.networks.first()) {
        (Some(NetworkOwner::Container(name)), _) => format!("container:{name}"),
        (Some(NetworkOwner::Service(name)), _) => format!("service:{name}"),
        (None, Some(wish)) => wish.network.clone(),
        (None, None) if desired.request.namespaces.network == NamespaceSource::Host => "host".to_owned(),
        (None, None) => "none".to_owned(),
    }
}

fn mode(source: &NamespaceSource) -> String {
    match source {
        NamespaceSource::Private => "private".to_owned(),
        NamespaceSource::Host => "host".to_owned(),
        NamespaceSource::Container(id) => format!("container:{}", id.as_str()),
    }
}

fn security(request: &ContainerRequest) -> Vec<String> {
    let mut options = Vec::new();
    if request.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &request.seccomp {
        SeccompRequest::Default => {}
        SeccompRequest::AncestorDefault | SeccompRequest::Ancestor => options.push("seccomp=ancestor".to_owned()),
        SeccompRequest::Unconfined => options.push("seccomp=unconfined".to_owned()),
        SeccompRequest::File(path) => options.push(format!("seccomp={}", path.display())),
    }
    if request.kernel_files == KernelFiles::Unmasked {
        options.push("systempaths=unconfined".to_owned());
    }
    options
}

/// `80/tcp`.
fn inside(port: &PortMapping) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

fn bindings(networks: &[NetworkWish]) -> Value {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in networks.iter().flat_map(|wish| &wish.ports) {
        let ip = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
        let number = port.host_port.map_or_else(String::new, |port| port.to_string());
        found.entry(inside(port)).or_default().push(json!({"HostIp": ip, "HostPort": number}));
    }
    json!(found)
}

fn bind(mount: &MountRequest) -> Option<String> {
    let MountKind::Bind { source, .. } = &mount.kind else { return None };
    let access = if mount.read_only { "ro" } else { "rw" };
    Some(format!("{}:{}:{access}", source.display(), mount.target.display()))
}

fn mount(mount: &MountRequest) -> Option<Value> {
    let (kind, source, name) = match &mount.kind {
        MountKind::Bind { source, .. } => ("bind", source, None),
        // `<data>/volumes/NAME/_data`
        MountKind::Volume { source, .. } => ("volume", source, source.parent().and_then(|dir| dir.file_name())),
        MountKind::Tmpfs { .. } => return None,
    };
    Some(json!({
        "Type": kind,
        "Name": name.map(|name| name.to_string_lossy()).unwrap_or_default(),
        "Source": source.display().to_string(),
        "Destination": mount.target.display().to_string(),
        "Mode": if mount.read_only { "ro" } else { "" },
        "RW": !mount.read_only,
    }))
}

/// What is on record of the container's places; nothing where they cannot be read.
fn network_settings(status: &ContainerStatus, found: &Found, settings: &Settings) -> Value {
    let networks = Networks::open(settings.directories.run()).and_then(|all| all.attachments_of(&status.id));
    let places = networks.unwrap_or_default();
    let mut ports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in places.iter().flat_map(|place| &place.ports) {
        let PublishedPort { host_ip, host_port, container_port, protocol, .. } = port;
        let ip = host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        let binding = json!({"HostIp": ip, "HostPort": host_port.to_string()});
        ports.entry(format!("{container_port}/{protocol}")).or_default().push(binding);
    }
    let named: Map<String, Value> =
        places.iter().map(|place| (place.network_name.clone(), network(place, found))).collect();
    let first = places.first().map(|place| network(place, found)).unwrap_or_default();
    let text = |key: &str| first.get(key).cloned().unwrap_or_else(|| json!(""));
    json!({
        "Ports": ports,
        "IPAddress": text("IPAddress"),
        "IPPrefixLen": first.get("IPPrefixLen").cloned().unwrap_or_else(|| json!(0)),
        "Gateway": text("Gateway"),
        "MacAddress": text("MacAddress"),
        "Networks": named,
    })
}

fn network(place: &Attachment, found: &Found) -> Value {
    let wishes = &found.record.desired.networks;
    let aliases = wishes.iter().find(|wish| wish.network == place.network_name).map(|wish| &wish.aliases);
    let networks = place.networks();
    let address = networks.iter().find(|network| network.is_ipv4());
    let v6 = networks.iter().find(|network| network.is_ipv6());
    json!({
        "Aliases": aliases,
        "NetworkID": place.network,
        "IPAddress": address.map_or_else(String::new, |found| found.ip().to_string()),
        "IPPrefixLen": address.map_or(0, ipnetwork::IpNetwork::prefix),
        "Gateway": place.gateway.map_or_else(String::new, |ip| ip.to_string()),
        "GlobalIPv6Address": v6.map_or_else(String::new, |found| found.ip().to_string()),
        "MacAddress": place.mac.map_or_else(String::new, |mac| mac.to_string()),
    })
}
