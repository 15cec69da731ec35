//! Keys of a service.

use super::deploy::{BUILD, DEPLOY, DEVELOP, DEVICE_REQUESTS, HOOKS};
use super::kind::*;
use super::{Kind, Merge, Table, ports, short};
use crate::compose::yaml::Node;

fn text_of(node: &Node, key: &str) -> String {
    node.get(key).and_then(|value| value.value.scalar_text()).unwrap_or_default()
}

fn by_target(node: &Node) -> String {
    text_of(node, "target")
}

fn by_path(node: &Node) -> String {
    text_of(node, "path")
}

fn by_mount(node: &Node) -> String {
    let target = text_of(node, "target");
    if target.is_empty() { text_of(node, "source") } else { target }
}

fn by_port(node: &Node) -> String {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let ip = or(text_of(node, "host_ip"), "0.0.0.0");
    let protocol = or(text_of(node, "protocol"), "tcp");
    format!("{ip}:{}:{}/{protocol}", text_of(node, "published"), text_of(node, "target"))
}

static DEPENDENCY: Table = table(
    "a dependency",
    &[
        field("condition", &Kind::Word(&["service_started", "service_healthy", "service_completed_successfully"])),
        field("required", &BOOL),
        field("restart", &BOOL),
    ],
)
.required(&["condition"]);

static HEALTHCHECK: Table = table(
    "a health check",
    &[
        field("test", &Kind::Either(&STR, &STRINGS)).merged(Merge::Replace).example("test: [\"CMD\", \"true\"]"),
        field("interval", &DURATION).example("interval: 10s"),
        field("timeout", &DURATION).example("timeout: 10s"),
        field("retries", &COUNT).example("retries: 3").print_zero(),
        field("start_period", &DURATION).example("start_period: 10s"),
        field("start_interval", &DURATION).example("start_interval: 1s"),
        field("disable", &BOOL),
    ],
);

static LOGGING: Table =
    table("`logging`", &[field("driver", &STR), field("options", &Kind::Dict(&Kind::OrNull(&TEXT)))]);

static SERVICE_NETWORK: Table = table(
    "a service's network",
    &[
        field("aliases", &STRINGS).merged(DISTINCT),
        field("ipv4_address", &STR),
        field("ipv6_address", &STR),
        field("link_local_ips", &STRINGS).merged(DISTINCT),
        field("mac_address", &STR),
        field("interface_name", &STR),
        field("driver_opts", &OPTIONS),
        field("priority", &INT),
        field("gw_priority", &INT),
    ],
);

static PORT: Table = table(
    "a port",
    &[
        field("name", &STR).silent(),
        field("mode", &STR).silent(),
        field("host_ip", &STR),
        field("target", &Kind::Int(1, 65_535)),
        field("published", &TEXT),
        field("protocol", &STR),
        field("app_protocol", &STR).silent(),
    ],
)
.required(&["target"]);

static BIND: Table = table(
    "`bind`",
    &[
        field("propagation", &Kind::Word(&["private", "rprivate", "shared", "rshared", "slave", "rslave"])),
        field("create_host_path", &BOOL),
        field("recursive", &Kind::Word(&["enabled", "disabled", "writable", "readonly"])),
        field("selinux", &Kind::Word(&["z", "Z"])).silent(),
    ],
);
static IN_VOLUME: Table =
    table("`volume`", &[field("labels", &LABELS).ignored(), field("nocopy", &BOOL), field("subpath", &STR)]);
