use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::model::*;
use super::super::schema::port_range;
use super::super::yaml::Node;
use super::logging::logging;
use super::names::dns;
use super::network::{check_mode, network_mode, service_network};
use super::reader::Reader;
use super::{devices, limits, mounts, security};
use crate::spec::{Healthcheck, HostAddress, ObjectName, RestartPolicy, SignalNumber, is_host_name, parse_duration};

/// As Docker.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// More containers of one service than this are a mistake.
const MOST_REPLICAS: i64 = 10_000;

/// Builds one service.
#[expect(clippy::too_many_lines, reason = "one line a field")]
pub(super) fn service(name: &str, reader: &mut Reader<'_>, dir: &Path) -> Service {
    let mode = network_mode(reader);
    check_mode(reader, mode.as_ref());
    check_expose(reader);
    let security = security::security(reader, dir);
    let namespaces = security::namespaces(reader);
    let service = Service {
        name: name.to_owned(),
        image: image(reader),
        command: words(reader, "command"),
        entrypoint: words(reader, "entrypoint"),
        environment: environment(reader),
        working_dir: working_dir(reader),
        user: security::user(reader),
        group_add: groups(reader),
        hostname: host_name(reader, "hostname", 64),
        domainname: host_name(reader, "domainname", 64),
        container_name: container_name(reader),
        depends_on: dependencies(reader),
        healthcheck: healthcheck(reader),
        restart: restart(reader),
        networks: networks(reader),
        ports: ports(reader),
        links: links(reader),
        extra_hosts: extra_hosts(reader),
        dns: dns(reader),
        volumes: mounts::mounts(reader),
        shm_size: reader.int("shm_size").and_then(|n| u64::try_from(n).ok()).map(crate::spec::ByteSize),
        init: reader.flag("init"),
        tty: reader.flag("tty"),
        stdin_open: reader.flag("stdin_open"),
        read_only: reader.flag("read_only"),
        cap_add: security::capabilities(reader, "cap_add"),
        cap_drop: security::capabilities(reader, "cap_drop"),
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp,
        devices: devices::devices(reader),
        device_rules: devices::rules(reader),
        kernel_files: security.kernel_files,
        limits: limits::limits(reader),
        ulimits: limits::ulimits(reader),
        sysctls: security::sysctls(reader, mode.as_ref(), &namespaces),
        namespaces,
        network_mode: mode,
        oom_score_adj: reader.int("oom_score_adj").and_then(|number| i32::try_from(number).ok()),
        stop_signal: reader.parse("stop_signal").unwrap_or(SignalNumber::TERM),
        stop_grace_period: duration(reader, "stop_grace_period").unwrap_or(DEFAULT_GRACE),
        labels: reader.pairs("labels"),
        scale: scale(reader),
        profiles: reader.texts("profiles"),
        attach: reader.get("attach").is_none_or(|_| reader.flag("attach")),
        logging: logging(reader),
    };
    if service.args().first().is_none_or(String::is_empty) && reader.get("image").is_some() {
        let at = reader.get("command").unwrap_or(reader.node);
        let key = if reader.get("command").is_some() { "command" } else { "" };
        let message = format!("service `{name}` has nothing to run: neither `command` nor `entrypoint`");
        reader.fault(
            at,
            key,
            message,
            Some("a directory has no command of its own; write `command: [\"prog\", \"arg\"]`"),
        );
    }
    service
}

fn image(reader: &mut Reader<'_>) -> ImageRef {
    let Some(node) = reader.get("image") else {
        if let Some(build) = reader.get("build") {
            let help = "write `image: root_fs` or `image: rootfs:DIR`";
            reader.fault(build, "build", "nothing can be built yet".into(), Some(help));
        }
        return ImageRef::RootFs;
    };
    let text = node.as_str().unwrap_or_default();
    match text.strip_prefix("rootfs:") {
        _ if text == "root_fs" => return ImageRef::RootFs,
        Some(dir) if !dir.is_empty() => return ImageRef::Directory(PathBuf::from(dir)),
        _ => {}
    }
    let help = "there is no image store yet; write `root_fs` (the default root filesystem) or `rootfs:DIR`";
    reader.fault(node, "image", format!("the image `{text}` cannot be used"), Some(help));
    ImageRef::RootFs
}

fn words(reader: &mut Reader<'_>, key: &str) -> Option<Vec<String>> {
    reader.get(key)?;
    let texts = reader.texts(key);
    if let Some(node) = reader.items(key).iter().find(|node| node.as_str().is_some_and(|text| text.contains('\0'))) {
        reader.fault(node, key, "an argument has a NUL in it".into(), None);
    }
    Some(texts)
}

fn environment(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (key, entry) in reader.get("environment").and_then(Node::as_map).into_iter().flatten() {
        if key.is_empty() || key.contains(['=', '\0']) {
            let message = format!("`{key}` cannot be the name of a variable");
            reader.fault(&entry.node, "environment", message, Some("write `KEY: value` or `KEY=value`"));
            continue;
        }
        let Some(value) = entry.node.value.scalar_text() else { continue };
        if value.contains('\0') {
            reader.fault(&entry.node, &format!("environment.{key}"), "the value has a NUL in it".into(), None);
            continue;
        }
        out.insert(key.clone(), value);
    }
    out
}

fn working_dir(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let node = reader.get("working_dir")?;
    let text = node.as_str().filter(|text| !text.is_empty())?;
    if !text.starts_with('/') {
        let message = format!("the working directory `{text}` is not absolute");
        reader.fault(node, "working_dir", message, Some(&format!("write `/{text}`")));
        return None;
    }
    if text == "/proc" || text.starts_with("/proc/") {
        let message = format!("the working directory `{text}` lies below /proc, where links lead out of the container");
        reader.fault(node, "working_dir", message, Some("name a directory of the image"));
        return None;
    }
    Some(PathBuf::from(text))
}

fn groups(reader: &mut Reader<'_>) -> Vec<String> {
    for (index, node) in reader.items("group_add").iter().enumerate() {
        let text = node.as_str().unwrap_or_default();
        if let Some(problem) = security::account_problem(text) {
            reader.fault(node, &format!("group_add[{index}]"), format!("the group `{text}` {problem}"), None);
        }
    }
    reader.texts("group_add")
}

fn host_name(reader: &mut Reader<'_>, key: &str, longest: usize) -> Option<String> {
    let node = reader.get(key)?;
    let text = node.as_str().filter(|text| !text.is_empty())?;
    if !is_host_name(text, longest) {
        let message = format!("`{text}` is not a host name");
        let help = "letters, digits, `-` and `.`, at most 64 in all (sethostname(2))";
        reader.fault(node, key, message, Some(help));
        return None;
    }
    Some(text.to_owned())
}

fn container_name(reader: &mut Reader<'_>) -> Option<String> {
    reader.parse::<ObjectName>("container_name").map(|name| name.as_str().to_owned())
}

fn dependencies(reader: &mut Reader<'_>) -> BTreeMap<String, Dependency> {
    let mut out = BTreeMap::new();
    let map = reader.get("depends_on").and_then(Node::as_map);
    for (name, entry) in map.into_iter().flatten() {
        let below =
            Reader { node: &entry.node, path: format!("{}.depends_on.{name}", reader.path), report: reader.report };
        let condition = match below.text("condition") {
            Some("service_healthy") => DependencyCondition::ServiceHealthy,
            Some("service_completed_successfully") => DependencyCondition::ServiceCompletedSuccessfully,
            _ => DependencyCondition::ServiceStarted,
        };
        let required = below.get("required").is_none_or(|_| below.flag("required"));
        out.insert(name.clone(), Dependency { condition, required, restart: below.flag("restart") });
    }
    out
}

fn duration(reader: &mut Reader<'_>, key: &str) -> Option<Duration> {
    parse_duration(reader.text(key)?).ok()
}