static TMPFS: Table = table("`tmpfs`", &[field("size", &BYTES), field("mode", &Kind::Mode(false))]);
static IN_IMAGE: Table = table("`image`", &[field("subpath", &STR)]);
static VOLUME: Table = table(
    "a volume mount",
    &[
        field("type", &Kind::Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        field("source", &STR),
        field("target", &STR),
        field("read_only", &BOOL),
        field("consistency", &STR).silent(),
        field("bind", &Kind::Object(&BIND)),
        field("volume", &Kind::Object(&IN_VOLUME)),
        field("tmpfs", &Kind::Object(&TMPFS)),
        field("image", &Kind::Object(&IN_IMAGE)),
    ],
)
.required(&["type", "target"]);

static DEVICE: Table = table("a device", &[field("source", &STR), field("target", &STR), field("permissions", &STR)])
    .required(&["source"]);

static FILE_MOUNT: Table = table(
    "a mounted file",
    &[
        field("source", &STR),
        field("target", &STR),
        field("uid", &STR),
        field("gid", &STR),
        field("mode", &Kind::Mode(true)).print_zero(),
    ],
);
/// `secrets`, `configs`.
pub(super) static FILE_MOUNTS: Kind = Kind::ShortList("a name", short::file_mount, &Kind::Object(&FILE_MOUNT));

static ULIMIT: Table = table("a ulimit", &[field("soft", &INT).print_zero(), field("hard", &INT).print_zero()])
    .required(&["soft", "hard"]);
/// `ulimits`.
pub(super) static ULIMITS: Kind = Kind::Dict(&Kind::Either(&INT, &Kind::Object(&ULIMIT)));

static ENV_FILE: Table =
    table("an env_file", &[field("path", &STR), field("required", &BOOL).print_zero(), field("format", &STR)])
        .required(&["path"])
        .closed();
static EXTENDS: Table = table("`extends`", &[field("service", &STR), field("file", &STR)]).closed();

static RATE: Table = table("a rate limit", &[field("path", &STR), field("rate", &BYTES)]).closed();
static WEIGHT: Table = table("a weight", &[field("path", &STR), field("weight", &COUNT)]).closed();
static RATES: Kind = Kind::List(&Kind::Object(&RATE));
static BLKIO: Table = table(
    "`blkio_config`",
    &[
        field("weight", &COUNT),
        field("weight_device", &Kind::List(&Kind::Object(&WEIGHT))).ignored(),
        field("device_read_bps", &RATES).ignored(),
        field("device_read_iops", &RATES).ignored(),
        field("device_write_bps", &RATES).ignored(),
        field("device_write_iops", &RATES).ignored(),
    ],
)
.closed();

static CREDENTIAL: Table =
    table("`credential_spec`", &[field("config", &STR), field("file", &STR), field("registry", &STR)]);
static PROVIDER: Table =
    table("`provider`", &[field("type", &STR), field("options", &Kind::Dict(&ANY))]).required(&["type"]);
static SERVICE_MODEL: Table = table("a service's model", &[field("endpoint_var", &STR), field("model_var", &STR)]);

const OWN_NAMESPACE: &str = "the container would get a namespace of its own in place of the one asked for";

static SERVICE_TABLE: Table = table(
    "a service",
    &[
        field("annotations", &LABELS).silent(),
        field("attach", &BOOL).print_zero(),
        field("blkio_config", &Kind::Object(&BLKIO)),
        field("build", &BUILD).ignored(),
        field("cap_add", &STRINGS).merged(DISTINCT).example("cap_add: [NET_ADMIN]"),
        field("cap_drop", &STRINGS).merged(DISTINCT).example("cap_drop: [ALL]"),
        field("cgroup", &Kind::Word(&["host", "private"])),
        field("cgroup_parent", &STR).ignored(),
        field("command", &COMMAND).merged(Merge::Replace).example("command: [\"sh\", \"-c\", \"echo hello\"]"),
        field("configs", &FILE_MOUNTS)
            .merged(Merge::Unique(by_mount))
            .refused("files that the service reads would be missing"),
        field("container_name", &STR),
        field("cpu_count", &COUNT).silent(),
        field("cpu_percent", &NUMBER).silent(),
        field("cpu_period", &INT),
        field("cpu_quota", &INT),
        field("cpu_rt_period", &TEXT).ignored(),
        field("cpu_rt_runtime", &TEXT).ignored(),
        field("cpu_shares", &INT),
        field("cpus", &NUMBER).example("cpus: 0.5"),
        field("cpuset", &STR).example("cpuset: \"0-3\""),
        field("credential_spec", &Kind::Object(&CREDENTIAL)).silent(),
        field("depends_on", &Kind::Names(short::dependency, &Kind::Object(&DEPENDENCY))).example("depends_on: [db]"),
        field("deploy", &DEPLOY),
        field("develop", &DEVELOP).silent(),
        field("device_cgroup_rules", &STRINGS).example("device_cgroup_rules: [\"c 10:200 rw\"]"),
        field("devices", &Kind::ShortList("a string", short::device, &Kind::Object(&DEVICE)))
            .merged(Merge::Unique(by_target))
            .example("devices: [\"/dev/fuse:/dev/fuse:rw\"]"),
        field("dns", &STRING_OR_LIST).merged(DISTINCT).example("dns: [192.0.2.53]"),
        field("dns_opt", &STRINGS).merged(DISTINCT).example("dns_opt: [\"ndots:2\"]"),
        field("dns_search", &STRING_OR_LIST).merged(DISTINCT).example("dns_search: corp.example"),
        field("domainname", &STR),
        field("entrypoint", &COMMAND).merged(Merge::Replace).example("entrypoint: [\"/init\"]"),
        field("env_file", &Kind::OneOrMore(&Kind::Short("a path", short::env_file, &Kind::Object(&ENV_FILE))))
            .merged(Merge::Unique(by_path)),
        field("environment", &PAIRS).example("environment: {KEY: value}"),
        field("expose", &TEXTS).merged(DISTINCT).silent(),
        field("extends", &Kind::Short("a service's name", short::extends, &Kind::Object(&EXTENDS))),
        field("external_links", &STRINGS).ignored(),
        field("extra_hosts", &Kind::Hosts).merged(DISTINCT).example("extra_hosts: [\"somehost=192.0.2.10\"]"),
        field("gpus", &Kind::Either(&Kind::Short("`all`", short::gpus, &ANY), &DEVICE_REQUESTS))
            .refused("the service would run without the devices it asks for"),
        field("group_add", &TEXTS),
        field("healthcheck", &Kind::Object(&HEALTHCHECK)),
        field("hostname", &STR),
        field("image", &STR).example("image: root_fs"),
        field("init", &BOOL).print_zero(),
        field("ipc", &STR).refused_unless(OWN_NAMESPACE, &["private", "shareable", "host"]),
        field("isolation", &STR).refused_unless("there is only Linux's isolation here", &["default"]),
        field("label_file", &STRING_OR_LIST),
        field("labels", &LABELS).example("labels: {key: value}"),
        field("links", &STRINGS).merged(DISTINCT),
        field("logging", &Kind::Object(&LOGGING)).merged(Merge::SameDriver),
        field("mac_address", &STR),
        field("mem_limit", &BYTES).example("mem_limit: 512m"),
        field("mem_reservation", &BYTES).example("mem_reservation: 128m"),
        field("mem_swappiness", &INT).ignored(),
        field("memswap_limit", &Kind::Bytes(true)).example("memswap_limit: 1g"),
        field("models", &Kind::Names(short::nothing, &Kind::OrNull(&Kind::Object(&SERVICE_MODEL)))).ignored(),
        field("network_mode", &STR),
        field("networks", &Kind::Names(short::nothing, &Kind::OrNull(&Kind::Object(&SERVICE_NETWORK))))
            .example("networks: [front]"),
        field("oom_kill_disable", &BOOL).ignored(),
        field("oom_score_adj", &Kind::Int(-1000, 1000)),
        field("pid", &Kind::OrNull(&STR)).refused_unless(OWN_NAMESPACE, &["host"]),
        field("pids_limit", &INT).example("pids_limit: 100"),
        field("platform", &STR).silent(),
        field("ports", &Kind::ShortList("strings such as \"8080:80\"", ports::expand, &Kind::Object(&PORT)))
            .merged(Merge::Unique(by_port))
            .example("ports: [\"8080:80\"]"),
        field("post_start", &HOOKS).refused("the hook would not run"),
        field("pre_stop", &HOOKS).refused("the hook would not run"),
        field("privileged", &BOOL),
        field("profiles", &STRINGS).merged(DISTINCT),
        field("provider", &Kind::Object(&PROVIDER)).refused("the service would not exist"),
        field("pull_policy", &STR).silent(),
        field("pull_refresh_after", &STR).silent(),
        field("read_only", &BOOL),
        field("restart", &STR).example("restart: on-failure:3"),
        field("runtime", &STR)
            .refused_unless("the service would be isolated in another way than it asks for", &["runc", "crun"]),
        field("scale", &COUNT).example("scale: 2").print_zero(),
        field("secrets", &FILE_MOUNTS)
            .merged(Merge::Unique(by_mount))
            .refused("files that the service reads would be missing"),
        field("security_opt", &STRINGS),
        field("shm_size", &BYTES),
        field("stdin_open", &BOOL),
        field("stop_grace_period", &DURATION).example("stop_grace_period: 10s"),
        field("stop_signal", &TEXT).example("stop_signal: SIGTERM"),
        field("storage_opt", &OPTIONS).ignored(),
        field("sysctls", &LABELS).example("sysctls: {net.core.somaxconn: 1024}"),
        field("tmpfs", &STRING_OR_LIST).merged(DISTINCT).example("tmpfs: /run"),
        field("tty", &BOOL),
        field("ulimits", &ULIMITS).example("ulimits: {nofile: 1024}"),
        field("use_api_socket", &BOOL).refused("there is no engine's socket to give"),
        field("user", &STR).example("user: \"1000:1000\""),
        field("userns_mode", &STR).refused_unless(OWN_NAMESPACE, &["host"]),
        field("uts", &STR).refused_unless(OWN_NAMESPACE, &["host"]),
        field("volumes", &Kind::ShortList("strings such as \"./dir:/target\"", short::volume, &Kind::Object(&VOLUME)))
            .merged(Merge::Unique(by_target))
            .example("volumes: [\"data:/var/lib\"]"),
        field("volumes_from", &STRINGS).refused("the volumes would be missing"),
        field("working_dir", &STR),
    ],
);
/// The table of a service's keys.
pub(in super::super) static SERVICE: &Table = &SERVICE_TABLE;
/// A service.
pub(super) static SERVICE_KIND: Kind = Kind::Object(&SERVICE_TABLE);