fn healthcheck(reader: &mut Reader<'_>) -> Option<Healthcheck> {
    let mut below = reader.below("healthcheck")?;
    let command = probe(&mut below);
    let year = Duration::from_secs(365 * 24 * 3600);
    let mut time = |key: &str, default: u64, zero: bool| {
        let Some(value) = duration(&mut below, key) else { return Duration::from_secs(default) };
        let least = if zero { Duration::ZERO } else { Duration::from_millis(1) };
        if value < least || value > year {
            let text = below.text(key).unwrap_or_default().to_owned();
            let message = format!("`{text}` is out of range for `{key}`: from 1ms to a year");
            if let Some(node) = below.get(key) {
                below.fault(node, key, message, None);
            }
        }
        value
    };
    let (interval, timeout) = (time("interval", 30, false), time("timeout", 30, false));
    let (start_period, start_interval) = (time("start_period", 0, true), time("start_interval", 5, false));
    let retries = below.int("retries").filter(|retries| *retries > 0).unwrap_or(3);
    Some(Healthcheck {
        command: command?,
        interval,
        timeout,
        retries: u32::try_from(retries).unwrap_or(u32::MAX),
        start_period,
        start_interval,
    })
}

/// The command of a probe; `None` where it is switched off or wrong.
fn probe(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    if reader.flag("disable") {
        return None;
    }
    let Some(node) = reader.get("test") else {
        let message = "this health check has no `test`, and a directory has none of its own: it is left out".to_owned();
        reader.warn(reader.node, "test", message, Some("write `test: [\"CMD\", \"prog\", \"arg\"]`"));
        return None;
    };
    let shell = |text: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
    if let Some(text) = node.as_str() {
        return Some(shell(text));
    }
    let items = reader.texts("test");
    match items.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["NONE"] => None,
        ["CMD", _, ..] => Some(items[1..].to_vec()),
        ["CMD-SHELL", text] => Some(shell(text)),
        _ => {
            let help =
                "the first item is NONE, CMD (a program and its arguments follow) or CMD-SHELL (one string follows)";
            let message = match items.first() {
                None => "`test` is an empty list".to_owned(),
                Some(first) => format!("`test` begins with `{first}` and has {} items", items.len()),
            };
            reader.fault(node, "test", message, Some(help));
            None
        }
    }
}

/// `deploy.restart_policy` counts where it is there, as in Compose.
fn restart(reader: &mut Reader<'_>) -> RestartPolicy {
    let own = reader.parse::<RestartPolicy>("restart");
    let policy = reader.get("deploy").and_then(|deploy| deploy.get("restart_policy")).filter(|node| !node.is_null());
    let Some(node) = policy else { return own.unwrap_or_default() };
    let path = format!("{}.deploy.restart_policy", reader.path);
    let mut below = Reader { node, path, report: reader.report };
    let max = below.int("max_attempts").filter(|max| *max > 0).and_then(|max| u32::try_from(max).ok());
    let condition = below.text("condition");
    if let (Some(node), true) = (below.get("max_attempts"), max.is_some() && condition != Some("on-failure")) {
        let message = "`max_attempts` counts failures: it goes with `condition: on-failure` alone".to_owned();
        below.fault(node, "max_attempts", message, None);
    }
    match condition {
        None | Some("any" | "") => RestartPolicy::Always,
        Some("none") => RestartPolicy::No,
        Some("on-failure") => RestartPolicy::OnFailure { max },
        Some("unless-stopped") => RestartPolicy::UnlessStopped,
        Some(other) => {
            let message = format!("`{other}` is not a condition for a restart");
            if let Some(node) = below.get("condition") {
                below.fault(node, "condition", message, Some("there are none, on-failure and any"));
            }
            RestartPolicy::No
        }
    }
}

fn networks(reader: &mut Reader<'_>) -> BTreeMap<String, ServiceNetwork> {
    let mut out = BTreeMap::new();
    for (name, entry) in reader.get("networks").and_then(Node::as_map).into_iter().flatten() {
        let path = format!("{}.networks.{name}", reader.path);
        let mut below = Reader { node: &entry.node, path, report: reader.report };
        out.insert(name.clone(), service_network(&mut below));
    }
    // The service's own address goes to its only network, or to the first by priority and name.
    if let Some(address) = reader.parse::<crate::spec::MacAddress>("mac_address")
        && let Some(first) = out.values_mut().min_by_key(|network| -network.priority)
    {
        first.mac_address = first.mac_address.or(Some(address));
    }
    out
}

fn ports(reader: &mut Reader<'_>) -> Vec<Port> {
    let mut out = Vec::new();
    for (index, node) in reader.items("ports").iter().enumerate() {
        let path = format!("{}.ports[{index}]", reader.path);
        let mut below = Reader { node, path, report: reader.report };
        if let Some(port) = port(&mut below)
            && !out.contains(&port)
        {
            out.push(port);
        }
    }
    out
}

fn port(reader: &mut Reader<'_>) -> Option<Port> {
    let target = reader.int("target").and_then(|number| u16::try_from(number).ok())?;
    let host_ip = reader.parse_as("host_ip", "an IP address");
    let protocol = match reader.text("protocol") {
        None | Some("tcp" | "TCP" | "") => PortProtocol::Tcp,
        Some("udp" | "UDP") => PortProtocol::Udp,
        Some(other) => {
            let message = format!("ports of the protocol `{other}` cannot be published");
            reader.fault(reader.node, "protocol", message, Some("there are tcp and udp"));
            return None;
        }
    };
    let text = reader.get("published").and_then(|node| node.value.scalar_text()).filter(|text| !text.is_empty());
    let published = match text.map(|text| (port_range(&text), text)) {
        None => None,
        Some((_, text)) if text == "0" => None,
        Some((Ok(range), _)) => Some(range),
        Some((Err(reason), text)) => {
            reader.fault(reader.node, "published", format!("`{text}` is not a port: {reason}"), None);
            return None;
        }
    };
    let published_to = published.filter(|(first, last)| first != last).map(|(_, last)| last);
    Some(Port { host_ip, published: published.map(|(first, _)| first), published_to, target, protocol })
}

/// Checks `expose`, which has nothing else to do: who is on a network reaches every port.
fn check_expose(reader: &mut Reader<'_>) {
    for (index, node) in reader.items("expose").iter().enumerate() {
        let text = node.as_str().unwrap_or_default();
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let problem = match (port_range(range), protocol) {
            (Err(reason), _) => format!("`{text}` is not a port: {reason}"),
            (Ok(_), "tcp" | "udp" | "sctp") => continue,
            (Ok(_), other) => format!("`{other}` is not a protocol of ports"),
        };
        reader.fault(node, &format!("expose[{index}]"), problem, None);
    }
}

/// Builds `links`, `SERVICE` or `SERVICE:ALIAS`: the aliases. The dependencies that follow are there already.
fn links(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (index, node) in reader.items("links").iter().enumerate() {
        let Some((service, alias)) = node.as_str().and_then(|text| text.split_once(':')) else { continue };
        if is_host_name(alias, 253) {
            out.insert(alias.to_owned(), service.to_owned());
        } else {
            reader.fault(node, &format!("links[{index}]"), format!("`{alias}` is not a host name"), None);
        }
    }
    out
}

fn extra_hosts(reader: &mut Reader<'_>) -> Vec<(String, HostAddress)> {
    let mut out = Vec::new();
    for (index, node) in reader.items("extra_hosts").iter().enumerate() {
        let (name, text) = node.as_str().and_then(|text| text.split_once('=')).unwrap_or_default();
        let address = match text {
            "host-gateway" => Some(HostAddress::HostGateway),
            text => text.parse().ok().map(HostAddress::Ip),
        };
        let path = format!("extra_hosts[{index}]");
        match address {
            _ if !is_host_name(name, 253) => reader.fault(node, &path, format!("`{name}` is not a host name"), None),
            None => {
                let help = "write an IP address or `host-gateway`";
                reader.fault(node, &path, format!("`{text}` is not an address"), Some(help));
            }
            Some(address) => out.push((name.to_owned(), address)),
        }
    }
    out
}

fn scale(reader: &mut Reader<'_>) -> u32 {
    let replicas = reader.get("deploy").and_then(|deploy| deploy.get("replicas")).filter(|node| !node.is_null());
    let Some(node) = reader.get("scale").or(replicas) else { return 1 };
    let count = node.value.scalar_text().and_then(|text| text.parse::<i64>().ok()).unwrap_or(1);
    if count > MOST_REPLICAS {
        reader.fault(node, "scale", format!("{count} containers of one service; at most {MOST_REPLICAS}"), None);
    }
    count.clamp(0, MOST_REPLICAS) as u32
}
